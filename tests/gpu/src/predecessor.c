/* SPDX-License-Identifier: Apache-2.0
 *
 * A shim of the kind that came before, for comparison only: wraps functions of the CUDA runtime by
 * name, and on every call opens and reads its toggle file and looks the real function up. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static int armed(void)
{
    char first[16] = "0";
    const char *path = getenv("PREDECESSOR_TOGGLE");
    FILE *toggle = fopen(path ? path : "/tmp/predecessor-toggle", "r");
    if (!toggle)
        return 0;
    if (!fgets(first, sizeof(first), toggle))
        first[0] = '0';
    fclose(toggle);
    return first[0] == '1';
}

#define WRAP(name, declared, passed)                                                               \
    int name declared                                                                              \
    {                                                                                              \
        if (armed())                                                                               \
            return 100;                                                                            \
        int(*real) declared = (int(*) declared)dlsym(RTLD_NEXT, #name);                            \
        return real ? real passed : 100;                                                           \
    }

struct size3 {
    unsigned x, y, z;
};

WRAP(cudaGetDevice, (int *device), (device))
WRAP(cudaSetDevice, (int device), (device))
WRAP(cudaGetDeviceCount, (int *count), (count))
WRAP(cudaMalloc, (void **pointer, size_t size), (pointer, size))
WRAP(cudaFree, (void *pointer), (pointer))
WRAP(cudaMemcpy, (void *to, const void *from, size_t size, int kind), (to, from, size, kind))
WRAP(cudaMemcpyAsync, (void *to, const void *from, size_t size, int kind, void *stream),
     (to, from, size, kind, stream))
WRAP(cudaDeviceSynchronize, (void), ())
WRAP(cudaStreamSynchronize, (void *stream), (stream))
WRAP(cudaLaunchKernel,
     (const void *function, struct size3 grid, struct size3 block, void **arguments, size_t shared,
      void *stream),
     (function, grid, block, arguments, shared, stream))
