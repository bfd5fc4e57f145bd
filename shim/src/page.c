/* SPDX-License-Identifier: Apache-2.0
 * The control page: finding it, and reading it while somebody writes it. */
#include "faultline.h"
#include "system.h"

static const uint32_t zero_word = 0, one_word = 1;
const uint32_t *fl_control = &zero_word;
uint32_t fl_mapped = 0;

static const unsigned char *page;

extern char **environ __attribute__((weak));
extern unsigned char faultline_state[];

static const char *setting(const char *name)
{
    size_t length = 0;
    while (name[length])
        length++;
    for (char **entry = &environ ? environ : 0; entry && *entry; entry++)
        if (!memcmp(*entry, name, length) && (*entry)[length] == '=')
            return *entry + length + 1;
    return 0;
}

/* Whether the kill switch is set. The environment is read once. */
int fl_off(void)
{
    static uint32_t known; /* 0 not read, 1 on, 2 off */
    uint32_t value = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!value) {
        const char *said = setting("FAULTLINE");
        value = said && fl_same(said, "off") ? 2 : 1;
        __atomic_store_n(&known, value, __ATOMIC_RELAXED);
    }
    return value == 2;
}

/* Map the page when there is a valid one and none is mapped yet. A page of another size, magic or
 * version is left alone: a shim that does not understand the page must do nothing. */
void fl_map_page(void)
{
    struct fl_stat facts;
    const char *path;
    if (__atomic_load_n(&fl_mapped, __ATOMIC_ACQUIRE) || fl_off())
        return;
    path = setting("FAULTLINE_CONTROL");
    if (!path)
        return;
    long file = fl_open(path);
    if (file < 0)
        return;
    if (!fl_fstat(file, &facts) && facts.size == (int64_t)FL_PAGE_SIZE) {
        const unsigned char *found = fl_mmap(FL_PAGE_SIZE, file);
        if ((uintptr_t)found < (uintptr_t)-4096) {
            if (FL_GET(const uint64_t, found, page, magic) == FL_PAGE_MAGIC &&
                FL_GET(const uint32_t, found, page, version) == FL_PAGE_VERSION) {
                /* Two threads may both come here: one mapping is then never used again. */
                page = found;
                FL_GET(uint64_t, faultline_state, state, page_inode) = facts.inode;
                FL_GET(uint32_t, faultline_state, state, page_mapped) = 1;
                fl_control = &FL_GET(const uint32_t, found, page, armed);
                __atomic_store_n(&fl_mapped, 1, __ATOMIC_RELEASE);
            } else {
                fl_munmap(found, FL_PAGE_SIZE);
            }
        }
    }
    fl_close(file);
}

/* From now on every call takes the slow path: a context of this process is poisoned for good. */
void fl_stay_slow(void)
{
    __atomic_store_n(&fl_control, &one_word, __ATOMIC_RELEASE);
}

static int matches(const unsigned char *entry, const unsigned char *uuid, int class, uint64_t now)
{
    static const unsigned char any[FL_UUID_BYTES];
    const unsigned char *wanted = entry + FL_AT_entry_uuid;
    uint64_t not_after = FL_GET(const uint64_t, entry, entry, not_after);
    if (FL_GET(const uint32_t, entry, entry, state) != 1)
        return 0;
    if (not_after && now >= not_after)
        return 0;
    if (!(FL_GET(const uint32_t, entry, entry, class_mask) >> class & 1))
        return 0;
    return !memcmp(wanted, any, FL_UUID_BYTES) || !memcmp(wanted, uuid, FL_UUID_BYTES);
}

static int search(const unsigned char *uuid, int class, struct fl_fault *found)
{
    uint64_t now = fl_boottime();
    for (uint64_t i = 0; i < FL_PAGE_ENTRIES; i++) {
        const unsigned char *entry = page + FL_PAGE_FIRST_ENTRY + i * FL_ENTRY_SIZE;
        if (!matches(entry, uuid, class, now))
            continue;
        found->xid = FL_GET(const uint32_t, entry, entry, xid);
        found->class_mask = FL_GET(const uint32_t, entry, entry, class_mask);
        found->code_live = FL_GET(const uint32_t, entry, entry, code_live);
        found->code_new = FL_GET(const uint32_t, entry, entry, code_new);
        found->code_nvml = FL_GET(const uint32_t, entry, entry, code_nvml);
        memcpy(found->uuid, uuid, FL_UUID_BYTES);
        fl_copy(found->fault_id, (const char *)entry + FL_AT_entry_fault_id, 64);
        return 1;
    }
    return 0;
}

/* Find the armed entry for a call of `class` on the GPU with this UUID; returns 1 and fills
 * `found`, or 0. Reads again while the writer is at it, gives up after some tries and passes. */
int fl_find(const unsigned char *uuid, int class, struct fl_fault *found)
{
    if (!__atomic_load_n(&fl_mapped, __ATOMIC_ACQUIRE))
        return 0;
    for (int tries = 0; tries < 1000; tries++) {
        const uint32_t *sequence = &FL_GET(const uint32_t, page, page, sequence);
        uint32_t before = __atomic_load_n(sequence, __ATOMIC_ACQUIRE);
        if (before & 1)
            continue;
        int hit = search(uuid, class, found);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(sequence, __ATOMIC_RELAXED) == before) {
            FL_GET(uint32_t, faultline_state, state, generation) =
                FL_GET(const uint32_t, page, page, generation);
            return hit;
        }
    }
    return 0;
}
