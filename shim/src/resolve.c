/* SPDX-License-Identifier: Apache-2.0
 * Which trampoline stands for which function: a map from addresses to slots, without locks. */
#include "faultline.h"

#define CUDA_ERROR_NOT_FOUND 500
#define NVML_ERROR_FUNCTION_NOT_FOUND 13
#define ADDRESSES 8192 /* power of two, well above names + pool */
#define PATIENCE 1000000
#define UNKNOWN UINT32_MAX
#define NO_SLOT (UINT32_MAX - 1)

static struct {
    const void *address;
    uint32_t slot; /* slot + 1, 0 while it is being written */
} addresses[ADDRESSES];
static uint32_t filled;

/* Whether an address is one of ours. */
int fl_is_trampoline(const void *address)
{
    return (const unsigned char *)address >= fl_text_begin &&
           (const unsigned char *)address < fl_text_end;
}

/* Slot of an address whose place another thread may just be filling. */
static uint32_t slot_at(uint32_t at)
{
    for (int i = 0; i < PATIENCE; i++) {
        uint32_t known = FL_LOAD(addresses[at].slot);
        if (known)
            return known - 1;
    }
    return NO_SLOT; /* its writer was killed, or this is a fork in the middle of it */
}

/* Place of `address` in the map; `mine` is set when it was not there and is now to be filled. */
static uint32_t place_of(const void *address, int add, int *mine)
{
    uint64_t start = ((uintptr_t)address >> 2) * 0x9E3779B97F4A7C15u >> 32;
    *mine = 0;
    for (uint32_t step = 0; step < ADDRESSES; step++) {
        uint32_t at = (uint32_t)(start + step) % ADDRESSES;
        const void *there = FL_LOAD(addresses[at].address);
        if (!there && !add)
            return UNKNOWN;
        if (!there && __atomic_compare_exchange_n(&addresses[at].address, &there, address, 0,
                                                  __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            *mine = 1;
            return at;
        }
        if (there == address)
            return at;
    }
    return UNKNOWN;
}

/* Let `address` stand for `slot` unless it stands for one already; returns that slot. */
static uint32_t remember(const void *address, uint32_t slot)
{
    int mine;
    uint32_t at = place_of(address, 1, &mine);
    if (at == UNKNOWN)
        return NO_SLOT;
    if (mine)
        FL_STORE(addresses[at].slot, slot + 1);
    return slot_at(at);
}

/* Give a slot its function unless it has one. */
static void set_target(uint32_t slot, void *function)
{
    void *there = FL_LOAD(fl_slots[slot]);
    if (fl_is_trampoline(there))
        __atomic_compare_exchange_n(&fl_slots[slot], &there, function, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE);
}

/* Whether another library between us and the driver answers to the driver's names. */
static int is_chained(void *handle, const char *name)
{
    void *next = fl_next(name);
    return next && next != fl_real_dlsym(handle, name);
}

/* Fill the map with every name of the list that the loaded library exports. Several threads may
 * do it at the same time; each does the same. A function with two names stands in one slot. A
 * process without libdl has no handle, but may have the library. */
static void fill(int nvml)
{
    const char *first = nvml ? "nvmlInit_v2" : "cuInit";
    if (FL_LOAD(filled) >> nvml & 1)
        return;
    void *handle = fl_handle(nvml);
    if (!handle && (fl_find_dlsym() || !fl_next(first)))
        return;
    int chained = !handle || is_chained(handle, first);
    for (uint32_t slot = 0; slot < fl_names(); slot++) {
        const char *name = fl_listed(slot);
        if ((name[0] == 'n') != nvml)
            continue;
        void *address = chained ? fl_next(name) : 0;
        if (!address && handle)
            address = fl_real_dlsym(handle, name);
        if (!address || fl_is_trampoline(address))
            continue;
        set_target(slot, address);
        if (FL_LOAD(fl_slots[slot]) != address)
            continue;
        uint32_t known = remember(address, slot);
        if (known != slot && known != NO_SLOT && fl_class(known) != fl_class(slot))
            FL_ADD(FL_STATE(uint32_t, alias_conflicts), 1);
    }
    __atomic_or_fetch(&filled, 1u << nvml, __ATOMIC_RELEASE);
}

/* A slot for a function that the list does not know, filled by one thread. */
static uint32_t pooled(void *address, const char *name)
{
    int mine;
    uint32_t at = place_of(address, 1, &mine);
    if (at == UNKNOWN)
        return NO_SLOT;
    if (!mine)
        return slot_at(at);
    int64_t slot = fl_pool_slot(name);
    if (slot >= 0) {
        FL_STORE(fl_slots[slot], address);
        FL_ADD(FL_STATE(uint64_t, pooled), 1);
    }
    FL_STORE(addresses[at].slot, (slot >= 0 ? (uint32_t)slot : NO_SLOT) + 1);
    return slot >= 0 ? (uint32_t)slot : NO_SLOT;
}

/* What to hand out in place of a real function's `address` that was asked for as `name`. */
void *fl_wrap(void *address, const char *name)
{
    int mine;
    if (!address || fl_is_trampoline(address) || fl_off())
        return address;
    fl_map_page();
    fill(0);
    fill(1);
    FL_ADD(FL_STATE(uint64_t, resolved), 1);
    uint32_t at = place_of(address, 0, &mine);
    uint32_t slot = at == UNKNOWN ? pooled(address, name) : slot_at(at);
    if (slot == NO_SLOT) {
        fl_note_missed(name);
        return address;
    }
    return fl_trampolines[slot];
}

static uint32_t not_found_cuda(void)
{
    return CUDA_ERROR_NOT_FOUND;
}

static uint32_t not_found_nvml(void)
{
    return NVML_ERROR_FUNCTION_NOT_FOUND;
}

/* Where calls through `slot` go, found first if need be. Another interposer behind us stays in
 * the chain. Called by the assembly. */
void *fl_target(uint32_t slot)
{
    void *there = FL_LOAD(fl_slots[slot]);
    if (!fl_is_trampoline(there))
        return there;
    const char *name = fl_listed(slot);
    fl_map_page();
    void *found = fl_next(name);
    if (!found)
        found = fl_real(name);
    if (!found)
        return name[0] == 'n' ? (void *)not_found_nvml : (void *)not_found_cuda;
    set_target(slot, found);
    remember(found, slot);
    return FL_LOAD(fl_slots[slot]);
}
