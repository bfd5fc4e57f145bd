/* SPDX-License-Identifier: Apache-2.0
 * A program without libdl. As it is, it is linked to the driver, and prints the code of a call that
 * it makes directly and of one that it gets from the driver. With LATE it has a plug-in of the C
 * library loaded, a character set, which brings libdl and uses the driver by dlopen and dlsym. With
 * PLUGIN it is that plug-in. */
#include <stdint.h>
#include <stdio.h>

#if defined(PLUGIN)
#include <dlfcn.h>

int gconv_init(void *step)
{
    (void)step;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *context;
    if (!driver)
        return 1;
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(driver, "cuDevicePrimaryCtxRetain");
    int (*set)(void *) = (int (*)(void *))dlsym(driver, "cuCtxSetCurrent");
    int (*sync)(void) = (int (*)(void))dlsym(driver, "cuCtxSynchronize");
    init(0), retain(&context, 0), set(context);
    printf("%d", sync());
    return 1; /* __GCONV_NOCONV: it converts nothing */
}

int gconv(void)
{
    return 1;
}
#elif defined(LATE)
#include <iconv.h>

int main(void)
{
    iconv_open("FAULTLINE", "UTF-8");
    return 0;
}
#else
int cuInit(unsigned), cuCtxSynchronize(void);
int cuGetProcAddress_v2(const char *, void **, int, uint64_t, void *);

int main(void)
{
    int (*given)(void) = NULL;
    cuInit(0);
    cuGetProcAddress_v2("cuCtxSynchronize", (void **)&given, 12000, 0, NULL);
    printf("%d %d", cuCtxSynchronize(), given ? given() : -1);
    return 0;
}
#endif
