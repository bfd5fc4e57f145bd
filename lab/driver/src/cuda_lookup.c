/* SPDX-License-Identifier: Apache-2.0
 * Stand-in for libcuda.so.1: how callers find functions. */
#define _GNU_SOURCE
#include "cuda_types.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define PER_THREAD_STREAM 2
#define FOUND 0
#define NOT_FOUND 1

/* NVIDIA does not say what is in these tables, so there is none. A libcudart that misses them has
 * asked for all its functions by then, and ends its start with CUDA_ERROR_NOT_FOUND. */
CUresult cuGetExportTable(const void **table, const void *uuid)
{
    (void)uuid;
    *table = NULL;
    return CUDA_ERROR_NOT_FOUND;
}

/* Where the functions are that only say "not supported". */
extern char __start_rest_text[], __stop_rest_text[];

static int is_rest(const void *function)
{
    return (const char *)function >= __start_rest_text && (const char *)function < __stop_rest_text;
}

/* What a suffix makes of a name: the first function that does something, else the last that is
 * there at all. */
static void *best(void *self, const char *name, const char *const *suffixes)
{
    char full[128];
    void *last = NULL;
    for (; *suffixes; suffixes++) {
        snprintf(full, sizeof(full), "%s%s", name, *suffixes);
        void *found = dlsym(self, full);
        if (found && !is_rest(found))
            return found;
        last = found ? found : last;
    }
    return last;
}

/* The function that a base name means at a CUDA version: the second variant where it is supported,
 * the four-argument cuGetProcAddress below 12000, and the twin for per-thread default streams where
 * that is asked for and the stand-in does nothing in either. */
static void *find(const char *name, int version, uint64_t flags)
{
    static const char *const first[] = {"", NULL}, *const second[] = {"_v2", "", NULL};
    static const char *const twins[] = {"_ptsz", "_ptds", "_v2_ptsz", "_v2_ptds", NULL};
    void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD), *twin = NULL;
    if (!self || !*name)
        return NULL;
    int old = !strcmp(name, "cuGetProcAddress") && version < 12000;
    void *found = best(self, name, old ? first : second);
    if (flags & PER_THREAD_STREAM && (!found || is_rest(found)))
        twin = best(self, name, twins);
    dlclose(self);
    return twin ? twin : found;
}

CUresult cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    *function = find(name, version, flags);
    return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* `status`: whether there is such a name. */
CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                             void *status)
{
    *function = find(name, version, flags);
    if (status)
        *(int *)status = *function ? FOUND : NOT_FOUND;
    return *function || status ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
