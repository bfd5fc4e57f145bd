/* SPDX-License-Identifier: Apache-2.0
 * Gives up its rights before it uses the driver when there is an argument. Prints whether the shim
 * is in the process, and the code of a call. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **argument)
{
    (void)argument;
    char line[512];
    int there = 0, code = -1;
    void *context;
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW);
    if (count > 1 && seteuid(65534))
        return 3;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof(line), maps))
        there |= strstr(line, "libfaultline.so") != NULL;
    if (cuda) {
        int (*init)(unsigned) = (int (*)(unsigned))dlsym(cuda, "cuInit");
        int (*retain)(void **, int) =
            (int (*)(void **, int))dlsym(cuda, "cuDevicePrimaryCtxRetain");
        code = init(0) ? -2 : retain(&context, 0);
    }
    printf("%d %d", there, code);
    return 0;
}
