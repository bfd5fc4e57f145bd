# SPDX-License-Identifier: Apache-2.0
# Trampolines for x86-64. r11 belongs to whoever is between caller and callee.
function open(label) {
    printf "  .p2align 4\n%s:\n  endbr64\n", label
}
function go(target) {
    printf "  jmp %s\n", target
}
function resolver(slot) {
    aside()
    printf ".Lr%d: endbr64\n  movl $%d, %%r11d\n  jmp fl_resolve\n", slot, slot
    back()
}
function slow(at, slot, entry) {
    printf "%s: movl $%d, %%r11d\n  jmp %s\n", at, slot, entry
}
# The fast path: load, compare, a jump that is never taken, an indirect jump.
function plain(slot) {
    printf "  movq fl_control(%%rip), %%r11\n  cmpl $0, (%%r11)\n  jne .Ls%d\n", slot
    printf "  jmp *fl_slots+%d(%%rip)\n", 8 * slot
    aside()
    slow(".Ls" slot, slot, "fl_slow")
    back()
}
function looking(slot) {
    printf "  cmpl $0, fl_mapped(%%rip)\n  je .Ls%d\n", slot
    plain(slot)
}
function waiting(slot) {
    printf "  .cfi_startproc\n"
    printf "  movq fl_control(%%rip), %%r11\n  cmpl $0, (%%r11)\n  jne .Ls%d\n", slot
    printf "  subq $8, %%rsp\n  .cfi_def_cfa_offset 16\n"
    printf "  call *fl_slots+%d(%%rip)\n  addq $8, %%rsp\n  .cfi_def_cfa_offset 8\n", 8 * slot
    printf "  movq fl_control(%%rip), %%r11\n  cmpl $0, (%%r11)\n  jne .La%d\n  ret\n", slot
    print "  .cfi_endproc"
    aside()
    slow(".La" slot, slot, "fl_after")
    slow(".Ls" slot, slot, "fl_slow")
    back()
}
function notes() {
    print "  .section .note.GNU-stack, \"\", @progbits"
    print "  .section .note.gnu.property, \"a\", @note\n  .p2align 3"
    print "  .long 4, 16, 5\n  .asciz \"GNU\"\n  .long 0xc0000002, 4, 3, 0"
}
