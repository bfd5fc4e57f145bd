/* SPDX-License-Identifier: Apache-2.0
 * Nanoseconds of one call of a driver function that does nothing, as one number on stdout. */
#include <stdio.h>
#include <time.h>

int cuCtxSetCurrent(void *context);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double per_call(long calls)
{
    double begun = now();
    for (long i = 0; i < calls; i++)
        cuCtxSetCurrent((void *)i);
    return (now() - begun) / (double)calls;
}

int main(void)
{
    double best = 1e9;
    long calls = 1000;
    /* As many calls as fit into a tenth of a second, whatever one of them costs. */
    calls = (long)(1e8 / per_call(calls)) + 1;
    for (int i = 0; i < 5; i++) {
        double one = per_call(calls / 5 + 1);
        best = one < best ? one : best;
    }
    printf("%.4f\n", best);
    return 0;
}
