/* SPDX-License-Identifier: Apache-2.0
 *
 * faultline shim: makes the CUDA driver calls of one process fail as if its GPU had a fault.
 *
 * The library is preloaded. It exports every name of libcuda.so.1 and libnvidia-ml.so.1 and
 * `dlsym`, and passes each call on until the control page, a file that the node's agent writes,
 * holds an armed entry for the calling process's GPU. It exports one object, `faultline_state`,
 * which says what happened; see data/page_layout.def for both layouts. A second object,
 * `faultline_calls`, counts calls by slot when FAULTLINE_COUNT=1.
 *
 * Environment: FAULTLINE_CONTROL  path of the control page; without it nothing is ever mapped
 *              FAULTLINE=off      pass everything on, and leave dlsym alone
 *              FAULTLINE_COUNT=1  count every call; each takes the slow path then
 */
#ifndef FAULTLINE_H
#define FAULTLINE_H

#include <stddef.h>
#include <stdint.h>

#define FL_HIDDEN __attribute__((visibility("hidden")))
#define FL_PUBLIC __attribute__((visibility("default")))

/* Everything of the layout as enumerators, so that one include gives all of it. */
#define FL_CONST(name, value) enum { FL_##name = (value) };
#define FL_FIELD(structure, name, offset, size)                                                    \
    enum { FL_AT_##structure##_##name = (offset), FL_SIZE_##structure##_##name = (size) };
#include "page_layout.def"
#undef FL_CONST
#undef FL_FIELD

/* A field of a structure at `base`, as a value of `type`. */
#define FL_GET(type, base, structure, name)                                                        \
    (*(type *)((unsigned char *)(base) + FL_AT_##structure##_##name))

/* Text field of a structure, with its size. */
#define FL_TEXT(base, structure, name)                                                             \
    (char *)(base) + FL_AT_##structure##_##name, FL_SIZE_##structure##_##name

#define FL_LOAD(word) __atomic_load_n(&(word), __ATOMIC_ACQUIRE)
#define FL_STORE(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELEASE)
#define FL_ADD(word, value) __atomic_add_fetch(&(word), (value), __ATOMIC_RELAXED)

#define FL_UUID_BYTES 16
#define FL_CALLS 2048 /* room in faultline_calls, above names + pool */

/* A call in the slow path, written by the assembly of src/arch. */
struct fl_call {
    uint64_t argument[8]; /* x86-64: rdi rsi rdx rcx r8 r9 rax r10; aarch64: x0 to x7 */
    uint64_t other;       /* aarch64: x8 */
    uint64_t slot, decision, target;
    uint64_t since; /* CLOCK_BOOTTIME of the decision, for waits that go on */
    uint64_t generation;
};

/* What the slow path does with a call: pass it on, fail it, call the real function and then fail,
 * or call it and ask again with its result. After both of the last two fl_woken is asked. */
enum fl_action { FL_PASS = 0, FL_FAIL = 1, FL_CALL_THEN_FAIL = 2, FL_CALL_THEN_ASK = 3 };

/* Decision in one register: action in the upper, code in the lower half. */
#define FL_DECISION(action, code) (((uint64_t)(action) << 32) | (uint32_t)(code))

/* The GPU a call is about; of a MIG instance, the instance and the GPU that it is part of. */
struct fl_gpu {
    unsigned char uuid[FL_UUID_BYTES], parent[FL_UUID_BYTES];
};

/* Contexts of a process on one device. */
enum { FL_PRIMARY_CONTEXT = 1, FL_CURRENT_CONTEXT = 2 };

/* A consistent copy of an entry of the page, and its place. */
struct fl_entry {
    uint64_t words[FL_ENTRY_SIZE / 8];
    uint32_t index;
};
#define FL_OF(type, entry_, name) FL_GET(const type, (entry_)->words, entry, name)

/* Which entries a question is about. */
struct fl_question {
    const struct fl_gpu *gpu; /* 0 = every entry */
    int class;
    int early; /* only faults that show in cuInit, or when NVML is asked for a handle */
    const struct fl_call *in; /* only faults that came into force since this call began */
    int looks;                /* a look at a context: only faults that leave it poisoned at once */
    char *only_tell;          /* a failure is not noted: the fault's id goes here */
};

/* names.c: the list of functions */
FL_HIDDEN int fl_is_ours(const char *name);
FL_HIDDEN int fl_slot_of(const char *name);
FL_HIDDEN const char *fl_listed(uint32_t slot);
FL_HIDDEN const char *fl_name(uint32_t slot);
FL_HIDDEN int fl_class(uint32_t slot);
FL_HIDDEN uint32_t fl_zeroed(uint32_t slot);
FL_HIDDEN int fl_looks_for_page(uint32_t slot);
FL_HIDDEN int64_t fl_pool_slot(const char *name);
FL_HIDDEN uint32_t fl_names(void);

/* symbols.c: the real functions */
typedef void *fl_dlsym_function(void *handle, const char *name);
extern FL_HIDDEN fl_dlsym_function *fl_real_dlsym;
FL_HIDDEN fl_dlsym_function *fl_find_dlsym(void);
FL_HIDDEN void *fl_handle(int nvml);
FL_HIDDEN void *fl_real(const char *name);
FL_HIDDEN void *fl_next(const char *name);
FL_HIDDEN int fl_in_driver(const void *address);
FL_HIDDEN void fl_forget_error(void);
/* The real function `name` as a pointer of `type`, found once. */
#define FL_REAL(type, name)                                                                        \
    ({                                                                                             \
        static type *found_;                                                                       \
        type *real_ = __atomic_load_n(&found_, __ATOMIC_RELAXED);                                  \
        if (!real_) {                                                                              \
            real_ = (type *)fl_real(name);                                                         \
            __atomic_store_n(&found_, real_, __ATOMIC_RELAXED);                                    \
        }                                                                                          \
        real_;                                                                                     \
    })

/* resolve.c: which trampoline stands for which function */
extern FL_HIDDEN void *fl_slots[];       /* where each slot's calls really go */
extern FL_HIDDEN void *fl_trampolines[]; /* what is handed out for each slot */
extern FL_HIDDEN unsigned char fl_text_begin[], fl_text_end[];
FL_HIDDEN int fl_is_trampoline(const void *address);
FL_HIDDEN void *fl_wrap(void *address, const char *name);
FL_HIDDEN void *fl_target(uint32_t slot);

/* lookup.c: the ways in which a process asks for functions */
FL_HIDDEN void *fl_dlsym(void *handle, const char *name, void *caller);
FL_HIDDEN uint32_t fl_get_proc_address(const char *name, void **function, int version,
                                       uint64_t flags);
FL_HIDDEN uint32_t fl_get_proc_address_v2(const char *name, void **function, int version,
                                          uint64_t flags, void *status);

/* page.c: the control page */
extern FL_HIDDEN const uint32_t *fl_control; /* the word that the fast path reads */
extern FL_HIDDEN uint32_t fl_mapped;
FL_HIDDEN void fl_map_page(void);
FL_HIDDEN void fl_stay_slow(void);
FL_HIDDEN int fl_armed(void);
FL_HIDDEN uint32_t fl_generation(void);
FL_HIDDEN int fl_genuine_allowed(void);
FL_HIDDEN int fl_find(const struct fl_question *question, uint32_t from, struct fl_entry *found);
FL_HIDDEN int fl_still_armed(const struct fl_entry *entry);
FL_HIDDEN void fl_block(const struct fl_entry *entry, uint64_t until);

/* process.c: what this process is */
FL_HIDDEN const char *fl_setting(const char *name);
FL_HIDDEN int fl_off(void);
FL_HIDDEN int fl_find_pod(const char *text, size_t size, unsigned char *uid);
FL_HIDDEN int fl_is_me(const struct fl_entry *entry);

/* gpu.c: which GPU a call is about */
FL_HIDDEN int fl_parse_uuid(const char *text, unsigned char *uuid);
FL_HIDDEN int fl_gpu_of_device(int device, struct fl_gpu *gpu);
FL_HIDDEN int fl_gpu_of_nvml(void *handle, struct fl_gpu *gpu);
FL_HIDDEN int fl_gpu_of_call(uint32_t slot, const struct fl_call *call, struct fl_gpu *gpu);
FL_HIDDEN uint32_t fl_has_contexts(uint32_t slot, const struct fl_call *call);

/* fault.c: what a fault does to a call */
FL_HIDDEN int fl_is_poisoned(void);
FL_HIDDEN uint32_t fl_latched(const struct fl_gpu *gpu);
FL_HIDDEN uint32_t fl_judge(uint32_t slot, const struct fl_question *question);

/* genuine.c */
FL_HIDDEN void fl_run_faulting_kernel(uint32_t xid, uint32_t serial);

/* evidence.c */
extern FL_PUBLIC unsigned char faultline_state[FL_STATE_SIZE];
extern FL_PUBLIC uint64_t faultline_calls[FL_CALLS];
#define FL_STATE(type, name) FL_GET(type, faultline_state, state, name)
FL_HIDDEN void fl_sign(void);
FL_HIDDEN void fl_note_call(uint32_t slot);
FL_HIDDEN void fl_note_hit(uint32_t slot, int class, const char *fault_id);
FL_HIDDEN void fl_note_missed(const char *name);

/* decide.c */
FL_HIDDEN uint64_t fl_decide(uint32_t slot, struct fl_call *call);
FL_HIDDEN uint32_t fl_woken(uint32_t slot, uint32_t result, const struct fl_call *call);

/* text.c */
#ifndef FL_HOSTED /* with a C library these are the library's */
FL_HIDDEN void *memcpy(void *to, const void *from, size_t size);
FL_HIDDEN void *memset(void *to, int value, size_t size);
FL_HIDDEN int memcmp(const void *a, const void *b, size_t size);
#else
#include <string.h>
#endif
FL_HIDDEN int fl_begins(const char *text, const char *with);
FL_HIDDEN int fl_same(const char *a, const char *b);
FL_HIDDEN void fl_copy(char *to, size_t size, const char *from);
FL_HIDDEN int fl_hex(char digit);

#endif
