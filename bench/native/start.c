/*
 * start ROUNDS PROGRAM [ARGUMENT…]
 *
 * Runs a program that often, one after the other, and prints the milliseconds from fork to its end as a JSON array: the bare start
 * of a runtime.
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "measure.h"
#include "wire.h"

int main(int argc, char **argv) {
    char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    if (argc < 3) fail("usage: start ROUNDS PROGRAM [ARGUMENT…]");
    int rounds = atoi(argv[1]);
    printf("[");
    for (int i = 0; i < rounds; i++) {
        int status;
        pid_t pid;
        uint64_t begun = now();
        if (posix_spawn(&pid, argv[2], NULL, NULL, argv + 2, environment) != 0) fail("cannot start %s", argv[2]);
        if (waitpid(pid, &status, 0) != pid || status != 0) fail("%s ended with status %d", argv[2], status);
        printf("%s%.3f", i == 0 ? "" : ", ", (double)(now() - begun) / 1e6);
    }
    printf("]\n");
    return 0;
}
