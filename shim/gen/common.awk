# SPDX-License-Identifier: Apache-2.0
# Whether a function is among those that a process calls early: they look for the page.
function looks(name, class) {
    return class == "I" || name ~ /^cuModuleLoadData/
}
