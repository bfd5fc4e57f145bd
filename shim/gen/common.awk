# SPDX-License-Identifier: Apache-2.0
# Whether a function is among those that a process calls early: they look for the page.
function looks(name, class) {
    return class == "I" || name ~ /^cuModuleLoadData/
}
# Numbers of arguments, a digit each, as bits.
function bits(digits,    i, found) {
    for (i = 1; i <= 6; i++) if (index(digits, i)) found += 2 ^ (i - 1)
    return found + 0
}
