/* SPDX-License-Identifier: Apache-2.0
 * Should this call fail? Knows the classes of calls, which GPU a call is about, and the latch. */
#include "faultline.h"
#include "system.h"

#define DEVICES 16

/* The evidence object; its layout is data/page_layout.def. Zero but for magic, version, build. */
FL_PUBLIC unsigned char faultline_state[512] __attribute__((aligned(64)));

static const char build_id[] = FAULTLINE_BUILD_ID;

typedef uint32_t current_device(int *device);
typedef uint32_t device_uuid(unsigned char *uuid, int device);
typedef uint32_t nvml_uuid(void *device, char *text, unsigned length);

static struct {
    uint32_t known;
    unsigned char uuid[FL_UUID_BYTES];
} devices[DEVICES];

/* GPUs whose contexts in this process are poisoned. Entries are only ever added. */
static struct {
    uint32_t code;
    unsigned char uuid[FL_UUID_BYTES];
} latched[DEVICES];

static int uuid_of(int device, unsigned char *uuid)
{
    static device_uuid *real;
    if (device < 0 || device >= DEVICES)
        return 0;
    if (!__atomic_load_n(&devices[device].known, __ATOMIC_ACQUIRE)) {
        if (!real)
            real = (device_uuid *)fl_real("cuDeviceGetUuid_v2");
        if (!real)
            real = (device_uuid *)fl_real("cuDeviceGetUuid");
        if (!real || real(uuid, device))
            return 0;
        memcpy(devices[device].uuid, uuid, FL_UUID_BYTES);
        __atomic_store_n(&devices[device].known, 1, __ATOMIC_RELEASE);
    }
    memcpy(uuid, devices[device].uuid, FL_UUID_BYTES);
    return 1;
}

/* `GPU-xxxxxxxx-xxxx-…` as 16 bytes. */
static int parse_uuid(const char *text, unsigned char *uuid)
{
    int digits = 0;
    if (memcmp(text, "GPU-", 4))
        return 0;
    for (text += 4; *text && digits < 2 * FL_UUID_BYTES; text++) {
        int value = *text >= '0' && *text <= '9'   ? *text - '0'
                    : *text >= 'a' && *text <= 'f' ? *text - 'a' + 10
                    : *text >= 'A' && *text <= 'F' ? *text - 'A' + 10
                                                   : -1;
        if (value < 0)
            continue;
        uuid[digits / 2] = (unsigned char)(digits % 2 ? uuid[digits / 2] | value : value << 4);
        digits++;
    }
    return digits == 2 * FL_UUID_BYTES;
}

/* Position of the device argument of a function that makes a context, or -1. */
static int device_argument(const char *name)
{
    if (fl_begins(name, "cuDevicePrimaryCtxRetain"))
        return 1;
    if (fl_begins(name, "cuDevicePrimaryCtxReset"))
        return 0;
    if (fl_begins(name, "cuCtxCreate_v3"))
        return 4;
    if (fl_begins(name, "cuCtxCreate_v4"))
        return 3;
    if (fl_begins(name, "cuCtxCreate"))
        return 2;
    return -1; /* cuInit makes no context */
}

/* UUID of the GPU that a call is about; returns 0 when it is about none that we can tell. */
static int target(uint32_t slot, int class, const struct fl_call *call, unsigned char *uuid)
{
    static current_device *get_device;
    static nvml_uuid *get_nvml_uuid;
    const char *name = fl_name(slot);
    int device = -1;
    if (class == (int)FL_CLASS_I) {
        int argument = device_argument(name);
        return argument >= 0 && uuid_of((int)call->argument[argument], uuid);
    }
    if (class == (int)FL_CLASS_N) {
        char text[96];
        if (!fl_begins(name, "nvmlDeviceGet") || fl_begins(name, "nvmlDeviceGetHandle") ||
            fl_begins(name, "nvmlDeviceGetCount") || fl_begins(name, "nvmlDeviceGetUUID"))
            return 0;
        if (!get_nvml_uuid)
            get_nvml_uuid = (nvml_uuid *)fl_real("nvmlDeviceGetUUID");
        return get_nvml_uuid && !get_nvml_uuid((void *)call->argument[0], text, sizeof(text)) &&
               parse_uuid(text, uuid);
    }
    if (!get_device)
        get_device = (current_device *)fl_real("cuCtxGetDevice");
    return get_device && !get_device(&device) && uuid_of(device, uuid);
}

