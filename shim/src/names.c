/* SPDX-License-Identifier: Apache-2.0
 * The list of functions, and the pool of slots for functions that it does not know. */
#include "faultline.h"

#define FL_NAME(name, class, zeroed, looks) {#name, class, zeroed, looks},

static const struct {
    const char *name;
    unsigned char class, zeroed, looks;
} names[] = {
#include "names.inc"
};
static const uint16_t by_name[] = {FL_BY_NAME}; /* slots, in the order of their names' bytes */

_Static_assert(FL_NAMES + FL_POOL <= FL_CALLS, "faultline_calls is too small");

static uint32_t pool_used;
static struct {
    int base; /* slot of the name in the list plus one, 0 = unknown there */
    int class;
    char name[64];
} pool[FL_POOL];

/* Number of names in the list; pool slots follow. */
uint32_t fl_names(void)
{
    return FL_NAMES;
}

/* Name of a slot of the list. */
const char *fl_listed(uint32_t slot)
{
    return names[slot].name;
}

/* Name of a slot, for evidence. */
const char *fl_name(uint32_t slot)
{
    return slot < FL_NAMES ? names[slot].name : pool[slot - FL_NAMES].name;
}

/* Class of a slot, FL_CLASS_*. */
int fl_class(uint32_t slot)
{
    return slot < FL_NAMES ? names[slot].class : pool[slot - FL_NAMES].class;
}

/* Arguments that point to eight bytes which a failing call sets to zero: bit 0 for the first. */
uint32_t fl_zeroed(uint32_t slot)
{
    int base = slot < FL_NAMES ? (int)slot : pool[slot - FL_NAMES].base - 1;
    return base >= 0 ? names[base].zeroed : 0;
}

/* Whether a call of the function looks for the control page while none is mapped. */
int fl_looks_for_page(uint32_t slot)
{
    return slot < FL_NAMES && names[slot].looks;
}

static int compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

/* Slot of a name, or -1. */
int fl_slot_of(const char *name)
{
    int low = 0, high = FL_NAMES - 1;
    while (low <= high) {
        int middle = (low + high) / 2, order = compare(name, names[by_name[middle]].name);
        if (!order)
            return by_name[middle];
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return -1;
}

/* `cu` or `nvml` and an upper-case letter: not cudnn*, cublas*, cuda*, curl_*. */
int fl_is_ours(const char *name)
{
    const char *rest = 0;
    if (fl_begins(name, "cu"))
        rest = name + 2;
    else if (fl_begins(name, "nvml"))
        rest = name + 4;
    return rest && *rest >= 'A' && *rest <= 'Z';
}

/* Slot of the newest version in the list of a function of which the list has another version, or -1:
 * cuMemAlloc_v2 for cuMemAlloc_v3, and for cuMemAlloc when that names an address that is not listed,
 * because cuGetProcAddress is asked by the name without a version. */
static int newest(const char *name)
{
    char text[64 + sizeof("_v0")];
    uint32_t length = 0;
    fl_copy(text, 64, name);
    while (text[length])
        length++;
    for (uint32_t at = 3; at + 2 < length; at++)
        if (text[at] == '_' && (fl_begins(text + at, "_v") || fl_begins(text + at, "_pt")))
            length = at;
    for (char version = '9'; version > '1'; version--) {
        const char suffix[] = {'_', 'v', version, 0};
        fl_copy(text + length, sizeof(suffix), suffix);
        int slot = fl_slot_of(text);
        if (slot >= 0)
            return slot;
    }
    text[length] = 0;
    return fl_slot_of(text);
}

/* Take a slot of the pool for a function that was asked for by this name; -1 when all are taken.
 * A wait of the pool gets the code of a later fault only if something was armed when it began. */
int64_t fl_pool_slot(const char *name)
{
    uint32_t mine = __atomic_fetch_add(&pool_used, 1, __ATOMIC_RELAXED);
    if (mine >= FL_POOL) {
        __atomic_store_n(&pool_used, FL_POOL, __ATOMIC_RELAXED);
        return -1;
    }
    int base = newest(name);
    pool[mine].base = base + 1;
    pool[mine].class = base >= 0 ? names[base].class : name[0] == 'n' ? FL_CLASS_N : FL_CLASS_S;
    fl_copy(pool[mine].name, sizeof(pool[mine].name), name);
    return FL_NAMES + mine;
}
