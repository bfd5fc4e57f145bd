/* SPDX-License-Identifier: Apache-2.0
 * The slow path: what to do with a call, by its class. */
#include "faultline.h"
#include "system.h"

#define DEVICE_UNAVAILABLE 46

typedef uint32_t device_count(int *count);

static int is_cu_init(uint32_t slot)
{
    return fl_same(fl_name(slot), "cuInit");
}

static int is_handle_lookup(uint32_t slot)
{
    return fl_begins(fl_name(slot), "nvmlDeviceGetHandleBy");
}

/* A call on a context: the code that it stays failed with, else what the page says. One that only
 * looks at the context counts as work. */
static uint32_t judge_work(uint32_t slot, int class, const struct fl_gpu *gpu,
                           const struct fl_call *in)
{
    int looks = class == FL_CLASS_L;
    struct fl_question question = {gpu, looks ? FL_CLASS_S : class, 0, in, looks, 0};
    uint32_t code = class == FL_CLASS_N ? 0 : fl_latched(gpu);
    if (!code)
        return fl_judge(slot, &question);
    fl_note_hit(slot, question.class, "");
    return code;
}

/* A call that makes a context. The primary one that the process has already is only counted up. A
 * poisoned process gets no other on that GPU: beside the poisoned one the driver answers its code,
 * after its end that the device is not available. */
static uint32_t judge_new(uint32_t slot, const struct fl_call *call, const struct fl_gpu *gpu)
{
    struct fl_question question = {gpu, FL_CLASS_I, 0, 0, 0, 0};
    const char *name = fl_name(slot);
    uint32_t has = fl_has_contexts(slot, call), poison = fl_latched(gpu);
    int primary = fl_begins(name, "cuDevicePrimaryCtx");
    if (primary && has & FL_PRIMARY_CONTEXT)
        return 0;
    if (!poison || fl_begins(name, "cuDevicePrimaryCtxReset"))
        return has ? 0 : fl_judge(slot, &question);
    int beside = has && !primary;
    uint32_t code = beside ? 0 : fl_judge(slot, &question);
    if (code)
        return code;
    fl_note_hit(slot, FL_CLASS_I, "");
    return beside ? poison : DEVICE_UNAVAILABLE;
}

/* cuInit fails when every GPU of the process has a fault that shows so early, and blocks when one
 * of them hangs: it visits all. */
static uint32_t judge_init(uint32_t slot)
{
    device_count *count = FL_REAL(device_count, "cuDeviceGetCount");
    int devices = 0, failing = 0;
    uint32_t code = 0;
    char id[FL_SIZE_entry_fault_id] = "", other[FL_SIZE_entry_fault_id];
    if (!count || count(&devices))
        return 0;
    for (int i = 0; i < devices; i++) {
        struct fl_gpu gpu;
        struct fl_question question = {&gpu, FL_CLASS_I, 1, 0, 0, code ? other : id};
        uint32_t one = fl_gpu_of_device(i, &gpu) ? fl_judge(slot, &question) : 0;
        failing += one != 0;
        code = code ? code : one;
    }
    if (!code || failing < devices)
        return 0;
    fl_note_hit(slot, FL_CLASS_I, id);
    return code;
}

/* NVML was asked for a handle: of which GPU is known afterwards. */
static uint32_t judge_lookup(uint32_t slot, const struct fl_call *call)
{
    struct fl_gpu gpu;
    struct fl_question question = {&gpu, FL_CLASS_N, 1, 0, 0, 0};
    void **handle = (void **)call->argument[1];
    return handle && fl_gpu_of_nvml(*handle, &gpu) ? fl_judge(slot, &question) : 0;
}

/* A failing call sets some of its results to zero, as the driver does. */
static void clear_results(uint32_t slot, const struct fl_call *call)
{
    uint32_t results = fl_zeroed(slot);
    for (int i = 0; results >> i; i++)
        if (results >> i & 1 && call->argument[i])
            *(uint64_t *)call->argument[i] = 0;
}

/* What to do with a call through `slot`. Called by the assembly. Teardown runs for real, so that
 * nothing leaks and a process can still end, and then reports the code. */
uint64_t fl_decide(uint32_t slot, struct fl_call *call)
{
    struct fl_gpu gpu;
    int class = fl_class(slot);
    fl_note_call(slot);
    if (fl_looks_for_page(slot)) {
        fl_sign();
        fl_map_page();
    }
    if (class == FL_CLASS_P || fl_off())
        return FL_DECISION(FL_PASS, 0);
    int armed = fl_armed();
    if (is_cu_init(slot) || is_handle_lookup(slot))
        return FL_DECISION(armed ? FL_CALL_THEN_ASK : FL_PASS, 0);
    call->generation = fl_generation();
    call->since = class == FL_CLASS_Q ? fl_boottime() : 0;
    uint32_t code = 0;
    if ((armed || fl_is_poisoned()) && fl_gpu_of_call(slot, call, &gpu))
        code = class == FL_CLASS_I ? judge_new(slot, call, &gpu)
                                        : judge_work(slot, class, &gpu, 0);
    if (!code)
        return FL_DECISION(class == FL_CLASS_Q ? FL_CALL_THEN_ASK : FL_PASS, 0);
    if (class == FL_CLASS_T)
        return FL_DECISION(FL_CALL_THEN_FAIL, code);
    clear_results(slot, call);
    return FL_DECISION(FL_FAIL, code);
}

/* The real function has returned `result`: the code that the call returns. Teardown reports what
 * was decided before. A wait during which a fault came gets its code; `call` is 0 when nothing was
 * armed as it began. */
uint32_t fl_woken(uint32_t slot, uint32_t result, const struct fl_call *call)
{
    struct fl_gpu gpu;
    uint32_t code = 0;
    if (fl_class(slot) == FL_CLASS_T) {
        clear_results(slot, call);
        code = (uint32_t)call->decision;
    } else if (fl_class(slot) == FL_CLASS_Q)
        code = !fl_off() && fl_gpu_of_call(slot, 0, &gpu)
                   ? judge_work(slot, FL_CLASS_Q, &gpu, call)
                   : 0;
    else if (!result)
        code = is_cu_init(slot) ? judge_init(slot) : judge_lookup(slot, call);
    return code ? code : result;
}
