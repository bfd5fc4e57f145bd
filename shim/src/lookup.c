/* SPDX-License-Identifier: Apache-2.0
 * The ways in which a process asks for functions: dlsym and cuGetProcAddress. */
#include "faultline.h"

#define DEFAULT ((void *)0)
#define NEXT ((void *)-1l)
#define ANSWER_NULL ((void *)-1l)

/* Whether there is more of a function than our trampoline: "is CUDA loaded?" must stay a question,
 * whether a caller asks everybody or the program itself. The last to be asked is who says in
 * dlerror() that there is none. */
static int is_there(const char *name)
{
    return fl_real(name) || fl_next(name);
}

/* The part of dlsym that is ours: what to answer, 0 to pass the call on, -1 to answer NULL.
 * Called by the assembly with the caller's own arguments and return address. The driver's own
 * questions are passed on: it looks for its functions, not for their trampolines. */
void *fl_dlsym(void *handle, const char *name, void *caller)
{
    if (!fl_find_dlsym() || !name || !fl_is_ours(name) || handle == NEXT || fl_off())
        return 0;
    if (fl_in_driver(caller))
        return 0;
    int slot = fl_slot_of(name);
    if (handle == DEFAULT && slot < 0)
        return 0;
    void *found = handle == DEFAULT ? fl_trampolines[slot] : fl_real_dlsym(handle, name);
    if (!found)
        return 0; /* asked again by the tail call, so that dlerror() is the caller's */
    if (fl_is_trampoline(found) && !is_there(name))
        return ANSWER_NULL;
    found = fl_wrap(found, name);
    fl_forget_error();
    return found;
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
