/* SPDX-License-Identifier: Apache-2.0
 * Loads library argument 1 with the flags of argument 2, which links to the driver itself, and asks
 * for the code of a call three times: the program directly, the library directly and by dlsym.
 * Compiled with LIBRARY it is that library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *);
int cuCtxSynchronize(void);

#ifdef LIBRARY
int direct(void)
{
    return cuCtxSynchronize();
}

int by_name(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    return ((int (*)(void))dlsym(driver, "cuCtxSynchronize"))();
}
#else
int main(int count, char **argument)
{
    int flags = count > 2 && atoi(argument[2]) ? RTLD_NOW | RTLD_DEEPBIND : RTLD_NOW;
    void *library = dlopen(argument[1], flags), *context;
    if (!library)
        return fprintf(stderr, "%s\n", dlerror()), 2;
    int (*direct)(void) = (int (*)(void))dlsym(library, "direct");
    int (*by_name)(void) = (int (*)(void))dlsym(library, "by_name");
    cuInit(0), cuDevicePrimaryCtxRetain(&context, 0), cuCtxSetCurrent(context);
    printf("[]\n"), fflush(stdout), getchar();
    printf("[%d,%d,%d]\n", cuCtxSynchronize(), direct(), by_name()), fflush(stdout), getchar();
    return 0;
}
#endif
