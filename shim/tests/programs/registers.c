/* SPDX-License-Identifier: Apache-2.0
 * Calls a function of each class twice, the first time unresolved, with every register and stack
 * word that a call may be made of set to something else, and compares what the driver found there.
 * Argument 1 is how many bytes of a vector register are looked at, at most what the processor has.
 * Prints JSON: by function the codes of both calls (-1: a register that a function has to keep has
 * changed, or the stack was not aligned) and what came through wrong. */
#include "registers.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int call_with(void *function, const struct registers *given);
struct registers *registers_seen(int width);

int cuDriverGetVersion(void), cuLaunchKernel(void), cuStreamSynchronize(void);
int cuDevicePrimaryCtxRetain(void), cuMemFree_v2(void);

int vector_width = 16;
static struct registers *seen;
static const char *comma = "", *between;

#ifdef __x86_64__
#define RETURN_ADDRESS 8
#define USED 8
static int width(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") ? 64 : __builtin_cpu_supports("avx") ? 32 : 16;
}
#else
#define RETURN_ADDRESS 0
#define USED GENERAL
static int width(void)
{
    return 16;
}
#endif

static void fill(struct registers *given)
{
    static unsigned char next;
    for (unsigned i = 0; i < sizeof(*given); i++)
        ((unsigned char *)given)[i] = next = (unsigned char)(next * 5 + 73);
}

/* Whether the callee finds the stack as it has to be: aligned before the return address. */
static int aligned(uint64_t sp)
{
    return (sp + RETURN_ADDRESS) % 16 == 0;
}

static void say_wrong(const char *what, int number)
{
    printf("%s\"%s %d\"", between, what, number), between = ",";
}

static void compare(const struct registers *given, int with_stack)
{
    for (int i = 0; i < USED; i++)
        if (seen->general[i] != given->general[i])
            say_wrong("general", i);
    for (int i = 0; with_stack && i < STACKED; i++)
        if (seen->stack[i] != given->stack[i])
            say_wrong("stack", i);
    for (int i = 0; i < VECTORS; i++)
        if (memcmp(seen->vector[i], given->vector[i], (size_t)vector_width))
            say_wrong("vector", i);
}

/* What waits and what gives back is called by the shim: it has no arguments on the stack. */
static void try_out(const char *name, void *function)
{
    int codes[2], with_stack = strcmp(name, "cuStreamSynchronize") && strcmp(name, "cuMemFree_v2");
    struct registers given;
    printf("%s\"%s\":{\"wrong\":[", comma, name), comma = ",", between = "";
    for (int i = 0; i < 2; i++) {
        fill(&given);
        memset(seen, 0, sizeof(*seen));
        codes[i] = call_with(function, &given);
        if (seen->sp && !aligned(seen->sp))
            codes[i] = -1;
        if (seen->sp)
            compare(&given, with_stack);
    }
    printf("],\"codes\":[%d,%d]}", codes[0], codes[1]);
}

int main(int count, char **argument)
{
    int wanted = count > 1 ? atoi(argument[1]) : WIDEST;
    vector_width = wanted < width() ? wanted : width();
    seen = registers_seen(vector_width);
    printf("{");
    try_out("cuDriverGetVersion", (void *)cuDriverGetVersion);
    try_out("cuLaunchKernel", (void *)cuLaunchKernel);
    try_out("cuStreamSynchronize", (void *)cuStreamSynchronize);
    try_out("cuDevicePrimaryCtxRetain", (void *)cuDevicePrimaryCtxRetain);
    try_out("cuMemFree_v2", (void *)cuMemFree_v2);
    try_out("cuFutureCall", dlsym(dlopen("libcuda.so.1", RTLD_NOW), "cuFutureCall"));
    printf(",\"width\":%d}\n", vector_width);
    return 0;
}
