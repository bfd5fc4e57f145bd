/* SPDX-License-Identifier: Apache-2.0
 * The control page: finding it, reading it while somebody writes it, sleeping until it changes. */
#include "faultline.h"
#include "system.h"

#define SECOND 1000000000u
#define NVML_GPU_IS_LOST 15
#define NVML_UNKNOWN 999
#define SPIN 100000u /* nanoseconds: a sleep wakes about this late */
#define PATIENCE 100000000u /* nanoseconds: a writer that is alive is done by then */
#define TRIES 64 /* between two looks at the clock */

static const uint32_t zero_word = 0, one_word = 1;
const uint32_t *fl_control = &zero_word;
uint32_t fl_mapped = 0;

static const unsigned char *page;
static uint32_t stay_slow;
static uint32_t given_up; /* sequence number at which a writer went missing; 0 = none did */

static void refuse(uint32_t version)
{
    FL_STORE(FL_STATE(uint32_t, version_refused), version);
    FL_ADD(FL_STATE(uint32_t, pages_refused), 1);
}

static void use(const unsigned char *found, uint64_t inode)
{
    /* Two threads may both come here: one mapping is then never used again. */
    FL_STORE(page, found);
    FL_STORE(FL_STATE(uint64_t, page_inode), inode);
    FL_STORE(FL_STATE(uint32_t, generation), fl_generation());
    FL_STORE(FL_STATE(uint32_t, page_mapped), 1);
    FL_STORE(fl_control, FL_LOAD(stay_slow) ? &one_word : &FL_GET(const uint32_t, found, page, armed));
    FL_STORE(fl_mapped, 1);
    if (FL_LOAD(stay_slow))
        FL_STORE(fl_control, &one_word);
}

/* Map the page when there is a valid one and none is mapped yet. A page of another size, magic or
 * version is left alone: a shim that does not understand the page must do nothing. */
void fl_map_page(void)
{
    struct fl_stat facts;
    const char *path;
    if (FL_LOAD(fl_mapped) || fl_off() || !(path = fl_setting("FAULTLINE_CONTROL")))
        return;
    long file = fl_open(path);
    if (file < 0)
        return;
    const unsigned char *found = 0;
    if (!fl_fstat(file, &facts) && facts.size == (int64_t)FL_PAGE_SIZE)
        found = fl_mmap(FL_PAGE_SIZE, file);
    fl_close(file);
    if (!found || (uintptr_t)found >= (uintptr_t)-4096) {
        refuse(0);
    } else if (FL_GET(const uint64_t, found, page, magic) != FL_PAGE_MAGIC ||
               FL_GET(const uint32_t, found, page, version) != FL_PAGE_VERSION) {
        refuse(FL_GET(const uint64_t, found, page, magic) == FL_PAGE_MAGIC
                   ? FL_GET(const uint32_t, found, page, version)
                   : 0);
        fl_munmap(found, FL_PAGE_SIZE);
    } else {
        use(found, facts.inode);
    }
}

/* From now on every call takes the slow path: a context of this process is poisoned for good, or
 * calls are counted. */
void fl_stay_slow(void)
{
    FL_STORE(stay_slow, 1);
    FL_STORE(fl_control, &one_word);
}

/* Number of armed entries. */
int fl_armed(void)
{
    return FL_LOAD(fl_mapped) ? (int)FL_LOAD(FL_GET(const uint32_t, FL_LOAD(page), page, armed)) : 0;
}

/* Number of times the page was written, 0 without a page. */
uint32_t fl_generation(void)
{
    const unsigned char *at = FL_LOAD(page);
    return at ? FL_LOAD(FL_GET(const uint32_t, at, page, generation)) : 0;
}

/* Whether the page lets faults of mode `genuine` happen. */
int fl_genuine_allowed(void)
{
    const unsigned char *at = FL_LOAD(page);
    return at && FL_LOAD(FL_GET(const uint32_t, at, page, flags)) & FL_GENUINE_ALLOWED;
}

static const unsigned char *entry_at(uint32_t index)
{
    return FL_LOAD(page) + FL_PAGE_FIRST_ENTRY + index * FL_ENTRY_SIZE;
}

/* Words are read one by one and atomically: the writer may be at it. */
static void copy(struct fl_entry *to, const unsigned char *entry)
{
    for (uint32_t i = 0; i < FL_ENTRY_SIZE / 8; i++)
        to->words[i] = __atomic_load_n((const uint64_t *)entry + i, __ATOMIC_RELAXED);
}

static int is_for(const struct fl_entry *entry, const struct fl_gpu *gpu)
{
    static const unsigned char any[FL_UUID_BYTES];
    const unsigned char *wanted = (const unsigned char *)entry->words + FL_AT_entry_uuid;
    return !memcmp(wanted, any, FL_UUID_BYTES) || !memcmp(wanted, gpu->uuid, FL_UUID_BYTES) ||
           !memcmp(wanted, gpu->parent, FL_UUID_BYTES);
}

