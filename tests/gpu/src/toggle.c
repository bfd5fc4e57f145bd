/* SPDX-License-Identifier: Apache-2.0
 *
 * Polls the driver as fast as it can and says when it first failed. Prints `ready` once calls work;
 * after a line on stdin `polling`, and then, at the first failure, `CODE NANOSECONDS` of
 * CLOCK_MONOTONIC. After another line it begins again; it ends with its input. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define NOT_READY 600

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int stop(const char *what, int code)
{
    printf("error %s %d\n", what, code);
    return 1;
}

int main(void)
{
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW), *context = NULL;
    char line[8];
    if (!cuda)
        return stop("dlopen", 0);
    int (*start)(unsigned) = (int (*)(unsigned))dlsym(cuda, "cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))dlsym(cuda, "cuDevicePrimaryCtxRetain");
    int (*set)(void *) = (int (*)(void *))dlsym(cuda, "cuCtxSetCurrent");
    int (*query)(void *) = (int (*)(void *))dlsym(cuda, "cuStreamQuery");
    int code = start(0);
    if (code || (code = retain(&context, 0)) || (code = set(context)))
        return stop("start", code);
    setvbuf(stdout, NULL, _IOLBF, 0);
    do {
        while ((code = query(NULL)) && code != NOT_READY)
            ;
        puts("ready");
        if (!fgets(line, sizeof(line), stdin))
            break;
        puts("polling");
        while (!(code = query(NULL)) || code == NOT_READY)
            ;
        int64_t at = now();
        printf("%d %lld\n", code, (long long)at);
    } while (fgets(line, sizeof(line), stdin));
    return 0;
}
