/* SPDX-License-Identifier: Apache-2.0
 * Sixty-four threads that use the driver for the first time at the same moment, while the process
 * forks: prints how many of threads and children got another code than argument 1, 0 by default. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 64
#define CHILDREN 8

int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *);
int cuCtxSynchronize(void), cuGetProcAddress_v2(const char *, void **, int, uint64_t, void *);

static pthread_barrier_t gate;
static int wanted, wrong;

static int use(void)
{
    void *context, *library = dlopen("libcuda.so.1", RTLD_NOW);
    int (*by_name)(void) = (int (*)(void))dlsym(library, "cuCtxSynchronize");
    int (*by_driver)(void) = NULL;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context))
        return -1;
    if (cuGetProcAddress_v2("cuCtxSynchronize", (void **)&by_driver, 12080, 0, NULL))
        return -2;
    int codes[] = {cuCtxSynchronize(), by_name(), by_driver()};
    return codes[0] == codes[1] && codes[1] == codes[2] ? codes[0] : -3;
}

static void *thread(void *nothing)
{
    pthread_barrier_wait(&gate);
    if (use() != wanted)
        __atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
    return nothing;
}

int main(int count, char **argument)
{
    pthread_t all[THREADS];
    wanted = count > 1 ? atoi(argument[1]) : 0;
    pthread_barrier_init(&gate, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&all[i], NULL, thread, NULL);
    pthread_barrier_wait(&gate);
    for (int i = 0; i < CHILDREN; i++)
        if (!fork())
            _exit(use() != wanted);
    for (int i = 0; i < THREADS; i++)
        pthread_join(all[i], NULL);
    for (int i = 0, status; i < CHILDREN; i++)
        wrong += wait(&status) < 0 || status;
    printf("%d", wrong);
    return 0;
}
