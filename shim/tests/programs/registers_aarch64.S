/* SPDX-License-Identifier: Apache-2.0
 * Caller and callee of registers.c. */
        .text
#ifdef CALLER
/* int call_with(function, const struct registers *): call the function with these; -1 when it
 * changed a register that it has to keep, else what it returns. */
        .globl call_with
call_with:
        stp x29, x30, [sp, #-96]!
        stp x19, x20, [sp, #16]
        stp x21, x22, [sp, #32]
        stp x23, x24, [sp, #48]
        stp x25, x26, [sp, #64]
        stp x27, x28, [sp, #80]
        mov x29, sp
        sub sp, sp, #80
        mov x16, x0
        mov x19, x1
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
        ldr x17, [x19, #72 + 8 * \n]
        str x17, [sp, #8 * \n]
        .endr
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        ldr q\n, [x19, #160 + 64 * \n]
        .endr
        .irp n, 20, 21, 22, 23, 24, 25, 26, 27, 28
        add x\n, x19, #\n
        .endr
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8
        ldr x\n, [x19, #8 * \n]
        .endr
        blr x16
        .irp n, 20, 21, 22, 23, 24, 25, 26, 27, 28
        add x17, x19, #\n
        cmp x17, x\n
        b.ne .Lchanged
        .endr
.Lback: mov sp, x29
        ldp x19, x20, [sp, #16]
        ldp x21, x22, [sp, #32]
        ldp x23, x24, [sp, #48]
        ldp x25, x26, [sp, #64]
        ldp x27, x28, [sp, #80]
        ldp x29, x30, [sp], #96
        ret
.Lchanged:
        mov w0, #-1
        b .Lback
#else
/* Put down what there is, then leave nothing of it. */
        .globl record
        .hidden record
record: adrp x16, seen
        add x16, x16, #:lo12:seen
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8
        str x\n, [x16, #8 * \n]
        .endr
        mov x17, sp
        str x17, [x16, #152]
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
        ldr x17, [sp, #8 * \n]
        str x17, [x16, #72 + 8 * \n]
        .endr
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        str q\n, [x16, #160 + 64 * \n]
        .endr
        mov x0, #0
        .globl trash
        .hidden trash
trash:  .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        movi v\n\().16b, #0xf9
        .endr
        .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17
        mov x\n, #-7
        .endr
        ret

        .macro DRIVER name
        .globl \name
        .type \name, %function
\name:  b record
        .size \name, .-\name
        .endm
#endif
        .section .note.GNU-stack, "", %progbits
        .text
#ifndef CALLER
#include "registers_names.inc"
#endif
