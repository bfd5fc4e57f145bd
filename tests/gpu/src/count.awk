# SPDX-License-Identifier: Apache-2.0
# Makes the shim's generated trampolines count: the first instruction of each adds one to a counter
# of its own. Counters are `fl_counts`, 64 bits each; their names go to the file `names`, one a line.
# A trampoline is a label followed by `endbr64` (x86-64).
/^[A-Za-z_][A-Za-z0-9_]*:$/ { label = substr($0, 1, length($0) - 1); print; next }
label != "" && $1 == "endbr64" {
    print
    printf "  lock incq fl_counts+%d(%%rip)\n", 8 * n++
    print label > names
    label = ""
    next
}
{ label = ""; print }
END {
    printf "  .bss\n  .p2align 6\n  .globl fl_counts\n  .type fl_counts, @object\nfl_counts: .zero %d\n", 8 * n
    printf "  .size fl_counts, %d\n", 8 * n
}
