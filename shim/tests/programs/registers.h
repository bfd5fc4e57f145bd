/* SPDX-License-Identifier: Apache-2.0
 * All that a call may be made of, as caller and callee put it down. Offsets are the assembly's. */
#ifndef REGISTERS_H
#define REGISTERS_H

#include <stdint.h>

#define GENERAL 9
#define STACKED 10
#define VECTORS 8
#define WIDEST 64

struct registers {
    uint64_t general[GENERAL]; /* x86-64: rdi rsi rdx rcx r8 r9 rax r10, -; aarch64: x0 to x8 */
    uint64_t stack[STACKED];   /* at 72 */
    uint64_t sp;               /* at 152: the stack pointer as the callee finds it */
    unsigned char vector[VECTORS][WIDEST]; /* at 160; x86-64: ymm0 to 7 or zmm0 to 7; aarch64: q0 to 7 */
};

/* Bytes of a vector register that are looked at: 16, 32 or 64. */
extern int vector_width;

#endif
