/* SPDX-License-Identifier: Apache-2.0
 * The ways into the C code. The fast path changes x16 and x17 alone, which belong to whoever is
 * between caller and callee. The slow path keeps all that a call may be made of: x0 to x8 and q0 to
 * q7; stack arguments and structures by value are never touched. The shim's C does without vector
 * registers, but the functions of the driver and of the C library that it asks do not. */
        .text

/* Offsets in struct fl_call; q0 to q7 behind it. */
        .set SLOT, 72
        .set DECISION, 80
        .set VECTORS, 112
        .set SIZE, 240

        .macro SAVE
        stp x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov x29, sp
        .cfi_def_cfa_register x29
        sub sp, sp, #SIZE
        stp x0, x1, [sp, #0]
        stp x2, x3, [sp, #16]
        stp x4, x5, [sp, #32]
        stp x6, x7, [sp, #48]
        stp x8, x17, [sp, #64]
        stp q0, q1, [sp, #VECTORS]
        stp q2, q3, [sp, #VECTORS + 32]
        stp q4, q5, [sp, #VECTORS + 64]
        stp q6, q7, [sp, #VECTORS + 96]
        .endm

        .macro RESTORE
        ldp x0, x1, [sp, #0]
        ldp x2, x3, [sp, #16]
        ldp x4, x5, [sp, #32]
        ldp x6, x7, [sp, #48]
        ldr x8, [sp, #64]
        ldp q0, q1, [sp, #VECTORS]
        ldp q2, q3, [sp, #VECTORS + 32]
        ldp q4, q5, [sp, #VECTORS + 64]
        ldp q6, q7, [sp, #VECTORS + 96]
        .endm

/* Arguments back in place, where the call really goes in x16. */
        .macro TARGET
        ldr w0, [sp, #SLOT]
        bl fl_target
        mov x16, x0
        RESTORE
        .endm

        .macro LEAVE
        mov sp, x29
        ldp x29, x30, [sp], #16
        .endm

        .macro RETURN
        LEAVE
        .cfi_remember_state
        .cfi_def_cfa sp, 0
        .cfi_restore x29
        .cfi_restore x30
        ret
        .cfi_restore_state
        .endm

        .macro FUNCTION name
        .globl \name
        .hidden \name
        .type \name, %function
        .p2align 4
\name:
        .cfi_startproc
        .endm

        .macro END name
        .cfi_endproc
        .size \name, .-\name
        .endm

/* Something is armed: ask, then do one of enum fl_action. Slot in w17. */
FUNCTION fl_slow
        SAVE
        mov w0, w17
        mov x1, sp
        bl fl_decide
        str x0, [sp, #DECISION]
        lsr x9, x0, #32
        cbz x9, .Lpass
        cmp x9, #2
        b.hs .Lask
        ldr w0, [sp, #DECISION]
        RETURN
.Lask:                          /* register arguments only */
        TARGET
        blr x16
        mov w1, w0
        ldr w0, [sp, #SLOT]
        mov x2, sp
        bl fl_woken
        RETURN
.Lpass:
        TARGET
        LEAVE
        .cfi_def_cfa sp, 0
        .cfi_restore x29
        .cfi_restore x30
        br x16
END fl_slow

/* First call of a directly bound function: find it, then go there. Slot in w17. */
FUNCTION fl_resolve
        SAVE
        bl fl_sign
        TARGET
        LEAVE
        .cfi_def_cfa sp, 0
        .cfi_restore x29
        .cfi_restore x30
        br x16
END fl_resolve

/* A wait that began before anything was armed has ended with the code in w0. Slot in w17. */
FUNCTION fl_after
        mov w1, w0
        mov w0, w17
        mov x2, #0
        b fl_woken
END fl_after

/* dlsym(handle, name): ours are answered here, all others are passed on by a jump, because
 * RTLD_NEXT counts from the return address. */
        .globl dlsym
        .type dlsym, %function
        .p2align 4
dlsym:
        .cfi_startproc
        hint #34
        stp x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_offset x29, -32
        .cfi_offset x30, -24
        mov x29, sp
        stp x0, x1, [sp, #16]
        bl fl_sign
        ldp x0, x1, [sp, #16]
        ldr x2, [sp, #8]
        bl fl_dlsym
        mov x9, x0
        ldp x0, x1, [sp, #16]
        ldp x29, x30, [sp], #32
        .cfi_def_cfa_offset 0
        .cfi_restore x29
        .cfi_restore x30
        cmn x9, #1
        b.eq .Lnull
        cbz x9, .Lreal
        mov x0, x9
        ret
.Lnull: mov x0, #0
        ret
.Lreal: adrp x16, fl_real_dlsym
        ldr x16, [x16, #:lo12:fl_real_dlsym]
        cbz x16, .Lnull
        br x16
        .cfi_endproc
        .size dlsym, .-dlsym

        .section .note.GNU-stack, "", %progbits
/* Works with branch target identification (GNU_PROPERTY_AARCH64_FEATURE_1_AND). */
        .section .note.gnu.property, "a", %note
        .p2align 3
        .long 4, 16, 5
        .asciz "GNU"
        .long 0xc0000000, 4, 1, 0
