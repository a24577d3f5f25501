/*
 * A service that has systemd keep descriptors of so many files: stored COUNT DIRECTORY
 *
 * Prints a line of JSON at every start: when that was, how many descriptors it was given, and, if it was none, what storing them took.
 * Times are ms. Static, so that it runs in any tree.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int notifications;
static struct sockaddr_un manager = { .sun_family = AF_UNIX };
static socklen_t manager_length;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

/* As sd_pid_notify_with_fds(3); -1: without a descriptor. */
static void notify(const char *state, int fd) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
    struct iovec bytes = { (void *)(uintptr_t)state, strlen(state) };
    struct msghdr message = { .msg_name = &manager, .msg_namelen = manager_length, .msg_iov = &bytes, .msg_iovlen = 1 };
    if (fd >= 0) {
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
    }
    if (sendmsg(notifications, &message, MSG_NOSIGNAL) < 0) err(1, "%s", state);
}

/* Until systemd has processed everything before it. */
static void await_barrier(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) err(1, "pipe");
    notify("BARRIER=1", ends[1]);
    close(ends[1]);
    struct pollfd hangup = { .fd = ends[0] };
    poll(&hangup, 1, -1);
    close(ends[0]);
}

static void store(const char *directory, int number) {
    char file[256], state[64];
    snprintf(file, sizeof file, "%s/%d", directory, number);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) err(1, "%s", file);
    snprintf(state, sizeof state, "FDSTORE=1\nFDNAME=f%x\nFDPOLL=0", (unsigned)number);
    notify(state, fd);
}

int main(int argc, char **argv) {
    const char *path = getenv("NOTIFY_SOCKET"), *given = getenv("LISTEN_FDS");
    if (argc != 3 || path == NULL || strlen(path) >= sizeof manager.sun_path) errx(1, "usage: stored COUNT DIRECTORY, as a service");
    double start = now(), all = 0, one = 0;
    int count = atoi(argv[1]);
    strcpy(manager.sun_path, path);
    if (*path == '@') manager.sun_path[0] = 0;
    manager_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    notifications = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    notify("READY=1", -1);
    if (given == NULL) {
        for (int i = 0; i < count; i++) store(argv[2], i);
        await_barrier();
        all = now() - start;
        store(argv[2], count);
        await_barrier();
        one = now() - start - all;
    }
    printf("{\"start\": %.3f, \"given\": %d, \"all\": %.3f, \"one\": %.3f}\n", start, given == NULL ? 0 : atoi(given), all, one);
    fflush(stdout);
    for (;;) pause();
}
