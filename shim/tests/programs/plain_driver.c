/* SPDX-License-Identifier: Apache-2.0
 * A driver that needs no library but the C library, and so brings no libdl into a process. */
#include <stdint.h>
#include <string.h>

int cuInit(unsigned flags) { return (int)flags; }
int cuCtxGetDevice(int *device) { return *device = 0; }
int cuCtxSynchronize(void) { return 0; }

/* The first GPU of the tests' table. */
int cuDeviceGetUuid(unsigned char *uuid, int device)
{
    memcpy(uuid, "\x11\x11\x11\x11\x22\x22\x33\x33\x44\x44\x55\x55\x55\x55\x55\x55", 16);
    return device;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, void *status)
{
    (void)version, (void)flags, (void)status;
    *function = strcmp(name, "cuCtxSynchronize") ? NULL : (void *)cuCtxSynchronize;
    return *function ? 0 : 500;
}
