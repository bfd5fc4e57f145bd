/* SPDX-License-Identifier: Apache-2.0
 * Where the real functions are: the C library's dlsym, the driver's and NVML's functions. */
#define _GNU_SOURCE /* dl_phdr_info, Dl_info */
#include "faultline.h"

#include <dlfcn.h>
#include <link.h>

#define RTLD_LAZY_NOLOAD (1 | 4)
#define NEXT ((void *)-1l)

/* Weak: where the C library has none of these, the address is 0 and we do without. */
extern void *dlopen(const char *name, int flags) __attribute__((weak));
extern void *dlvsym(void *handle, const char *name, const char *version) __attribute__((weak));
extern char *dlerror(void) __attribute__((weak));
#pragma weak dl_iterate_phdr
#pragma weak dladdr

typedef void *dlopen_function(const char *name, int flags);
typedef char *dlerror_function(void);

FL_PUBLIC void *dlsym(void *handle, const char *name);

FL_HIDDEN fl_dlsym_function *fl_real_dlsym;

static uint32_t hash_of(const char *name)
{
    uint32_t h = 5381;
    while (*name)
        h = h * 33 + (unsigned char)*name++;
    return h;
}

struct tables {
    const ElfW(Sym) *symbols;
    const char *strings;
    const uint32_t *hash;
};

static struct tables tables_of(const struct dl_phdr_info *object)
{
    struct tables found = {0, 0, 0};
    const ElfW(Dyn) *dynamic = 0;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    for (; dynamic && dynamic->d_tag; dynamic++) {
        uintptr_t value = dynamic->d_un.d_ptr;
        /* glibc relocates these in place, musl and the vDSO do not. */
        const void *at = (const void *)(value < object->dlpi_addr ? value + object->dlpi_addr : value);
        if (dynamic->d_tag == DT_SYMTAB)
            found.symbols = at;
        else if (dynamic->d_tag == DT_STRTAB)
            found.strings = at;
        else if (dynamic->d_tag == DT_GNU_HASH)
            found.hash = at;
    }
    return found;
}

static int holds(const struct dl_phdr_info *object, const void *address)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr, at = (uintptr_t)address;
        if (part->p_type == PT_LOAD && at >= start && at < start + part->p_memsz)
            return 1;
    }
    return 0;
}

struct wanted {
    const char *name;
    int behind; /* whether this library has been passed */
    void *found;
};

/* Look for a defined symbol in one loaded object, from our own on, and pass over ours: another shim
 * before us looks for its next function in the same way, and would be led back to us. */
static int visit_object(struct dl_phdr_info *object, size_t size, void *data)
{
    (void)size;
    struct wanted *wanted = data;
    struct tables t = tables_of(object);
    wanted->behind |= holds(object, fl_text_begin);
    if (!wanted->behind || !t.symbols || !t.strings || !t.hash || !t.hash[0])
        return 0;
    const ElfW(Addr) *bloom = (const void *)(t.hash + 4);
    const uint32_t *buckets = (const void *)(bloom + t.hash[2]), *chains = buckets + t.hash[0];
    uint32_t hash = hash_of(wanted->name), at = buckets[hash % t.hash[0]];
    if (at < t.hash[1])
        return 0;
    for (;; at++) {
        uint32_t link = chains[at - t.hash[1]];
        if ((link | 1) == (hash | 1) && t.symbols[at].st_value &&
            fl_same(t.strings + t.symbols[at].st_name, wanted->name)) {
            void *found = (void *)(object->dlpi_addr + t.symbols[at].st_value);
            if (found != (void *)dlsym && !fl_is_trampoline(found)) {
                wanted->found = found;
                return 1;
            }
        }
        if (link & 1)
            return 0;
    }
}

/* The first function of that name that was loaded behind this library, or 0. It needs nothing of
 * libdl, which a process may lack where it is a library of its own (glibc before 2.34). */
static void *walk(const char *name)
{
    struct wanted wanted = {name, 0, 0};
    if (dl_iterate_phdr)
        dl_iterate_phdr(visit_object, &wanted);
    return wanted.found;
}

/* The C library's own dlsym, looked for until it is found. musl has no dlvsym. */
fl_dlsym_function *fl_find_dlsym(void)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    void *found = (void *)FL_LOAD(fl_real_dlsym);
    if (found)
        return (fl_dlsym_function *)found;
    for (int i = 0; !found && dlvsym && i < 3; i++)
        found = dlvsym(NEXT, "dlsym", versions[i]);
    if (!found)
        found = walk("dlsym");
    FL_STORE(fl_real_dlsym, (fl_dlsym_function *)found);
    return (fl_dlsym_function *)found;
}

/* The loaded driver or NVML library, or 0. It stays loaded from then on. */
void *fl_handle(int nvml)
{
    static void *handles[2];
    void *found = FL_LOAD(handles[nvml]);
    if (found)
        return found;
    /* A libdl that came after the start is not what our own reference is bound to. */
    dlopen_function *open = dlopen ? dlopen : (dlopen_function *)walk("dlopen");
    if (open) {
        found = open(nvml ? "libnvidia-ml.so.1" : "libcuda.so.1", RTLD_LAZY_NOLOAD);
        FL_STORE(handles[nvml], found);
    }
    return found;
}

/* Drop what our own questions left for dlerror(): a caller whom dlsym has answered would take it
 * for his. */
void fl_forget_error(void)
{
    static dlerror_function *known;
    dlerror_function *ask = dlerror ? dlerror : FL_LOAD(known);
    if (!ask) {
        ask = (dlerror_function *)walk("dlerror");
        FL_STORE(known, ask);
    }
    if (ask)
        ask();
}

/* Real function of that name in the loaded driver or NVML library, or 0. */
void *fl_real(const char *name)
{
    void *handle = fl_handle(name[0] == 'n'), *found = 0;
    if (!fl_find_dlsym())
        return walk(name);
    if (handle)
        found = fl_real_dlsym(handle, name);
    return fl_is_trampoline(found) ? 0 : found;
}

/* The function of that name behind this library in the order of symbol search, or 0. */
void *fl_next(const char *name)
{
    if (!fl_find_dlsym())
        return walk(name);
    void *found = fl_real_dlsym(NEXT, name);
    return fl_is_trampoline(found) ? 0 : found;
}

static int is_driver(const char *path)
{
    const char *base = path;
    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return fl_begins(base, "libcuda.so") || fl_begins(base, "libnvidia-ml.so");
}

static int visit_driver(struct dl_phdr_info *object, size_t size, void *address)
{
    (void)size;
    if (!holds(object, address))
        return 0;
    return is_driver(object->dlpi_name) ? 1 : -1;
}

/* Whether an address lies in the driver's own libraries.
 *
 * Asked of dladdr where there is one: the child of a fork may call it, but would wait for ever in
 * dl_iterate_phdr when another thread of its parent was in there (glibc makes the lock of the one
 * new in the child, and not that of the other; seen in 3 of 100 runs of a loaded machine). */
int fl_in_driver(const void *address)
{
    Dl_info place;
    if (dladdr)
        return dladdr(address, &place) && place.dli_fname && is_driver(place.dli_fname);
    return dl_iterate_phdr && dl_iterate_phdr(visit_driver, (void *)address) > 0;
}
