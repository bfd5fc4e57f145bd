/* SPDX-License-Identifier: Apache-2.0
 * The part of the CUDA driver's binary interface that the stand-in answers. */
#ifndef LAB_CUDA_TYPES_H
#define LAB_CUDA_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct lab_context *CUcontext;
typedef struct lab_module *CUmodule;
typedef struct lab_function *CUfunction;
typedef struct lab_stream *CUstream;
typedef struct lab_event *CUevent;

enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_NOT_SUPPORTED = 801,
};

/* The context that is current for the calling thread, NULL of none. */
CUcontext lab_current(void);

#endif
