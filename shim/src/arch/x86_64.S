/* SPDX-License-Identifier: Apache-2.0
 * The ways into the C code. The fast path changes no register but r11. The slow path keeps all that
 * a call may be made of: integer and vector arguments of every width, rax, r10; stack arguments and
 * structures by value are never touched. The shim's C does without vector registers, but the
 * functions of the driver and of the C library that it asks do not. */
        .text

/* Offsets in struct fl_call; xmm0 to xmm7, ymm0 to ymm7 or zmm0 to zmm7 behind it. */
        .set IN_USE, 64
        .set SLOT, 72
        .set DECISION, 80
        .set VECTORS, 112
        .set SIZE, 112 + 8 * 64

/* Bits of XCR0, and of fl_vectors: what the processor and the system have, 0 = not known yet. */
        .set YMM, 1 << 2
        .set ZMM, 1 << 6
        .set KNOWN, 1 << 30
        .set SAYS_IN_USE, 1 << 31

        .lcomm fl_vectors, 4

        .macro MOVE instruction, kind, to_memory
        .irp n, 0, 1, 2, 3, 4, 5, 6, 7
        .if \to_memory
        \instruction %\kind\n, 8 + VECTORS + 64 * \n(%rsp)
        .else
        \instruction 8 + VECTORS + 64 * \n(%rsp), %\kind\n
        .endif
        .endr
        .endm

        .macro SAVE
        pushq %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq %rsp, %rbp
        .cfi_def_cfa_register %rbp
        andq $-16, %rsp
        subq $SIZE, %rsp
        movq %rdi, 0(%rsp)
        movq %rsi, 8(%rsp)
        movq %rdx, 16(%rsp)
        movq %rcx, 24(%rsp)
        movq %r8, 32(%rsp)
        movq %r9, 40(%rsp)
        movq %rax, 48(%rsp)
        movq %r10, 56(%rsp)
        movq %r11, SLOT(%rsp)
        call save_vectors
        .endm

        .macro RESTORE
        call restore_vectors
        movq 0(%rsp), %rdi
        movq 8(%rsp), %rsi
        movq 16(%rsp), %rdx
        movq 24(%rsp), %rcx
        movq 32(%rsp), %r8
        movq 40(%rsp), %r9
        movq 48(%rsp), %rax
        movq 56(%rsp), %r10
        .endm

/* Arguments back in place, where the call really goes in r11. */
        .macro TARGET
        movl SLOT(%rsp), %edi
        call fl_target
        movq %rax, %r11
        RESTORE
        .endm

        .macro RETURN
        leave
        .cfi_remember_state
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        ret
        .cfi_restore_state
        .endm

        .macro FUNCTION name, is_local
        .ifb \is_local
        .globl \name
        .hidden \name
        .endif
        .type \name, @function
        .p2align 4
\name:
        .cfi_startproc
        .endm

        .macro END name
        .cfi_endproc
        .size \name, .-\name
        .endm

/* What there is of vector registers, in eax and fl_vectors. Changes rcx, rdx, r8 and r9 too. */
FUNCTION measure_vectors, local
        pushq %rbx
        .cfi_def_cfa_offset 16
        .cfi_offset %rbx, -16
        movl $KNOWN, %r8d
        movl $1, %eax
        cpuid
        btl $27, %ecx           /* OSXSAVE: the system keeps extended state */
        jnc .Lmeasured
        xorl %ecx, %ecx
        xgetbv
        andl $YMM | ZMM, %eax
        orl %eax, %r8d
        xorl %eax, %eax
        cpuid
        cmpl $13, %eax
        jb .Lmeasured
        movl $13, %eax
        movl $1, %ecx
        cpuid
        btl $2, %eax            /* xgetbv says what is in use */
        jnc .Lmeasured
        orl $SAYS_IN_USE, %r8d
.Lmeasured:
        movl %r8d, %eax
        movl %eax, fl_vectors(%rip)
        popq %rbx
        .cfi_def_cfa_offset 8
        .cfi_restore %rbx
        ret
END measure_vectors

/* Into the frame behind the return address. Wide registers that are not in use are all zero above
 * their lower half: to move them would put them in use, and make later SSE code slow. */
FUNCTION save_vectors, local
        movl fl_vectors(%rip), %eax
        testl %eax, %eax
        jnz .Lknown
        call measure_vectors
.Lknown:
        movl %eax, %r8d
        testl %eax, %eax        /* SAYS_IN_USE is the sign */
        jns .Lin_use
        movl $1, %ecx
        xgetbv
        andl %r8d, %eax
.Lin_use:
        movl %eax, 8 + IN_USE(%rsp)
        testl $ZMM, %eax
        jnz .Lsave_zmm
        testl $YMM, %eax
        jnz .Lsave_ymm
        MOVE movaps, xmm, 1
        ret
.Lsave_ymm:
        MOVE vmovups, ymm, 1
        ret
.Lsave_zmm:
        MOVE vmovups, zmm, 1
        ret
END save_vectors

/* And back. */
FUNCTION restore_vectors, local
        movl 8 + IN_USE(%rsp), %eax
        testl $ZMM, %eax
        jnz .Lrestore_zmm
        testl $YMM, %eax
        jnz .Lrestore_ymm
        testl $YMM, fl_vectors(%rip)
        jz .Lrestore_xmm
        vzeroupper
.Lrestore_xmm:
        MOVE movaps, xmm, 0
        ret
.Lrestore_ymm:
        MOVE vmovups, ymm, 0
        ret
.Lrestore_zmm:
        MOVE vmovups, zmm, 0
        ret
END restore_vectors

/* Something is armed: ask, then do one of enum fl_action. Slot in r11d. */
FUNCTION fl_slow
        SAVE
        movl %r11d, %edi
        movq %rsp, %rsi
        call fl_decide
        movq %rax, DECISION(%rsp)
        shrq $32, %rax
        jz .Lpass
        cmpl $2, %eax
        jae .Lask
        movl DECISION(%rsp), %eax
        RETURN
.Lask:                          /* register arguments only */
        TARGET
        call *%r11
        movl SLOT(%rsp), %edi
        movl %eax, %esi
        movq %rsp, %rdx
        call fl_woken
        RETURN
.Lpass:
        TARGET
        leave
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        jmp *%r11
END fl_slow

/* First call of a directly bound function: find it, then go there. Slot in r11d. */
FUNCTION fl_resolve
        SAVE
        call fl_sign
        TARGET
        leave
        .cfi_def_cfa %rsp, 8
        .cfi_restore %rbp
        jmp *%r11
END fl_resolve

/* A wait that began before anything was armed has ended with the code in eax. Slot in r11d. */
FUNCTION fl_after
        subq $8, %rsp
        .cfi_def_cfa_offset 16
        movl %r11d, %edi
        movl %eax, %esi
        xorl %edx, %edx
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
/* Works with indirect branch tracking and shadow stacks (GNU_PROPERTY_X86_FEATURE_1_AND). */
        .section .note.gnu.property, "a", @note
        .p2align 3
        .long 4, 16, 5
        .asciz "GNU"
        .long 0xc0000002, 4, 3, 0
