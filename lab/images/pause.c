/* SPDX-License-Identifier: Apache-2.0
 * First process of a pod: waits for its end and collects orphans. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

static void collect(int signal_number)
{
    (void)signal_number;
    while (waitpid(-1, 0, WNOHANG) > 0)
        ;
}

int main(void)
{
    signal(SIGTERM, end);
    signal(SIGINT, end);
    signal(SIGCHLD, collect);
    for (;;)
        pause();
}
