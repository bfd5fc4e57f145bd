/* SPDX-License-Identifier: Apache-2.0
 *
 * faultline shim: makes the CUDA driver calls of one process fail as if its GPU had a fault.
 *
 * The library is preloaded. It exports every name of libcuda.so.1 and libnvidia-ml.so.1 and
 * `dlsym`, and passes each call on until the control page, a file that the node's agent writes,
 * holds an armed entry for the calling process's GPU. It exports one object, `faultline_state`,
 * which says what happened; see data/page_layout.def for both layouts.
 *
 * Environment: FAULTLINE_CONTROL  path of the control page; without it nothing is ever mapped
 *              FAULTLINE=off      pass everything on, and leave dlsym alone
 */
#ifndef FAULTLINE_H
#define FAULTLINE_H

#include <stddef.h>
#include <stdint.h>

#define FL_HIDDEN __attribute__((visibility("hidden")))
#define FL_PUBLIC __attribute__((visibility("default")))

/* Constants of the layout as an enumeration, so that one include gives all of them. */
#define FL_CONST(name, value) static const uint64_t FL_##name __attribute__((unused)) = (value);
#define FL_FIELD(structure, name, offset, size)                                                    \
    enum { FL_AT_##structure##_##name = (offset), FL_SIZE_##structure##_##name = (size) };
#include "page_layout.def"
#undef FL_CONST
#undef FL_FIELD

/* Class letters of data/cuda_symbols.txt, usable in initialisers. */
enum { FL_LETTER_P, FL_LETTER_S, FL_LETTER_Q, FL_LETTER_I, FL_LETTER_T, FL_LETTER_N };

/* A field of a structure at `base`, as a value of `type`. */
#define FL_GET(type, base, structure, name)                                                        \
    (*(type *)((unsigned char *)(base) + FL_AT_##structure##_##name))

#define FL_UUID_BYTES 16

/* Saved argument registers of a call in the slow path, in the order of the x86-64 ABI. */
struct fl_call {
    uint64_t argument[6]; /* rdi rsi rdx rcx r8 r9 */
    uint64_t rax, r10;
};

/* What the slow path does with a call. */
enum fl_action { FL_PASS = 0, FL_FAIL = 1, FL_CALL_THEN_FAIL = 2 };

/* Decision in one register: action in the upper, code in the lower half. */
#define FL_DECISION(action, code) (((uint64_t)(action) << 32) | (uint32_t)(code))

/* resolve.c */
extern FL_HIDDEN void *fl_slots[];       /* where each slot's calls really go */
extern FL_HIDDEN void *fl_trampolines[]; /* what is handed out for each slot */
FL_HIDDEN const char *fl_name(uint32_t slot);
FL_HIDDEN int fl_class(uint32_t slot);
FL_HIDDEN int fl_out_pointer(uint32_t slot);
FL_HIDDEN void *fl_real(const char *name);
FL_HIDDEN void *fl_wrap(void *address, const char *name);

/* page.c */
extern FL_HIDDEN const uint32_t *fl_control; /* the word that the fast path reads */
extern FL_HIDDEN uint32_t fl_mapped;
FL_HIDDEN int fl_off(void);
FL_HIDDEN void fl_map_page(void);
FL_HIDDEN void fl_stay_slow(void);
struct fl_fault {
    uint32_t xid, class_mask, code_live, code_new, code_nvml;
    unsigned char uuid[FL_UUID_BYTES];
    char fault_id[64];
};
FL_HIDDEN int fl_find(const unsigned char *uuid, int class, struct fl_fault *found);

/* text.c */
FL_HIDDEN void *memcpy(void *to, const void *from, size_t size);
FL_HIDDEN void *memset(void *to, int value, size_t size);
FL_HIDDEN int memcmp(const void *a, const void *b, size_t size);
FL_HIDDEN int fl_begins(const char *text, const char *with);
FL_HIDDEN int fl_same(const char *a, const char *b);
FL_HIDDEN void fl_copy(char *to, const char *from, size_t size);

#endif
