/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts the driver's own record of calls: callbacks of CUPTI's driver domain, by function.
 *
 * The driver loads this library in cuInit (CUDA_INJECTION64_PATH) and calls InitializeInjection.
 * FAULTLINE_CUPTI names libcupti. The counters are exported for the process itself to read. The
 * few types of CUPTI's interface that are needed are declared here, so that no header is. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define DRIVER_API 1 /* callback domain */
#define FUNCTIONS 2048

struct callback_data {
    int site; /* 0 entering, 1 leaving */
    const char *function_name;
};

typedef void callback(void *userdata, int domain, uint32_t id, const struct callback_data *data);

uint64_t cupti_counts[FUNCTIONS];
const char *cupti_names[FUNCTIONS];
/* 0 not loaded by the driver, 1 counting, else 1000 plus what CUPTI said, -1 without the library */
int cupti_state;

static void entered(void *userdata, int domain, uint32_t id, const struct callback_data *data)
{
    (void)userdata;
    if (domain != DRIVER_API || data->site || id >= FUNCTIONS)
        return;
    __atomic_store_n(&cupti_names[id], data->function_name, __ATOMIC_RELAXED);
    __atomic_add_fetch(&cupti_counts[id], 1, __ATOMIC_RELAXED);
}

int InitializeInjection(void)
{
    const char *path = getenv("FAULTLINE_CUPTI");
    void *cupti = dlopen(path ? path : "libcupti.so", RTLD_NOW | RTLD_GLOBAL), *subscriber;
    if (!cupti) {
        fprintf(stderr, "cupti_count: %s\n", dlerror());
        cupti_state = -1;
        return 1;
    }
    int (*subscribe)(void **, callback *, void *) = dlsym(cupti, "cuptiSubscribe");
    int (*enable)(uint32_t, void *, int) = dlsym(cupti, "cuptiEnableDomain");
    int code = subscribe && enable ? subscribe(&subscriber, entered, NULL) : 999;
    if (!code)
        code = enable(1, subscriber, DRIVER_API);
    cupti_state = code ? 1000 + code : 1;
    return 1;
}
