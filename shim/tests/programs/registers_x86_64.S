/* SPDX-License-Identifier: Apache-2.0
 * Caller and callee of registers.c. */
        .macro MOVE instruction, kind, base, from
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        .if \from
        \instruction 160 + 64 * \n(\base), %\kind\n
        .else
        \instruction %\kind\n, 160 + 64 * \n(\base)
        .endif
        .endr
        .endm

/* All vector registers, as wide as is looked at, from or to where \base points. */
        .macro VECTORS_AT base, from
        cmpl $32, vector_width(%rip)
        je 32f
        ja 64f
        MOVE movups, xmm, \base, \from
        jmp 1f
32:     MOVE vmovups, ymm, \base, \from
        jmp 1f
64:     MOVE vmovups, zmm, \base, \from
1:
        .endm

        .text
#ifdef CALLER
/* int call_with(function, const struct registers *): call the function with these; -1 when it
 * changed a register that it has to keep, else what it returns. */
        .globl call_with
call_with:
        pushq %rbx
        pushq %rbp
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        pushq %rsi
        subq $80, %rsp
        movq %rdi, %r11
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
        movq 72 + 8 * \n(%rsi), %rax
        movq %rax, 8 * \n(%rsp)
        .endr
        VECTORS_AT %rsi, 1
        leaq 1(%rsi), %rbx
        leaq 2(%rsi), %rbp
        leaq 3(%rsi), %r12
        leaq 4(%rsi), %r13
        leaq 5(%rsi), %r14
        leaq 6(%rsi), %r15
        movq 0(%rsi), %rdi
        movq 16(%rsi), %rdx
        movq 24(%rsi), %rcx
        movq 32(%rsi), %r8
        movq 40(%rsi), %r9
        movq 48(%rsi), %rax
        movq 56(%rsi), %r10
        movq 8(%rsi), %rsi
        call *%r11
        addq $80, %rsp
        popq %rsi
        .set k, 1
        .irp register, rbx, rbp, r12, r13, r14, r15
        leaq k(%rsi), %rcx
        cmpq %rcx, %\register
        jne .Lchanged
        .set k, k + 1
        .endr
.Lback: popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbp
        popq %rbx
        ret
.Lchanged:
        movl $-1, %eax
        jmp .Lback
#else
/* Put down what there is, then leave nothing of it. */
        .globl record
        .hidden record
record: leaq seen(%rip), %r11
        movq %rdi, 0(%r11)
        movq %rsi, 8(%r11)
        movq %rdx, 16(%r11)
        movq %rcx, 24(%r11)
        movq %r8, 32(%r11)
        movq %r9, 40(%r11)
        movq %rax, 48(%r11)
        movq %r10, 56(%r11)
        movq %rsp, 152(%r11)
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
        movq 8 + 8 * \n(%rsp), %rax
        movq %rax, 72 + 8 * \n(%r11)
        .endr
        VECTORS_AT %r11, 0
        xorl %eax, %eax
        .globl trash
        .hidden trash
trash:  leaq rubbish(%rip), %r11
        VECTORS_AT %r11, 1
        .irp register, rdi, rsi, rdx, rcx, r8, r9, r10, r11
        movq $-7, %\register
        .endr
        ret

        .macro DRIVER name
        .globl \name
        .type \name, @function
\name:  jmp record
        .size \name, .-\name
        .endm
#endif
        .section .note.GNU-stack, "", @progbits
        .text
#ifndef CALLER
#include "registers_names.inc"
#endif
