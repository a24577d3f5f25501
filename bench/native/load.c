/*
 * The load generator: load SOCKET DIRECTORY PID apart|together|free
 *
 * Reads commands from standard input, one a line, and answers each with one line of JSON. It checks every reply of the daemon
 * completely; the first wrong or missing one ends the program with {"error": …}. DIRECTORY is for lock files, and becomes a
 * lockspace of the daemon. PID is the daemon's, whose CPU time and memory are reported beside the rates. The last argument says
 * on which processors the daemon's main thread and this program run: on a machine with two, the scheduler's choice changes from
 * second to second, and a request between two processors costs seven times as much.
 *
 *     register CONNECTIONS SECONDS      acquire CONNECTIONS SECONDS     cycle SECONDS     shared OWNERS SECONDS
 *     probe SECONDS TIMEOUT             idle COUNT                      hold COUNT        drop COUNT
 *     arrival COUNT                     crowd COUNT                     departure         memory
 *     owner COUNT                       stubborn COUNT
 *     names COUNT                       owner-names COUNT
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "events.h"
#include "measure.h"
#include "peers.h"
#include "rates.h"

static void pin(pid_t pid, size_t processor) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(pid, sizeof set, &set) != 0) fail("cannot choose the processor of %d", pid);
}

static void place(const char *placement) {
    cpu_set_t allowed;
    size_t processors[2];
    int found = 0;
    if (strcmp(placement, "free") == 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (size_t i = 0; i < CPU_SETSIZE && found < 2; i++) {
        if (CPU_ISSET(i, &allowed)) processors[found++] = i;
    }
    if (found < 2) return;
    pin(target.daemon, processors[0]);
    pin(0, processors[strcmp(placement, "apart") == 0 ? 1 : 0]);
}

static void answer_interval(const struct interval *interval) {
    printf("{");
    print_interval(interval);
    printf("}\n");
}

static void obey(const char *command, double first, double second) {
    unsigned count = (unsigned)first;
    struct interval interval = begin_interval(target.daemon);
    if (strcmp(command, "register") == 0) return run_register(count, second);
    if (strcmp(command, "acquire") == 0) return run_acquire(count, second);
    if (strcmp(command, "cycle") == 0) return run_cycle(first);
    if (strcmp(command, "shared") == 0) return run_shared(count, second);
    if (strcmp(command, "probe") == 0) return run_probe(first, second);
    if (strcmp(command, "arrival") == 0) return run_arrival(count);
    if (strcmp(command, "departure") == 0) return run_departure();
    if (strcmp(command, "owner") == 0) return run_owner_end(count, false);
    if (strcmp(command, "stubborn") == 0) return run_owner_end(count, true);
    if (strcmp(command, "owner-names") == 0) return run_names_end(count);
    if (strcmp(command, "idle") == 0) set_idle(count);
    else if (strcmp(command, "crowd") == 0) gather_crowd(count);
    else if (strcmp(command, "hold") == 0) exchange_many(ACQUIRE, KIND_HELD, count, NOBODY, AUTOCREATE);
    else if (strcmp(command, "drop") == 0) exchange_many(RELEASE, KIND_HELD, count, NOBODY, 0);
    else if (strcmp(command, "names") == 0) {
        make_names(KIND_HELD_NAMES, count);
        exchange_many(ACQUIRE, KIND_HELD_NAMES, count, NOBODY, SHARED);
    } else if (strcmp(command, "memory") != 0) fail("unknown command %s", command);
    answer_interval(&interval);
}

int main(int argc, char **argv) {
    if (argc != 5) fail("usage: load SOCKET DIRECTORY PID apart|together|free");
    target = (struct target){.socket = argv[1], .directory = argv[2], .daemon = (pid_t)atoi(argv[3])};
    raise_descriptors();
    place(argv[4]);
    signal(SIGPIPE, SIG_IGN);
    /* The kernel reaps children: the daemon, which waits for their end, would take a zombie for alive. */
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);
    struct request lockspace = lockspace_request(target.directory);
    int fd = connect_registered(NOBODY);
    call(fd, &lockspace, 2);
    close(fd);

    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        char command[16];
        double first = 0, second = 0;
        if (sscanf(line, "%15s %lf %lf", command, &first, &second) < 1) continue;
        obey(command, first, second);
        fflush(stdout);
    }
    return 0;
}
