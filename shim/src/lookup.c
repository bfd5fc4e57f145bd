/* SPDX-License-Identifier: Apache-2.0
 * The ways in which a process asks for functions: dlsym and cuGetProcAddress. */
#include "faultline.h"

#define DEFAULT ((void *)0)
#define NEXT ((void *)-1l)
#define ANSWER_NULL ((void *)-1l)

/* The part of dlsym that is ours: what to answer, 0 to pass the call on, -1 to answer NULL.
 * Called by the assembly with the caller's own arguments and return address. The driver's own
 * questions are passed on: it looks for its functions, not for their trampolines. */
void *fl_dlsym(void *handle, const char *name, void *caller)
{
    if (!fl_find_dlsym() || !name || !fl_is_ours(name) || handle == NEXT || fl_off())
        return 0;
    if (fl_in_driver(caller))
        return 0;
    if (handle == DEFAULT) { /* "is CUDA loaded?" must stay a question */
        int slot = fl_slot_of(name);
        if (slot < 0)
            return 0;
        return fl_next(name) || fl_real(name) ? fl_trampolines[slot] : ANSWER_NULL;
    }
    void *found = fl_real_dlsym(handle, name);
    if (!found)
        return 0; /* asked again by the tail call, so that dlerror() is the caller's */
    return fl_wrap(found, name);
}

typedef uint32_t get_v1(const char *, void **, int, uint64_t);
typedef uint32_t get_v2(const char *, void **, int, uint64_t, void *);

static void *resolver(const char *name)
{
    uint32_t slot = (uint32_t)fl_slot_of(name);
    fl_sign();
    fl_note_call(slot);
    return fl_target(slot);
}

static void hand_out(const char *name, void **function)
{
    if (function && *function)
        *function = fl_wrap(*function, name ? name : "");
}

/* cuGetProcAddress of CUDA 11.3 to 11.8: four arguments. */
uint32_t fl_get_proc_address(const char *name, void **function, int version, uint64_t flags)
{
    get_v1 *real = (get_v1 *)resolver("cuGetProcAddress");
    uint32_t code = real(name, function, version, flags);
    if (!code)
        hand_out(name, function);
    return code;
}

/* cuGetProcAddress_v2 of CUDA 12.0 and later: five arguments. */
uint32_t fl_get_proc_address_v2(const char *name, void **function, int version, uint64_t flags,
                                void *status)
{
    get_v2 *real = (get_v2 *)resolver("cuGetProcAddress_v2");
    uint32_t code = real(name, function, version, flags, status);
    if (!code)
        hand_out(name, function);
    return code;
}
