/* SPDX-License-Identifier: Apache-2.0
 * Stand-in for libcuda.so.1: memory, modules, launches, streams and events. Device memory is host
 * memory, every launch has ended when it returns, and one kernel is known by its name. */
#include "cuda_types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define KERNEL "faultline_token_step"

struct lab_module {
    int unused;
};

struct lab_function {
    int unused;
};

struct lab_stream {
    int unused;
};

struct lab_event {
    struct timespec at;
};

static struct lab_function token_step;

#define NEED_CONTEXT                                                                               \
    if (!lab_current())                                                                            \
    return CUDA_ERROR_INVALID_CONTEXT

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes)
{
    NEED_CONTEXT;
    void *made = malloc(bytes ? bytes : 1);
    if (!made)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *pointer = (CUdeviceptr)(uintptr_t)made;
    return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer)
{
    NEED_CONTEXT;
    free((void *)(uintptr_t)pointer);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    NEED_CONTEXT;
    memcpy((void *)(uintptr_t)to, from, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    NEED_CONTEXT;
    memcpy(to, (const void *)(uintptr_t)from, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream)
{
    (void)stream;
    return cuMemcpyHtoD_v2(to, from, bytes);
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    (void)stream;
    return cuMemcpyDtoH_v2(to, from, bytes);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    return cuMemcpyHtoD_v2(to, (const void *)(uintptr_t)from, bytes);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count)
{
    NEED_CONTEXT;
    memset((void *)(uintptr_t)to, value, count);
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    NEED_CONTEXT;
    *total = 80ull << 30;
    *free_bytes = 79ull << 30;
    return CUDA_SUCCESS;
}

/* There is nothing here that could run any other PTX: say so at once. */
CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    NEED_CONTEXT;
    if (!strstr(image, ".version"))
        return CUDA_ERROR_INVALID_IMAGE;
    if (!strstr(image, ".entry " KERNEL))
        return CUDA_ERROR_NOT_SUPPORTED;
    CUmodule made = calloc(1, sizeof(*made));
    if (!made)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *module = made;
    return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module)
{
    free(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    NEED_CONTEXT;
    if (!module || strcmp(name, KERNEL))
        return CUDA_ERROR_NOT_FOUND;
    *function = &token_step;
    return CUDA_SUCCESS;
}

/* faultline_token_step(in, out, n, key): out[i] = in[i] ^ key */
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream stream, void **arguments,
                        void **extra)
{
    (void)shared, (void)stream, (void)extra;
    NEED_CONTEXT;
    if (function != &token_step || !arguments || !gx || !gy || !gz || !bx || !by || !bz)
        return CUDA_ERROR_INVALID_VALUE;
    const uint32_t *in = *(const uint32_t **)arguments[0];
    uint32_t *out = *(uint32_t **)arguments[1];
    uint32_t n = *(uint32_t *)arguments[2], key = *(uint32_t *)arguments[3];
    for (uint32_t i = 0; i < n && i < gx * bx; i++)
        out[i] = in[i] ^ key;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
    NEED_CONTEXT;
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    (void)flags;
    NEED_CONTEXT;
    *stream = calloc(1, sizeof(**stream));
    return *stream ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    free(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream stream)
{
    (void)stream;
    return cuCtxSynchronize();
}

CUresult cuStreamQuery(CUstream stream)
{
    (void)stream;
    return cuCtxSynchronize();
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    (void)flags;
    NEED_CONTEXT;
    *event = calloc(1, sizeof(**event));
    return *event ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    (void)stream;
    NEED_CONTEXT;
    clock_gettime(CLOCK_MONOTONIC, &event->at);
    return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event)
{
    (void)event;
    return cuCtxSynchronize();
}

CUresult cuEventQuery(CUevent event)
{
    (void)event;
    return cuCtxSynchronize();
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to)
{
    NEED_CONTEXT;
    *milliseconds = (float)((double)(to->at.tv_sec - from->at.tv_sec) * 1e3 +
                            (double)(to->at.tv_nsec - from->at.tv_nsec) / 1e6);
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
    free(event);
    return CUDA_SUCCESS;
}