/* Whether an entry came into force after the call in the slow path began. */
static int is_new(const struct fl_entry *entry, const struct fl_call *in)
{
    int32_t later = (int32_t)(FL_OF(uint32_t, entry, serial) - (uint32_t)in->generation);
    return later > 0 || FL_OF(uint64_t, entry, not_before) > in->since;
}

/* Whether a fault shows before there is a context or a handle: a lost GPU has no handle any more,
 * one that needs a reset still has. */
static int is_early(const struct fl_entry *entry, int class)
{
    uint32_t code = FL_OF(uint32_t, entry, code_nvml);
    if (class == FL_CLASS_N)
        return code == NVML_GPU_IS_LOST || code == NVML_UNKNOWN;
    return FL_OF(uint32_t, entry, flags) & FL_AT_INIT;
}

static int matches(const struct fl_entry *entry, const struct fl_question *question)
{
    if (!question->gpu)
        return 1; /* whatever is armed */
    if (!(FL_OF(uint32_t, entry, class_mask) >> question->class & 1))
        return 0;
    if (question->early && !is_early(entry, question->class))
        return 0;
    return is_for(entry, question->gpu) && (!question->in || is_new(entry, question->in));
}

static int search(const struct fl_question *question, uint32_t from, struct fl_entry *found)
{
    for (uint32_t i = from; i < FL_PAGE_ENTRIES; i++) {
        if (__atomic_load_n((const uint32_t *)entry_at(i), __ATOMIC_RELAXED) != 1)
            continue;
        copy(found, entry_at(i));
        found->index = i;
        if (matches(found, question))
            return 1;
    }
    return 0;
}

/* Whether a reader shall try again to read the page: not when the writer was given up in this
 * state of the page, or takes too long. Who waits lets go of the processor: the writer may need it. */
static int is_worth_another_try(uint32_t sequence, uint32_t tries, uint64_t *since)
{
    if (sequence & 1 && sequence == __atomic_load_n(&given_up, __ATOMIC_RELAXED))
        return 0;
    if (tries % TRIES)
        return 1;
    uint64_t now = fl_boottime();
    *since = *since ? *since : now;
    if (now - *since < PATIENCE) {
        fl_yield();
        return 1;
    }
    if (sequence & 1)
        __atomic_store_n(&given_up, sequence, __ATOMIC_RELAXED);
    return 0;
}

/* Find the first armed entry for a question, at place `from` or later; returns 1 and fills `found`,
 * or 0. Waits while the writer is at it; the call passes when that does not end, and the next ones
 * do so at once. */
int fl_find(const struct fl_question *question, uint32_t from, struct fl_entry *found)
{
    _Static_assert(FL_AT_entry_state == 0, "search reads the state first");
    if (!fl_armed() || from >= FL_PAGE_ENTRIES)
        return 0;
    const uint32_t *sequence = &FL_GET(const uint32_t, FL_LOAD(page), page, sequence);
    uint64_t since = 0;
    uint32_t before = FL_LOAD(*sequence);
    for (uint32_t tries = 1; is_worth_another_try(before, tries, &since); tries++) {
        before = FL_LOAD(*sequence);
        if (before & 1)
            continue;
        int hit = search(question, from, found);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(sequence, __ATOMIC_RELAXED) == before) {
            FL_STORE(FL_STATE(uint32_t, generation), fl_generation());
            return hit;
        }
    }
    return 0;
}

/* Whether the page still holds this very entry, armed. */
int fl_still_armed(const struct fl_entry *entry)
{
    const unsigned char *now = entry_at(entry->index);
    return FL_LOAD(FL_GET(const uint32_t, now, entry, state)) == 1 &&
           FL_LOAD(FL_GET(const uint32_t, now, entry, serial)) == FL_OF(uint32_t, entry, serial);
}

/* Sleep until `until` (CLOCK_BOOTTIME), or until the entry is disarmed. A lost wake delays by a
 * second at most; the last bit is spent spinning, so that microseconds are kept. */
void fl_block(const struct fl_entry *entry, uint64_t until)
{
    const uint32_t *word = &FL_GET(const uint32_t, FL_LOAD(page), page, generation);
    for (;;) {
        uint32_t seen = FL_LOAD(*word);
        uint64_t now = fl_boottime();
        if (now >= until || !fl_still_armed(entry))
            return;
        uint64_t left = until - now;
        if (left > SPIN)
            fl_futex_wait(word, seen, left - SPIN < SECOND ? left - SPIN : SECOND);
    }
}