static uint32_t latched_code(const unsigned char *uuid)
{
    for (int i = 0; i < DEVICES; i++) {
        uint32_t code = __atomic_load_n(&latched[i].code, __ATOMIC_ACQUIRE);
        if (!code)
            return 0;
        if (!memcmp(latched[i].uuid, uuid, FL_UUID_BYTES))
            return code;
    }
    return 0;
}

static void latch(const struct fl_fault *fault)
{
    static uint32_t used;
    uint32_t mine = __atomic_fetch_add(&used, 1, __ATOMIC_RELAXED);
    if (mine < DEVICES) {
        memcpy(latched[mine].uuid, fault->uuid, FL_UUID_BYTES);
        __atomic_store_n(&latched[mine].code, fault->code_live, __ATOMIC_RELEASE);
    }
    FL_GET(uint32_t, faultline_state, state, latched_code) = fault->code_live;
    fl_stay_slow();
}

static void note(uint32_t slot, int class, const char *fault_id)
{
    uint64_t none = 0, *first = &FL_GET(uint64_t, faultline_state, state, first_hit);
    uint64_t *by_class = &FL_GET(uint64_t, faultline_state, state, hits_by_class);
    __atomic_add_fetch(&by_class[class], 1, __ATOMIC_RELAXED);
    if (__atomic_compare_exchange_n(first, &none, fl_boottime(), 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED)) {
        fl_copy((char *)faultline_state + FL_AT_state_first_function, fl_name(slot), 64);
        fl_copy((char *)faultline_state + FL_AT_state_fault_id, fault_id, 64);
    }
    /* Last: a reader that sees a hit sees the rest. */
    __atomic_add_fetch(&FL_GET(uint64_t, faultline_state, state, hits), 1, __ATOMIC_RELEASE);
}

static uint32_t code_for(int class, const struct fl_fault *fault)
{
    if (class == (int)FL_CLASS_N)
        return fault->code_nvml;
    return class == (int)FL_CLASS_I ? fault->code_new : fault->code_live;
}

/* The slow path: what to do with a call through `slot`. Called from entry.S.
 *
 * A failing allocation leaves its result zero: callers are known to read it anyway. Teardown runs
 * for real, so that nothing leaks and a process can still end, and then reports the code. */
FL_HIDDEN uint64_t fl_decide(uint32_t slot, const struct fl_call *call)
{
    struct fl_fault fault;
    unsigned char uuid[FL_UUID_BYTES];
    int class = fl_class(slot);
    fl_map_page();
    if (class == (int)FL_CLASS_P || fl_off() || !target(slot, class, call, uuid))
        return FL_DECISION(FL_PASS, 0);
    uint32_t code = class == (int)FL_CLASS_I || class == (int)FL_CLASS_N ? 0 : latched_code(uuid);
    if (code) {
        note(slot, class, "");
    } else {
        if (!fl_find(uuid, class, &fault) || !(code = code_for(class, &fault)))
            return FL_DECISION(FL_PASS, 0);
        if (class != (int)FL_CLASS_I && class != (int)FL_CLASS_N)
            latch(&fault);
        note(slot, class, fault.fault_id);
    }
    if (class == (int)FL_CLASS_T)
        return FL_DECISION(FL_CALL_THEN_FAIL, code);
    if (fl_out_pointer(slot) && call->argument[0])
        *(void **)call->argument[0] = 0;
    return FL_DECISION(FL_FAIL, code);
}

/* A wait has ended with `result` and something is armed now: the code it ends with. */
FL_HIDDEN uint32_t fl_woken(uint32_t slot, uint32_t result)
{
    struct fl_call none = {{0}, 0, 0};
    uint64_t decision = fl_decide(slot, &none);
    return decision >> 32 ? (uint32_t)decision : result;
}

/* Fill in what a reader needs to know the object. Called at the first use of the library: there is
 * no constructor, because other libraries' constructors may call us before ours would run. */
FL_HIDDEN void fl_sign(void)
{
    if (FL_GET(uint64_t, faultline_state, state, magic))
        return;
    FL_GET(uint32_t, faultline_state, state, version) = FL_STATE_VERSION;
    fl_copy((char *)faultline_state + FL_AT_state_build_id, build_id, 32);
    __atomic_store_n(&FL_GET(uint64_t, faultline_state, state, magic), FL_STATE_MAGIC,
                     __ATOMIC_RELEASE);
}
