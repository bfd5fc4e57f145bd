/* SPDX-License-Identifier: Apache-2.0
 * Where the real functions are, and which trampoline stands for which of them. */
#define _GNU_SOURCE /* dl_phdr_info */
#include "faultline.h"

#include <link.h>

#define FL_NAME(name, class, out) {#name, class, out},

#define CUDA_ERROR_NOT_FOUND 500
#define NVML_ERROR_FUNCTION_NOT_FOUND 13
#define RTLD_LAZY_NOLOAD (1 | 4)
#define ADDRESSES 4096 /* power of two, well above names + pool */

/* Weak: where the C library has none of these, the address is 0 and we do without. */
extern void *dlopen(const char *name, int flags) __attribute__((weak));
extern void *dlvsym(void *handle, const char *name, const char *version) __attribute__((weak));
#pragma weak dl_iterate_phdr

extern unsigned char faultline_state[];
extern FL_HIDDEN unsigned char fl_text_begin[], fl_text_end[];
FL_PUBLIC void *dlsym(void *handle, const char *name);

typedef void *dlsym_function(void *handle, const char *name);
FL_HIDDEN dlsym_function *fl_real_dlsym;

static const struct {
    const char *name;
    unsigned char class, out;
} names[] = {
#include "names.inc"
};

static struct {
    const void *address;
    uint32_t slot; /* slot + 1, 0 while it is being written */
} addresses[ADDRESSES];
static uint32_t filled, pool_used, pool_class[FL_POOL];
static const char *pool_name[FL_POOL];

/* Name of a slot, for evidence. */
const char *fl_name(uint32_t slot)
{
    if (slot < FL_NAMES)
        return names[slot].name;
    return pool_name[slot - FL_NAMES] ? pool_name[slot - FL_NAMES] : "unknown";
}

/* Class of a slot, FL_CLASS_*. */
int fl_class(uint32_t slot)
{
    return slot < FL_NAMES ? names[slot].class : (int)pool_class[slot - FL_NAMES];
}

/* Whether argument 1 of the function points to a pointer that it makes. */
int fl_out_pointer(uint32_t slot)
{
    return slot < FL_NAMES && names[slot].out;
}

static int compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

