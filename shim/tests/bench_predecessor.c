/* SPDX-License-Identifier: Apache-2.0
 * A shim of the kind that came before: reads its toggle file and looks the function up each time.
 * Written for this benchmark. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int cuCtxSetCurrent(void *context)
{
    char first[8] = "0";
    FILE *toggle = fopen("/proc/self/comm", "r"); /* any small file that is there */
    if (toggle) {
        if (!fgets(first, sizeof(first), toggle))
            first[0] = '0';
        fclose(toggle);
    }
    int (*real)(void *) = dlsym(RTLD_NEXT, "cuCtxSetCurrent");
    return first[0] == '1' ? 719 : real(context);
}
