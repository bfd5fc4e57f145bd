/* SPDX-License-Identifier: Apache-2.0
 * Which GPU a call is about. */
#include "faultline.h"

#define DEVICES 64

typedef uint32_t current_device(int *device);
typedef uint32_t device_uuid(unsigned char *uuid, int device);
typedef uint32_t primary_state(int device, unsigned *flags, int *active);
typedef uint32_t nvml_uuid(void *handle, char *text, unsigned length);
typedef uint32_t nvml_parent(void *handle, void **parent);

static struct {
    uint32_t known; /* 0 no, 1 being written, 2 yes */
    struct fl_gpu gpu;
} devices[DEVICES];

/* `GPU-xxxxxxxx-xxxx-…` or `MIG-…` as 16 bytes; whether it is one. */
int fl_parse_uuid(const char *text, unsigned char *uuid)
{
    int digits = 0;
    if (!fl_begins(text, "GPU-") && !fl_begins(text, "MIG-"))
        return 0;
    for (text += 4; *text && digits < 2 * FL_UUID_BYTES; text++) {
        int value = fl_hex(*text);
        if (value < 0 && *text != '-')
            return 0;
        if (value < 0)
            continue;
        uuid[digits / 2] = (unsigned char)(digits % 2 ? uuid[digits / 2] | value : value << 4);
        digits++;
    }
    return digits == 2 * FL_UUID_BYTES && !*text;
}

/* The driver's two answers: v2 says the MIG instance, v1 the GPU that it is part of. */
static int ask(int device, struct fl_gpu *gpu)
{
    device_uuid *v1 = FL_REAL(device_uuid, "cuDeviceGetUuid");
    device_uuid *v2 = FL_REAL(device_uuid, "cuDeviceGetUuid_v2");
    if (!v1 || v1(gpu->parent, device))
        return 0;
    if (!v2 || v2(gpu->uuid, device))
        memcpy(gpu->uuid, gpu->parent, FL_UUID_BYTES);
    return 1;
}

/* The GPU of an ordinal of this process; whether the driver knows it. */
int fl_gpu_of_device(int device, struct fl_gpu *gpu)
{
    uint32_t no = 0;
    if (device < 0)
        return 0;
    if (device >= DEVICES)
        return ask(device, gpu);
    if (FL_LOAD(devices[device].known) == 2) {
        *gpu = devices[device].gpu;
        return 1;
    }
    if (!ask(device, gpu))
        return 0;
    if (__atomic_compare_exchange_n(&devices[device].known, &no, 1, 0, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED)) {
        devices[device].gpu = *gpu;
        FL_STORE(devices[device].known, 2);
    }
    return 1;
}

/* The GPU of an NVML handle; whether NVML knows it. */
int fl_gpu_of_nvml(void *handle, struct fl_gpu *gpu)
{
    char text[96];
    void *parent = 0;
    nvml_uuid *uuid = FL_REAL(nvml_uuid, "nvmlDeviceGetUUID");
    nvml_parent *parent_of = FL_REAL(nvml_parent, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
    if (!handle || !uuid || uuid(handle, text, sizeof(text)) || !fl_parse_uuid(text, gpu->uuid))
        return 0;
    memcpy(gpu->parent, gpu->uuid, FL_UUID_BYTES);
    if (text[0] == 'M' && parent_of && !parent_of(handle, &parent) &&
        !uuid(parent, text, sizeof(text)))
        fl_parse_uuid(text, gpu->parent);
    return 1;
}

/* Position of the device argument of a function that has one, or -1. */
static int device_argument(const char *name)
{
    static const struct {
        const char *begins;
        int position;
    } known[] = {
        {"cuDevicePrimaryCtxRetain", 1}, {"cuDevicePrimaryCtx", 0}, {"cuGreenCtxCreate", 2},
        {"cuCtxCreate_v3", 4},           {"cuCtxCreate_v4", 3},     {"cuCtxCreate", 2},
        {"cuGLCtxCreate", 2},            {"cuVDPAUCtxCreate", 2},
    };
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (fl_begins(name, known[i].begins))
            return known[i].position;
    return -1;
}

/* Functions of NVML whose first argument is no handle of a device. Their devices are known only
 * afterwards, or they are about none. */
static int has_no_handle(const char *name)
{
    static const char *const begins[] = {
        "nvmlDeviceGetHandle", "nvmlDeviceGetCount", "nvmlDeviceModifyDrainState",
        "nvmlDeviceQueryDrainState", "nvmlDeviceRemoveGpu", "nvmlDeviceDiscoverGpus",
    };
    if (!fl_begins(name, "nvmlDevice"))
        return 1;
    for (unsigned i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (fl_begins(name, begins[i]))
            return 1;
    return 0;
}

/* The GPU that a call is about; 0 when it is about none that we can tell. Streams and events of
 * another device than the current one count for the current one. */
int fl_gpu_of_call(uint32_t slot, const struct fl_call *call, struct fl_gpu *gpu)
{
    const char *name = fl_name(slot);
    int device = -1;
    if (fl_class(slot) == FL_CLASS_N)
        return call && !has_no_handle(name) && fl_gpu_of_nvml((void *)call->argument[0], gpu);
    int position = call ? device_argument(name) : -1;
    if (position >= 0)
        return fl_gpu_of_device((int)call->argument[position], gpu);
    if (fl_class(slot) == FL_CLASS_I)
        return 0; /* cuInit: its devices are known afterwards */
    current_device *current = FL_REAL(current_device, "cuCtxGetDevice");
    return current && !current(&device) && fl_gpu_of_device(device, gpu);
}

/* Contexts that the process has already on the device for which a call wants one: FL_PRIMARY_CONTEXT,
 * FL_CURRENT_CONTEXT. Others of its own making the driver does not tell. */
uint32_t fl_has_contexts(uint32_t slot, const struct fl_call *call)
{
    unsigned flags;
    int active = 0, now = -1, position = device_argument(fl_name(slot));
    primary_state *state = FL_REAL(primary_state, "cuDevicePrimaryCtxGetState");
    current_device *current = FL_REAL(current_device, "cuCtxGetDevice");
    if (position < 0)
        return 0;
    int device = (int)call->argument[position];
    uint32_t found = state && !state(device, &flags, &active) && active ? FL_PRIMARY_CONTEXT : 0;
    return found | (current && !current(&now) && now == device ? FL_CURRENT_CONTEXT : 0);
}
