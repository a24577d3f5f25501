/*
 * launch [-SIGNAL...] PROGRAM ARGUMENT...: executes the daemon's runtime with all signals blocked, and preloads guard.so, which
 * stands beside this program and keeps them blocked until the daemon listens. Each SIGNAL is the number of one that has come already.
 *
 * LD_PRELOAD names the library by a descriptor, because it cannot hold a path with a blank or a colon. Without the library the
 * daemon runs, but its proof fails.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mask.h"

/* The table for so many descriptors takes 64 KiB. */
#define ROOM 8192

static int open_beside(const char *name) {
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
    if (length < 0 || (size_t)length >= sizeof(path)) return -1;
    path[length] = '\0';
    char *file = strrchr(path, '/') + 1;
    if ((size_t)(file - path) + strlen(name) >= sizeof(path)) return -1;
    strcpy(file, name);
    return open(path, O_RDONLY);
}

static void preload(int fd) {
    const char *others = getenv("LD_PRELOAD");
    char *list;
    if (fd < 0) return;
    if (asprintf(&list, "/proc/self/fd/%d%s%s", fd, others == NULL ? "" : ":", others == NULL ? "" : others) < 0) return;
    setenv("LD_PRELOAD", list, 1);
}

/*
 * Makes the table of descriptors large, for those that the daemon may find in flight (src/store/in-flight.ts). Later, in a process of many
 * threads, the kernel would wait some 10 ms each time that the table grows.
 */
static void make_room(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    rlim_t room = limit.rlim_cur < ROOM ? limit.rlim_cur : ROOM;
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)room - 1);
    if (fd >= 0) close(fd);
}

int main(int count, char **arguments) {
    (void)count;
    change_mask(SIG_SETMASK, ALL_SIGNALS, NULL);
    for (arguments++; *arguments != NULL && **arguments == '-'; arguments++) kill(getpid(), atoi(*arguments + 1));
    if (*arguments == NULL) return 2;
    preload(open_beside("guard.so"));
    make_room();
    execv(*arguments, arguments);
    perror(*arguments);
    return 126;
}
