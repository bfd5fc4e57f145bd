/* SPDX-License-Identifier: Apache-2.0
 * Waits for the driver twice and says with what code each wait ended. */
#include <stdio.h>

int cuInit(unsigned flags);
int cuStreamSynchronize(void *stream);

int main(void)
{
    cuInit(0);
    for (int i = 0; i < 2; i++) {
        printf("%d\n", cuStreamSynchronize((void *)0));
        fflush(stdout);
    }
    return 0;
}
