/* SPDX-License-Identifier: Apache-2.0
 * The ways into the C code. All C is built without vector registers, so saving the integer
 * argument registers (and rax, r10, which a caller may use) keeps any call intact: stack
 * arguments, structures by value and floating point arguments are never touched. */
        .text

        .macro SAVE
        endbr64
        pushq %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq %rsp, %rbp
        .cfi_def_cfa_register %rbp
        andq $-16, %rsp
        subq $80, %rsp
        movq %rdi, 0(%rsp)
        movq %rsi, 8(%rsp)
        movq %rdx, 16(%rsp)
        movq %rcx, 24(%rsp)
        movq %r8, 32(%rsp)
        movq %r9, 40(%rsp)
        movq %rax, 48(%rsp)
        movq %r10, 56(%rsp)
        movq %r11, 64(%rsp)
        .endm

        .macro RESTORE
        movq 0(%rsp), %rdi
        movq 8(%rsp), %rsi
        movq 16(%rsp), %rdx
        movq 24(%rsp), %rcx
        movq 32(%rsp), %r8
        movq 40(%rsp), %r9
        movq 48(%rsp), %rax
        movq 56(%rsp), %r10
        .endm

        .macro FUNCTION name
        .globl \name
        .hidden \name
        .type \name, @function
        .p2align 4
\name:
        .cfi_startproc
        .endm

        .macro END name
        .cfi_endproc
        .size \name, .-\name
        .endm

/* Something is armed: ask, then pass on, fail, or call and then fail. Slot in r11d. */
FUNCTION fl_slow
        SAVE
        movl %r11d, %edi
        movq %rsp, %rsi
        call fl_decide
        movq %rax, 72(%rsp)
        shrq $32, %rax
        jz .Lpass
        cmpl $2, %eax
        je .Lthen
        movl 72(%rsp), %eax
        leave
        .cfi_remember_state
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_restore_state
.Lthen:                         /* register arguments only: teardown functions have at most three */
        movl 64(%rsp), %edi
        call fl_target
        movq %rax, %r11
        RESTORE
        call *%r11
        movl 72(%rsp), %eax
        leave
        .cfi_remember_state
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_restore_state
.Lpass:
        movl 64(%rsp), %edi
        call fl_target
        movq %rax, %r11
        RESTORE
        leave
        .cfi_def_cfa %rsp, 8
        jmp *%r11
END fl_slow

/* First call of a directly bound function: find it, then go there. Slot in r11d. */
FUNCTION fl_resolve
        SAVE
        call fl_sign
        movl 64(%rsp), %edi
        call fl_target
        movq %rax, %r11
        RESTORE
        leave
        .cfi_def_cfa %rsp, 8
        jmp *%r11
END fl_resolve

/* A wait has ended with the code in eax and something is armed. Slot in r11d. */
FUNCTION fl_after
        subq $8, %rsp
        .cfi_def_cfa_offset 16
        movl %r11d, %edi
        movl %eax, %esi
        call fl_woken
        addq $8, %rsp
        .cfi_def_cfa_offset 8
        ret
END fl_after

/* dlsym(handle, name): ours are answered here, all others are passed on by a jump, because
 * RTLD_NEXT counts from the return address. */
        .globl dlsym
        .type dlsym, @function
        .p2align 4
dlsym:
        .cfi_startproc
        endbr64
        pushq %rdi
        .cfi_def_cfa_offset 16
        pushq %rsi
        .cfi_def_cfa_offset 24
        subq $8, %rsp
        .cfi_def_cfa_offset 32
        call fl_sign
        movq 16(%rsp), %rdi
        movq 8(%rsp), %rsi
        movq 24(%rsp), %rdx
        call fl_dlsym
        addq $8, %rsp
        .cfi_def_cfa_offset 24
        popq %rsi
        .cfi_def_cfa_offset 16
        popq %rdi
        .cfi_def_cfa_offset 8
        cmpq $-1, %rax
        je .Lnull
        testq %rax, %rax
        jz .Lreal
        ret
.Lnull: xorl %eax, %eax
        ret
.Lreal: movq fl_real_dlsym(%rip), %rax
        testq %rax, %rax
        jz .Lnull
        jmp *%rax
        .cfi_endproc
        .size dlsym, .-dlsym

        .section .note.GNU-stack, "", @progbits
