/* SPDX-License-Identifier: Apache-2.0
 * Stand-in for libnvidia-ml.so.1: the questions that monitoring and device discovery ask first. */
#include "gpus.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NVML_INVALID_ARGUMENT 2
#define NVML_NOT_FOUND 6
#define DRIVER "570.148.08"

typedef const struct lab_gpu *device;

int nvmlInit_v2(void)
{
    return 0;
}

int nvmlInit(void)
{
    return 0;
}

int nvmlShutdown(void)
{
    return 0;
}

const char *nvmlErrorString(int code)
{
    return code == 0 ? "Success" : code == 15 ? "GPU is lost" : "Not Supported";
}

int nvmlSystemGetDriverVersion(char *text, unsigned size)
{
    snprintf(text, size, "%s", DRIVER);
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
    device gpus;
    *count = (unsigned)lab_gpus(&gpus);
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *found)
{
    device gpus;
    if (index >= (unsigned)lab_gpus(&gpus))
        return NVML_INVALID_ARGUMENT;
    *found = &gpus[index];
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device *found)
{
    device gpus;
    int count = lab_gpus(&gpus);
    for (int i = 0; i < count; i++)
        if (!strcmp(gpus[i].uuid_text, uuid)) {
            *found = &gpus[i];
            return 0;
        }
    return NVML_NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, device *found)
{
    device gpus;
    int count = lab_gpus(&gpus);
    for (int i = 0; i < count; i++)
        if (!strcasecmp(gpus[i].pci, pci)) {
            *found = &gpus[i];
            return 0;
        }
    return NVML_NOT_FOUND;
}

int nvmlDeviceGetUUID(device gpu, char *text, unsigned size)
{
    snprintf(text, size, "%s", gpu->uuid_text);
    return 0;
}

/* A MIG instance is a device of its own here, with the GPU's address; it is found by its UUID. */
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device instance, device *found)
{
    device gpus;
    int count = lab_gpus(&gpus);
    for (int i = 0; i < count; i++)
        if (instance != &gpus[i] && !memcmp(gpus[i].uuid, instance->parent, sizeof(gpus[i].uuid))) {
            *found = &gpus[i];
            return 0;
        }
    return NVML_NOT_FOUND;
}

int nvmlDeviceGetName(device gpu, char *text, unsigned size)
{
    snprintf(text, size, "%s", gpu->name);
    return 0;
}

int nvmlDeviceGetMinorNumber(device gpu, unsigned *minor)
{
    *minor = (unsigned)gpu->minor;
    return 0;
}

/* total, free, used in bytes */
int nvmlDeviceGetMemoryInfo(device gpu, unsigned long long *memory)
{
    (void)gpu;
    memory[0] = 80ull << 30;
    memory[1] = 79ull << 30;
    memory[2] = 1ull << 30;
    return 0;
}
