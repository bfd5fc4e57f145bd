/* SPDX-License-Identifier: Apache-2.0
 * What happened in this process, for whoever reads its memory. */
#include "faultline.h"
#include "system.h"

_Static_assert(FL_AT_state_last_function + FL_SIZE_state_last_function <= FL_STATE_SIZE, "");

/* The evidence object; its layout is data/page_layout.def. Zero until the first use. */
FL_PUBLIC unsigned char faultline_state[FL_STATE_SIZE] __attribute__((aligned(64)));
/* Calls by slot, in the order of gen/order.awk; counted when FAULTLINE_COUNT=1. */
FL_PUBLIC uint64_t faultline_calls[FL_CALLS] __attribute__((aligned(64)));

static const char build_id[] = FAULTLINE_BUILD_ID;
static uint32_t counting;

/* Fill in what a reader needs to know the object. Called at the first use of the library: there is
 * no constructor, because other libraries' constructors may call us before ours would run. */
void fl_sign(void)
{
    static uint32_t begun;
    uint32_t no = 0;
    if (FL_LOAD(begun) || !__atomic_compare_exchange_n(&begun, &no, 1, 0, __ATOMIC_ACQ_REL,
                                                       __ATOMIC_RELAXED))
        return;
    const char *preloads = fl_setting("LD_PRELOAD"), *count = fl_setting("FAULTLINE_COUNT");
    FL_STORE(FL_STATE(uint32_t, version), FL_STATE_VERSION);
    fl_copy(FL_TEXT(faultline_state, state, build_id), build_id);
    fl_copy(FL_TEXT(faultline_state, state, preloads), preloads ? preloads : "");
    FL_STORE(FL_STATE(uint64_t, magic), FL_STATE_MAGIC);
    if (count && fl_same(count, "1") && !fl_off()) {
        FL_STORE(counting, 1);
        fl_stay_slow();
    }
}

/* Count a call, if calls are counted. */
void fl_note_call(uint32_t slot)
{
    if (FL_LOAD(counting))
        FL_ADD(faultline_calls[slot], 1);
}

/* A call was answered by a fault. */
void fl_note_hit(uint32_t slot, int class, const char *fault_id)
{
    static uint32_t text_is_being_written;
    uint64_t none = 0, now = fl_boottime();
    uint32_t no = 0;
    FL_ADD((&FL_STATE(uint64_t, hits_by_class))[class], 1);
    FL_STORE(FL_STATE(uint64_t, last_hit), now);
    if (__atomic_compare_exchange_n(&FL_STATE(uint64_t, first_hit), &none, now, 0,
                                    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
        fl_copy(FL_TEXT(faultline_state, state, first_function), fl_name(slot));
        fl_copy(FL_TEXT(faultline_state, state, fault_id), fault_id);
    }
    if (__atomic_compare_exchange_n(&text_is_being_written, &no, 1, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED)) {
        fl_copy(FL_TEXT(faultline_state, state, last_function), fl_name(slot));
        FL_STORE(text_is_being_written, 0);
    }
    /* Last: a reader that sees a hit sees the rest. */
    __atomic_add_fetch(&FL_STATE(uint64_t, hits), 1, __ATOMIC_RELEASE);
}

/* A function was handed out without a trampoline. */
void fl_note_missed(const char *name)
{
    if (FL_ADD(FL_STATE(uint64_t, missed), 1) == 1)
        fl_copy(FL_TEXT(faultline_state, state, missed_name), name);
}
