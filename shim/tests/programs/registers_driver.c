/* SPDX-License-Identifier: Apache-2.0
 * A driver whose functions put down with what registers they were called, and leave rubbish in all
 * that a function may change: those that the shim asks do so too. */
#include "registers.h"

#include <string.h>

#define PRIVATE __attribute__((visibility("hidden")))

PRIVATE struct registers seen, rubbish;
PRIVATE int vector_width = 16;
void trash(void);

struct registers *registers_seen(int width)
{
    vector_width = width;
    memset(&rubbish, 0xf9, sizeof(rubbish));
    return &seen;
}

int cuInit(unsigned flags)
{
    return trash(), (int)flags;
}

int cuCtxGetDevice(int *device)
{
    *device = 0;
    return trash(), 0;
}

/* The first GPU of the tests' table. */
int cuDeviceGetUuid(unsigned char *uuid, int device)
{
    (void)device;
    memcpy(uuid, "\x11\x11\x11\x11\x22\x22\x33\x33\x44\x44\x55\x55\x55\x55\x55\x55", 16);
    return trash(), 0;
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    (void)device;
    *flags = 0, *active = 1;
    return trash(), 0;
}
