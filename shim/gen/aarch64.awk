# SPDX-License-Identifier: Apache-2.0
# Trampolines for aarch64. x16 and x17 belong to whoever is between caller and callee.
function open(label) {
    printf "  .p2align 4\n%s:\n  hint #34\n", label
}
function go(target) {
    printf "  b %s\n", target
}
function resolver(slot) {
    aside()
    printf ".Lr%d: hint #34\n  mov w17, #%d\n  b fl_resolve\n", slot, slot
    back()
}
function check(unless) {
    printf "  adrp x16, fl_control\n  ldr x16, [x16, #:lo12:fl_control]\n"
    printf "  ldr w17, [x16]\n  cbnz w17, %s\n", unless
}
function target(slot) {
    printf "  adrp x16, fl_slots+%d\n  ldr x16, [x16, #:lo12:fl_slots+%d]\n", 8 * slot, 8 * slot
}
function slow(at, slot, entry) {
    printf "%s: mov w17, #%d\n  b %s\n", at, slot, entry
}
# The fast path: load, compare, a jump that is never taken, an indirect jump.
function plain(slot) {
    check(".Ls" slot)
    target(slot)
    print "  br x16"
    aside()
    slow(".Ls" slot, slot, "fl_slow")
    back()
}
function looking(slot) {
    printf "  adrp x16, fl_mapped\n  ldr w17, [x16, #:lo12:fl_mapped]\n  cbz w17, .Ls%d\n", slot
    plain(slot)
}
function waiting(slot) {
    printf "  .cfi_startproc\n"
    check(".Ls" slot)
    printf "  stp x29, x30, [sp, #-16]!\n  .cfi_def_cfa_offset 16\n"
    printf "  .cfi_offset x29, -16\n  .cfi_offset x30, -8\n  mov x29, sp\n"
    target(slot)
    printf "  blr x16\n  ldp x29, x30, [sp], #16\n  .cfi_def_cfa_offset 0\n"
    printf "  .cfi_restore x29\n  .cfi_restore x30\n"
    check(".La" slot)
    print "  ret\n  .cfi_endproc"
    aside()
    slow(".La" slot, slot, "fl_after")
    slow(".Ls" slot, slot, "fl_slow")
    back()
}
function notes() {
    print "  .section .note.GNU-stack, \"\", %progbits"
    print "  .section .note.gnu.property, \"a\", %note\n  .p2align 3"
    print "  .long 4, 16, 5\n  .asciz \"GNU\"\n  .long 0xc0000000, 4, 1, 0"
}
