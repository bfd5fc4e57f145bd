/* SPDX-License-Identifier: Apache-2.0
 * What a fault does to a call: modes, qualifiers, and the latch. */
#include "faultline.h"
#include "system.h"

#define LATCHES 64
#define COUNT_BITS 40
#define PATIENCE 1000000
#define NOTHING 0

/* GPUs whose contexts in this process are poisoned. Entries are only ever added. */
static struct {
    uint32_t taken, code;
    unsigned char uuid[FL_UUID_BYTES];
} latched[LATCHES];

/* Per place in the page: whose calls in the upper, how many in the lower bits. One word, so that a
 * new entry, and the child of a fork, starts from zero without a lock. */
static uint64_t counted[FL_PAGE_ENTRIES], used_up[FL_PAGE_ENTRIES];

/* Stands for the entry and this process. Both factors are odd: two serials of one process differ
 * in it, and so do two processes with one serial. Never zero: that is what an unused place holds. */
static uint64_t tag_of(const struct fl_entry *entry)
{
    uint64_t who = FL_OF(uint32_t, entry, serial) * 0x9E3779B1ull ^ fl_getpid() * 0x85EBCA77ull;
    return who << COUNT_BITS | 1ull << (COUNT_BITS - 1);
}

/* Number of this call among those that the entry could have hit in this process, from 1. */
static uint64_t count(const struct fl_entry *entry)
{
    uint64_t *word = &counted[entry->index], before = FL_LOAD(*word), after, tag = tag_of(entry);
    const uint64_t low = (1ull << (COUNT_BITS - 1)) - 1;
    do {
        after = ((before & ~low) == tag ? before : tag) + 1;
    } while (!__atomic_compare_exchange_n(word, &before, after, 0, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    return after & low;
}

/* Whether the entry has not done yet what it does once; the first to ask gets it. */
static int take(const struct fl_entry *entry)
{
    uint64_t before = FL_LOAD(used_up[entry->index]), tag = tag_of(entry);
    return before != tag && __atomic_compare_exchange_n(&used_up[entry->index], &before, tag, 0,
                                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Whether the n-th call is among those that the seed chooses (splitmix64 of seed and n). */
static int chosen(const struct fl_entry *entry, uint64_t n)
{
    uint32_t chance = FL_OF(uint32_t, entry, probability);
    uint64_t x = FL_OF(uint64_t, entry, seed) + n * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return !chance || (uint32_t)((x ^ x >> 31) >> 32) < chance;
}

static int is_due(const struct fl_entry *entry)
{
    uint64_t from = FL_OF(uint64_t, entry, not_before), to = FL_OF(uint64_t, entry, not_after);
    uint64_t now = from || to ? fl_boottime() : 0;
    return now >= from && (!to || now < to);
}

/* Whether a mere look at a context fails. A sticky fault that comes at once has happened by the time
 * anybody looks; all others happen to a call that wants something of the GPU. */
static int hits_looks(const struct fl_entry *entry)
{
    return FL_OF(uint32_t, entry, mode) == FL_MODE_STICKY &&
           !FL_OF(uint32_t, entry, after_calls) && !FL_OF(uint32_t, entry, probability);
}

static uint32_t code_for(int class, const struct fl_entry *entry)
{
    if (class == FL_CLASS_N)
        return FL_OF(uint32_t, entry, code_nvml);
    return class == FL_CLASS_I ? FL_OF(uint32_t, entry, code_new)
                                    : FL_OF(uint32_t, entry, code_live);
}

/* Whether any GPU is poisoned in this process. */
int fl_is_poisoned(void)
{
    return FL_LOAD(FL_STATE(uint32_t, latched_code)) != 0;
}

/* Code that the process stays failed with on a GPU, 0 = none. */
uint32_t fl_latched(const struct fl_gpu *gpu)
{
    for (int i = 0; i < LATCHES; i++) {
        uint32_t code = FL_LOAD(latched[i].code);
        if (!code)
            return 0;
        if (!memcmp(latched[i].uuid, gpu->uuid, FL_UUID_BYTES))
            return code;
    }
    return 0;
}

/* Put a GPU among the poisoned ones unless it is there. */
static void add_latched(const struct fl_gpu *gpu, uint32_t code)
{
    for (int i = 0; i < LATCHES; i++) {
        uint32_t no = 0, there = 0;
        if (__atomic_compare_exchange_n(&latched[i].taken, &no, 1, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            memcpy(latched[i].uuid, gpu->uuid, FL_UUID_BYTES);
            FL_STORE(latched[i].code, code);
            return;
        }
        for (int tries = 0; !there && tries < PATIENCE; tries++)
            there = FL_LOAD(latched[i].code);
        if (there && !memcmp(latched[i].uuid, gpu->uuid, FL_UUID_BYTES))
            return;
    }
}

/* Poison the process's context on a GPU with a code; returns the code that the call gets: that of
 * another fault if that was first. */
static uint32_t latch(const struct fl_gpu *gpu, int class, uint32_t code)
{
    if (class == FL_CLASS_I || class == FL_CLASS_N || !code)
        return code; /* no context of this process is poisoned by these */
    add_latched(gpu, code);
    uint32_t stays = fl_latched(gpu);
    code = stays ? stays : code;
    FL_STORE(FL_STATE(uint32_t, latched_code), code);
    fl_stay_slow();
    return code;
}

static uint64_t end_of(const struct fl_entry *entry, uint64_t begun)
{
    uint64_t to = FL_OF(uint64_t, entry, not_after);
    uint64_t delay = FL_OF(uint32_t, entry, delay) * 1000ull;
    uint64_t end = delay ? begun + delay : UINT64_MAX;
    return to && to < end ? to : end;
}

static void hang(const struct fl_entry *entry)
{
    FL_ADD(FL_STATE(uint64_t, hung), 1);
    FL_ADD(FL_STATE(uint32_t, blocked), 1);
    fl_block(entry, end_of(entry, fl_boottime()));
    FL_ADD(FL_STATE(uint32_t, blocked), -1);
}

static void slow_down(const struct fl_entry *entry)
{
    if (FL_OF(uint32_t, entry, delay)) {
        FL_ADD(FL_STATE(uint64_t, delayed), 1);
        fl_block(entry, end_of(entry, fl_boottime()));
    }
}

/* What one entry does to a call: the code that it fails with, or NOTHING: the next entry is asked.
 * A call that will block counts as hit before it blocks. */
static uint32_t apply(uint32_t slot, const struct fl_question *q, const struct fl_entry *entry)
{
    uint32_t code = code_for(q->class, entry), mode = FL_OF(uint32_t, entry, mode);
    const char *id = (const char *)entry->words + FL_AT_entry_fault_id;
    switch (mode) {
    case FL_MODE_SLOW:
        slow_down(entry);
        return NOTHING;
    case FL_MODE_GENUINE:
        if (fl_genuine_allowed() && q->class == FL_CLASS_S && take(entry))
            fl_run_faulting_kernel(FL_OF(uint32_t, entry, xid), FL_OF(uint32_t, entry, serial));
        return NOTHING;
    case FL_MODE_HANG:
        if (q->class == FL_CLASS_T)
            return NOTHING; /* a process can still end */
        fl_note_hit(slot, q->class, id);
        hang(entry);
        return latch(q->gpu, q->class, code);
    case FL_MODE_ONCE:
        if (!code || !take(entry))
            return NOTHING;
        break;
    case FL_MODE_STICKY:
        code = latch(q->gpu, q->class, code);
        break;
    case FL_MODE_TRANSIENT:
        break;
    default:
        return NOTHING;
    }
    if (code && q->only_tell)
        fl_copy(q->only_tell, FL_SIZE_entry_fault_id, id);
    else if (code)
        fl_note_hit(slot, q->class, id);
    return code;
}

/* The code that a call fails with, 0 = none. Asks the entries in the order of the page: several may
 * make a call slow, the first that fails it decides. */
uint32_t fl_judge(uint32_t slot, const struct fl_question *question)
{
    struct fl_entry entry;
    for (uint32_t from = 0; fl_find(question, from, &entry); from = entry.index + 1) {
        if (!is_due(&entry) || !fl_is_me(&entry) || (question->looks && !hits_looks(&entry)))
            continue;
        uint64_t n = count(&entry);
        if (n <= FL_OF(uint32_t, &entry, after_calls) || !chosen(&entry, n))
            continue;
        uint32_t code = apply(slot, question, &entry);
        if (code)
            return code;
    }
    return 0;
}