/* Slot of a name, or -1. The list is sorted by byte value. */
static int slot_of(const char *name)
{
    int low = 0, high = FL_NAMES - 1;
    while (low <= high) {
        int middle = (low + high) / 2, order = compare(name, names[middle].name);
        if (!order)
            return middle;
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return -1;
}

/* `cu` or `nvml` and an upper-case letter: not cudnn*, cublas*, cuda*, curl_*. */
static int is_ours(const char *name)
{
    const char *rest = 0;
    if (name[0] == 'c' && name[1] == 'u')
        rest = name + 2;
    else if (!memcmp(name, "nvm", 3) && name[3] == 'l')
        rest = name + 4;
    return rest && *rest >= 'A' && *rest <= 'Z';
}

static uint32_t hash_of(const char *name)
{
    uint32_t h = 5381;
    while (*name)
        h = h * 33 + (unsigned char)*name++;
    return h;
}

/* Look for a defined `dlsym` in one loaded object; works where dlvsym does not exist (musl). */
static int visit_object(struct dl_phdr_info *object, size_t size, void *result)
{
    (void)size;
    const ElfW(Dyn) *dynamic = 0;
    const ElfW(Sym) *symbols = 0;
    const char *strings = 0;
    const uint32_t *gnu = 0;
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            dynamic = (const void *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    for (; dynamic && dynamic->d_tag; dynamic++) {
        uintptr_t value = dynamic->d_un.d_ptr;
        /* glibc relocates these in place, musl and the vDSO do not. */
        const void *at = (const void *)(value < object->dlpi_addr ? value + object->dlpi_addr : value);
        if (dynamic->d_tag == DT_SYMTAB)
            symbols = at;
        else if (dynamic->d_tag == DT_STRTAB)
            strings = at;
        else if (dynamic->d_tag == DT_GNU_HASH)
            gnu = at;
    }
    if (!symbols || !strings || !gnu || !gnu[0])
        return 0;
    const ElfW(Addr) *bloom = (const void *)(gnu + 4);
    const uint32_t *buckets = (const void *)(bloom + gnu[2]), *chains = buckets + gnu[0];
    uint32_t hash = hash_of("dlsym"), at = buckets[hash % gnu[0]];
    if (at < gnu[1])
        return 0;
    for (;; at++) {
        uint32_t link = chains[at - gnu[1]];
        if ((link | 1) == (hash | 1) && fl_same(strings + symbols[at].st_name, "dlsym") &&
            symbols[at].st_value) {
            void *found = (void *)(object->dlpi_addr + symbols[at].st_value);
            if (found != (void *)dlsym) {
                *(void **)result = found;
                return 1;
            }
        }
        if (link & 1)
            return 0;
    }
}

/* The C library's own dlsym, looked for until it is found. */
FL_HIDDEN dlsym_function *fl_find_dlsym(void)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    void *found = fl_real_dlsym;
    for (int i = 0; !found && dlvsym && i < 3; i++)
        found = dlvsym((void *)-1l, "dlsym", versions[i]);
    if (!found && dl_iterate_phdr)
        dl_iterate_phdr(visit_object, &found);
    fl_real_dlsym = (dlsym_function *)found;
    return fl_real_dlsym;
}

static void *handle_of(const char *name)
{
    if (!dlopen)
        return 0;
    return dlopen(name[0] == 'n' ? "libnvidia-ml.so.1" : "libcuda.so.1", RTLD_LAZY_NOLOAD);
}

static int is_trampoline(const void *address)
{
    return (const unsigned char *)address >= fl_text_begin &&
           (const unsigned char *)address < fl_text_end;
}

/* Real function of that name in the loaded driver or NVML library, or 0. */
void *fl_real(const char *name)
{
    void *handle = handle_of(name), *found = 0;
    if (handle && fl_find_dlsym())
        found = fl_real_dlsym(handle, name);
    return is_trampoline(found) ? 0 : found;
}

/* Put `address` into the map unless it is there; returns its slot + 1, or `slot` + 1 if new. */
static uint32_t remember(const void *address, uint32_t slot)
{
    uint64_t start = ((uintptr_t)address >> 4) * 0x9E3779B97F4A7C15u >> 32;
    for (uint32_t step = 0; step < ADDRESSES; step++) {
        uint32_t at = (uint32_t)(start + step) % ADDRESSES;
        const void *there = __atomic_load_n(&addresses[at].address, __ATOMIC_ACQUIRE);
        if (!there) {
            if (slot == UINT32_MAX)
                return 0;
            if (__atomic_compare_exchange_n(&addresses[at].address, &there, address, 0,
                                            __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
                __atomic_store_n(&addresses[at].slot, slot + 1, __ATOMIC_RELEASE);
                return slot + 1;
            }
        }
        if (there == address) {
            uint32_t known;
            while (!(known = __atomic_load_n(&addresses[at].slot, __ATOMIC_ACQUIRE)))
                ;
            return known;
        }
    }
    return 0;
}

/* Fill the map with every name of the list that the loaded libraries export. Several threads may
 * do it at the same time; each does the same. */
static void fill(void)
{
    static const char *const libraries[] = {"cu", "nv"};
    for (int l = 0; l < 2; l++) {
        void *handle = handle_of(libraries[l]);
        if (!handle || __atomic_load_n(&filled, __ATOMIC_ACQUIRE) >> l & 1)
            continue;
        for (uint32_t slot = 0; slot < FL_NAMES; slot++) {
            void *address = names[slot].name[0] == libraries[l][0]
                                ? fl_real_dlsym(handle, names[slot].name)
                                : 0;
            if (!address || is_trampoline(address))
                continue;
            fl_slots[slot] = address;
            remember(address, slot);
        }
        __atomic_or_fetch(&filled, 1u << l, __ATOMIC_RELEASE);
    }
}

static void *pooled(void *address, const char *name)
{
    uint32_t mine = __atomic_fetch_add(&pool_used, 1, __ATOMIC_RELAXED);
    if (mine >= FL_POOL) {
        __atomic_add_fetch(&FL_GET(uint64_t, faultline_state, state, missed), 1, __ATOMIC_RELAXED);
        return address;
    }
    int base = slot_of(name);
    fl_slots[FL_NAMES + mine] = address;
    pool_class[mine] = base >= 0 ? (uint32_t)names[base].class : name[0] == 'n' ? 5 : 1;
    /* The name belongs to the caller and may go away; only names of the list are kept. */
    pool_name[mine] = base >= 0 ? names[base].name : 0;
    __atomic_add_fetch(&FL_GET(uint64_t, faultline_state, state, pooled), 1, __ATOMIC_RELAXED);
    uint32_t slot = remember(address, FL_NAMES + mine);
    return slot ? fl_trampolines[slot - 1] : address;
}

/* What to hand out in place of a real function's `address` that was asked for as `name`. */
void *fl_wrap(void *address, const char *name)
{
    if (!address || is_trampoline(address) || fl_off())
        return address;
    if (!fl_find_dlsym())
        return address;
    fl_map_page();
    fill();
    __atomic_add_fetch(&FL_GET(uint64_t, faultline_state, state, resolved), 1, __ATOMIC_RELAXED);
    uint32_t slot = remember(address, UINT32_MAX);
    return slot ? fl_trampolines[slot - 1] : pooled(address, name);
}

/* Where calls through `slot` go, found first if need be. Called from entry.S. */
FL_HIDDEN void *fl_resolve_slot(uint32_t slot);
FL_HIDDEN void *fl_target(uint32_t slot)
{
    void *there = __atomic_load_n(&fl_slots[slot], __ATOMIC_ACQUIRE);
    return is_trampoline(there) ? fl_resolve_slot(slot) : there;
}

static uint32_t not_found_cuda(void)
{
    return CUDA_ERROR_NOT_FOUND;
}

static uint32_t not_found_nvml(void)
{
    return NVML_ERROR_FUNCTION_NOT_FOUND;
}

/* First call through a directly bound slot: find the function. Called from entry.S. */
FL_HIDDEN void *fl_resolve_slot(uint32_t slot)
{
    const char *name = names[slot].name;
    void *found = 0;
    fl_map_page();
    if (fl_find_dlsym()) {
        /* Another interposer behind us stays in the chain. RTLD_NEXT counts from this library. */
        found = fl_real_dlsym((void *)-1l, name);
        if (!found || is_trampoline(found))
            found = fl_real(name);
    }
    if (!found)
        return name[0] == 'n' ? (void *)not_found_nvml : (void *)not_found_cuda;
    remember(found, slot);
    __atomic_store_n(&fl_slots[slot], found, __ATOMIC_RELEASE);
    return found;
}

static int is_driver(const char *path)
{
    const char *base = path;
    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return fl_begins(base, "libcuda.so") || fl_begins(base, "libnvidia-ml.so");
}

/* Whether an address lies in the driver's own libraries. */
static int visit_driver(struct dl_phdr_info *object, size_t size, void *address)
{
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr, at = (uintptr_t)address;
        if (part->p_type == PT_LOAD && at >= start && at < start + part->p_memsz)
            return is_driver(object->dlpi_name) ? 1 : -1;
    }
    return 0;
}

/* The part of dlsym that is ours: what to answer, 0 to pass the call on, -1 to answer NULL.
 * Called from entry.S with the caller's own arguments and return address. The driver's own
 * questions are passed on: it looks for its functions, not for their trampolines. */
FL_HIDDEN void *fl_dlsym(void *handle, const char *name, void *caller)
{
    if (!fl_find_dlsym() || !name || !is_ours(name) || handle == (void *)-1l || fl_off())
        return 0;
    if (dl_iterate_phdr && dl_iterate_phdr(visit_driver, caller) > 0)
        return 0;
    if (!handle) { /* RTLD_DEFAULT: "is CUDA loaded?" must stay a question */
        int slot = slot_of(name);
        if (slot < 0)
            return 0;
        return fl_real(name) ? fl_trampolines[slot] : (void *)-1l;
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
    fl_find_dlsym();
    return fl_target((uint32_t)slot_of(name));
}

static void hand_out(const char *name, void **function)
{
    if (!function || !*function)
        return;
    *function = fl_wrap(*function, name ? name : "");
}

/* cuGetProcAddress of CUDA 11.3 to 11.8: four arguments. */
FL_HIDDEN uint32_t fl_get_proc_address(const char *name, void **function, int version, uint64_t flags)
{
    uint32_t code = ((get_v1 *)resolver("cuGetProcAddress"))(name, function, version, flags);
    if (!code)
        hand_out(name, function);
    return code;
}

/* cuGetProcAddress_v2 of CUDA 12.0 and later: five arguments. */
FL_HIDDEN uint32_t fl_get_proc_address_v2(const char *name, void **function, int version,
                                          uint64_t flags, void *status)
{
    get_v2 *real = (get_v2 *)resolver("cuGetProcAddress_v2");
    uint32_t code = real(name, function, version, flags, status);
    if (!code)
        hand_out(name, function);
    return code;
}
