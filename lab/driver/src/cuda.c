/* SPDX-License-Identifier: Apache-2.0
 * Stand-in for libcuda.so.1: start-up, devices, contexts. */
#include "cuda_types.h"
#include "gpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER_VERSION 12080

struct lab_context {
    CUdevice device;
    struct lab_context *below;
};

static int started, retained[LAB_GPUS];
static struct lab_context primary[LAB_GPUS];
static __thread CUcontext current;

CUcontext lab_current(void)
{
    return current;
}

CUresult cuInit(unsigned flags)
{
    const struct lab_gpu *gpus;
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (!lab_gpus(&gpus))
        return CUDA_ERROR_NO_DEVICE;
    for (int i = 0; i < LAB_GPUS; i++)
        primary[i].device = i;
    started = 1;
    return CUDA_SUCCESS;
}

/* FAULTLINE_LAB_CUDA_VERSION says another: a runtime refuses a driver that is older than itself. */
CUresult cuDriverGetVersion(int *version)
{
    const char *said = getenv("FAULTLINE_LAB_CUDA_VERSION");
    *version = said ? atoi(said) : DRIVER_VERSION;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
    const struct lab_gpu *gpus;
    if (!started)
        return CUDA_ERROR_NOT_INITIALIZED;
    *count = lab_gpus(&gpus);
    return CUDA_SUCCESS;
}

static const struct lab_gpu *gpu_of(CUdevice device)
{
    const struct lab_gpu *gpus;
    return device >= 0 && device < lab_gpus(&gpus) ? &gpus[device] : NULL;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    if (!started)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!gpu_of(ordinal))
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
    const struct lab_gpu *gpu = gpu_of(device);
    if (!gpu)
        return CUDA_ERROR_INVALID_DEVICE;
    snprintf(name, (size_t)size, "%s", gpu->name);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(unsigned char *uuid, CUdevice device)
{
    const struct lab_gpu *gpu = gpu_of(device);
    if (!gpu)
        return CUDA_ERROR_INVALID_DEVICE;
    memcpy(uuid, gpu->uuid, sizeof(gpu->uuid));
    return CUDA_SUCCESS;
}

/* The first version does not know MIG instances: it says the GPU. */
CUresult cuDeviceGetUuid(unsigned char *uuid, CUdevice device)
{
    const struct lab_gpu *gpu = gpu_of(device);
    if (!gpu)
        return CUDA_ERROR_INVALID_DEVICE;
    memcpy(uuid, gpu->parent, sizeof(gpu->parent));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *text, int size, CUdevice device)
{
    const struct lab_gpu *gpu = gpu_of(device);
    if (!gpu)
        return CUDA_ERROR_INVALID_DEVICE;
    snprintf(text, (size_t)size, "%s", gpu->pci);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    *bytes = 80ull << 30;
    return gpu_of(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

/* Compute capability 9.0 and 132 multiprocessors, as an H100 SXM; all else is 1. */
CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
    if (!gpu_of(device))
        return CUDA_ERROR_INVALID_DEVICE;
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : 1;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    if (!started)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!gpu_of(device))
        return CUDA_ERROR_INVALID_DEVICE;
    *context = &primary[device];
    __atomic_add_fetch(&retained[device], 1, __ATOMIC_RELAXED);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    if (!gpu_of(device))
        return CUDA_ERROR_INVALID_DEVICE;
    if (__atomic_load_n(&retained[device], __ATOMIC_RELAXED))
        __atomic_sub_fetch(&retained[device], 1, __ATOMIC_RELAXED);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    if (!gpu_of(device))
        return CUDA_ERROR_INVALID_DEVICE;
    *flags = 0;
    *active = __atomic_load_n(&retained[device], __ATOMIC_RELAXED) > 0;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    (void)flags;
    if (!started)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!gpu_of(device))
        return CUDA_ERROR_INVALID_DEVICE;
    CUcontext made = calloc(1, sizeof(*made));
    if (!made)
        return CUDA_ERROR_OUT_OF_MEMORY;
    made->device = device;
    made->below = current;
    current = *context = made;
    return CUDA_SUCCESS;
}

CUresult cuCtxDestroy_v2(CUcontext context)
{
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (current == context)
        current = context->below;
    free(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    context->below = current;
    current = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *context)
{
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context)
        *context = current;
    current = current->below;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = current->device;
    return CUDA_SUCCESS;
}

#define E(code, name, text) {code, name, text},
static const struct {
    int code;
    const char *name, *text;
} errors[] = {
#include "errors.inc"
};
#undef E

static CUresult describe(CUresult code, const char **name, const char **text)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errors[i].code == code) {
            *name = errors[i].name;
            *text = errors[i].text;
            return CUDA_SUCCESS;
        }
    *name = *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorName(CUresult code, const char **name)
{
    const char *text;
    return describe(code, name, &text);
}

CUresult cuGetErrorString(CUresult code, const char **text)
{
    const char *name;
    return describe(code, &name, text);
}
