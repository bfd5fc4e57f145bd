/* SPDX-License-Identifier: Apache-2.0
 * A process that uses the driver and takes orders on stdin, one a line: one line of JSON each.
 * GPU 0 is current from the start unless argument 1 is another number; its first line is the codes
 * of starting up. It is compiled for every machine that the tests run on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STATE_SIZE 640

typedef int one(void *);
static void *cuda, *nvml, *context, *handle;
static uint64_t pointer = 7;
static int device, ordinal;

static void *function(const char *name)
{
    void *library = name[0] == 'n' ? nvml : cuda, *found = library ? dlsym(library, name) : NULL;
    if (!found)
        fprintf(stderr, "no %s: %s\n", name, dlerror());
    return found ? found : exit(3), found;
}
#define CALL(name, ...) ((int (*)())function(name))(__VA_ARGS__)

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void state(void)
{
    const unsigned char *at = dlsym(RTLD_DEFAULT, "faultline_state");
    printf("\"");
    for (int i = 0; at && i < STATE_SIZE; i++)
        printf("%02x", at[i]);
    printf("\"\n");
}

static void *in_thread(void *code)
{
    CALL("cuCtxSetCurrent", context);
    *(int *)code = CALL("cuCtxSynchronize");
    return NULL;
}

/* As many threads as asked for synchronize at the same time. */
static void threads(int count)
{
    pthread_t thread[256];
    int code[256];
    for (int i = 0; i < count; i++)
        pthread_create(&thread[i], NULL, in_thread, &code[i]);
    printf("[");
    for (int i = 0; i < count; i++) {
        pthread_join(thread[i], NULL);
        printf("%s%d", i ? "," : "", code[i]);
    }
    printf("]\n");
}

static void allocations(int count)
{
    printf("[");
    for (int i = 0; i < count; i++)
        printf("%s%d", i ? "," : "", CALL("cuMemAlloc_v2", &pointer, (size_t)8));
    printf("]\n");
}

static void by_resolver(const char *name)
{
    void *found = NULL;
    int code = CALL("cuGetProcAddress_v2", name, &found, 12080, (uint64_t)0, NULL);
    printf("[%d,%llu]\n", code, (unsigned long long)(uintptr_t)found);
}

static int sync_by_resolver(void)
{
    one *found = NULL;
    CALL("cuGetProcAddress_v2", "cuCtxSynchronize", &found, 12080, (uint64_t)0, NULL);
    return found(NULL);
}

static int nvml_handle(void)
{
    nvml = nvml ? nvml : dlopen("libnvidia-ml.so.1", RTLD_NOW);
    CALL("nvmlInit_v2");
    return CALL("nvmlDeviceGetHandleByIndex_v2", ordinal, &handle);
}

static int forked(void)
{
    int status = 0;
    pid_t child = fork();
    if (!child)
        _exit(CALL("cuCtxSynchronize") == 719 ? 19 : 0);
    while (wait(&status) != child)
        ;
    return status >> 8;
}

static void obey(const char *word, const char *rest)
{
    uint64_t memory[3];
    int64_t begun = now();
    int number = atoi(rest), code;
    if (!strcmp(word, "alloc"))
        code = CALL("cuMemAlloc_v2", &pointer, (size_t)64),
        printf("[%d,%llu]\n", code, (unsigned long long)pointer);
    else if (!strcmp(word, "sync"))
        printf("%d\n", CALL("cuCtxSynchronize"));
    else if (!strcmp(word, "timed"))
        code = CALL("cuMemAlloc_v2", &pointer, (size_t)64),
        printf("[%d,%lld]\n", code, (long long)(now() - begun));
    else if (!strcmp(word, "free"))
        printf("%d\n", CALL("cuMemFree_v2", pointer));
    else if (!strcmp(word, "copy"))
        printf("%d\n", CALL("cuMemcpyDtoH_v2", memory, pointer, (size_t)8));
    else if (!strcmp(word, "init"))
        printf("%d\n", CALL("cuInit", 0));
    else if (!strcmp(word, "retain"))
        printf("%d\n", CALL("cuDevicePrimaryCtxRetain", &context, device));
    else if (!strcmp(word, "release"))
        printf("%d\n", CALL("cuDevicePrimaryCtxRelease_v2", device));
    else if (!strcmp(word, "version"))
        printf("%d\n", CALL("cuDriverGetVersion", &code));
    else if (!strcmp(word, "create"))
        printf("%d\n", CALL("cuCtxCreate_v2", memory, 0, device));
    else if (!strcmp(word, "call"))
        memory[0] = memory[1] = 7, code = CALL(rest, memory, memory + 1, NULL, NULL, NULL, NULL),
        printf("[%d,%llu,%llu]\n", code, (unsigned long long)memory[0],
               (unsigned long long)memory[1]);
    else if (!strcmp(word, "gpa"))
        by_resolver(rest);
    else if (!strcmp(word, "gpasync"))
        printf("%d\n", sync_by_resolver());
    else if (!strcmp(word, "handle"))
        printf("%d\n", nvml_handle());
    else if (!strcmp(word, "nvml"))
        nvml_handle(), printf("%d\n", CALL("nvmlDeviceGetMemoryInfo", handle, memory));
    else if (!strcmp(word, "memory"))
        printf("%d\n", CALL("nvmlDeviceGetMemoryInfo", handle, memory));
    else if (!strcmp(word, "threads"))
        threads(number);
    else if (!strcmp(word, "allocs"))
        allocations(number);
    else if (!strcmp(word, "rank"))
        printf("%d\n", setenv("RANK", rest, 1));
    else if (!strcmp(word, "fork"))
        printf("%d\n", forked());
    else if (!strcmp(word, "state"))
        state();
    else
        printf("null\n");
}

int main(int count, char **argument)
{
    char line[256], word[64], rest[192];
    ordinal = count > 1 ? atoi(argument[1]) : 0;
    cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (!cuda)
        return fprintf(stderr, "%s\n", dlerror()), 2;
    int a = CALL("cuInit", 0), b = CALL("cuDeviceGet", &device, ordinal);
    int c = CALL("cuDevicePrimaryCtxRetain", &context, device);
    printf("[%d,%d,%d,%d]\n", a, b, c, CALL("cuCtxSetCurrent", context));
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        rest[0] = 0;
        if (sscanf(line, "%63s %191s", word, rest) >= 1)
            obey(word, rest);
        fflush(stdout);
    }
    return 0;
}
