#define _GNU_SOURCE
#include "events.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"
#include "peers.h"

static struct waits waits;

static void nap(void) {
    const struct timespec pause = {.tv_nsec = 100000};
    nanosleep(&pause, NULL);
}

struct arrival {
    int fd;
    uint64_t start;
};

void run_arrival(unsigned count) {
    struct arrival *arrivals = calloc(count, sizeof *arrivals);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (arrivals == NULL || epoll < 0) fail("no memory or descriptor for arrivals");
    memset(&waits, 0, sizeof waits);
    struct interval interval = begin_interval(target.daemon);
    for (unsigned i = 0; i < count; i++) {
        arrivals[i].start = now();
        arrivals[i].fd = dial(target.socket);
        struct request request = register_request(NOBODY + i);
        put32(request.bytes + SERIAL_OFFSET, i);
        if (!write_all(arrivals[i].fd, request.bytes, request.length)) fail("write: %s", strerror(errno));
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, arrivals[i].fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
    }
    uint64_t at = 0;
    for (unsigned left = count; left > 0; left--) {
        struct epoll_event event;
        uint8_t reply[REPLY_SIZE];
        if (epoll_wait(epoll, &event, 1, 60000) != 1) fail("%u arrivals were not answered", left);
        struct arrival *arrival = &arrivals[event.data.u32];
        if (!read_all(arrival->fd, reply, REPLY_SIZE)) fail("an arrival was closed");
        at = now();
        check_reply(reply, REGISTER, event.data.u32);
        add_wait(&waits, at - arrival->start);
        epoll_ctl(epoll, EPOLL_CTL_DEL, arrival->fd, NULL);
    }
    printf("{");
    print_waits(&waits, count, (double)(at - interval.start) / 1e9);
    printf(", ");
    print_interval(&interval);
    printf("}\n");
    for (unsigned i = 0; i < count; i++) close(arrivals[i].fd);
    close(epoll);
    free(arrivals);
}

/* A child process, with a pipe to report that it is ready, and one that orders its end. */
struct child {
    pid_t pid;
    int ready, order;
};

static void read_byte(int fd, const char *what) {
    char byte;
    if (read(fd, &byte, 1) != 1) fail("%s ended early", what);
}

/* In the child, returns pid 0, with `ready` to write to and `order` to read from. The child has no connection of the parent. */
static struct child make_child(void) {
    int ready[2], order[2];
    if (pipe(ready) != 0 || pipe(order) != 0) fail("pipe: %s", strerror(errno));
    fflush(stdout);
    struct child child = {.pid = fork(), .ready = ready[0], .order = order[1]};
    if (child.pid < 0) fail("fork: %s", strerror(errno));
    if (child.pid == 0) {
        /* 3 and 4 become the child's ends; descriptors above are closed. */
        if (dup2(ready[1], 1000) < 0 || dup2(order[0], 1001) < 0 || dup2(1000, 3) < 0 || dup2(1001, 4) < 0) _exit(1);
        close_range(5, ~0u, 0);
        child.ready = 3;
        child.order = 4;
    } else {
        close(ready[1]);
        close(order[0]);
    }
    return child;
}

static void end_child(struct child child) {
    kill(child.pid, SIGKILL);
    close(child.ready);
    close(child.order);
}

static struct child crowd;
static long before_crowd;

void gather_crowd(unsigned count) {
    before_crowd = open_descriptors(target.daemon);
    crowd = make_child();
    if (crowd.pid == 0) {
        int *fds = calloc(count, sizeof *fds);
        if (fds == NULL) _exit(1);
        connect_many(fds, count);
        if (write(crowd.ready, "r", 1) != 1) _exit(1);
        read_byte(crowd.order, "the parent");
        _exit(0);
    }
    read_byte(crowd.ready, "the crowd");
}

void run_departure(void) {
    if (crowd.pid == 0) fail("nobody can leave");
    struct interval interval = begin_interval(target.daemon);
    end_child(crowd);
    crowd.pid = 0;
    while (open_descriptors(target.daemon) > before_crowd) nap();
    printf("{");
    print_interval(&interval);
    printf("}\n");
}

static void be_owner(struct child child, bool stubborn) {
    if (stubborn) signal(SIGTERM, SIG_IGN);
    int fd = connect_registered((uint32_t)getpid());
    if (write(child.ready, "r", 1) != 1) _exit(1);
    read_byte(child.order, "the parent");
    close(fd);
    for (;;) pause();
}

/* An owner with that many acquired resources. */
static struct child make_owner(unsigned kind, unsigned count, uint32_t flags, bool stubborn) {
    struct child child = make_child();
    if (child.pid == 0) be_owner(child, stubborn);
    read_byte(child.ready, "the owner");
    exchange_many(ACQUIRE, kind, count, (uint32_t)child.pid, flags);
    return child;
}

void run_owner_end(unsigned count, bool stubborn) {
    struct child child = make_owner(KIND_OWNED, count, AUTOCREATE, stubborn);
    struct interval interval = begin_interval(target.daemon);
    if (stubborn) {
        if (write(child.order, "e", 1) != 1) fail("write: %s", strerror(errno));
    } else {
        kill(child.pid, SIGKILL);
    }
    for (unsigned i = 0; i < count; i++) {
        const char *path = path_of(name_of(KIND_OWNED, i));
        while (access(path, F_OK) == 0) nap();
    }
    printf("{");
    print_interval(&interval);
    /* SIGCHLD is ignored, so a dead child is gone at once. */
    while (stubborn && kill(child.pid, 0) == 0) nap();
    printf(", \"processGone\": %.6f}\n", (double)(now() - interval.start) / 1e9);
    end_child(child);
}

void run_names_end(unsigned count) {
    make_names(KIND_OWNED_NAMES, count);
    long before = open_descriptors(target.daemon);
    struct child child = make_owner(KIND_OWNED_NAMES, count, SHARED, false);
    struct interval interval = begin_interval(target.daemon);
    end_child(child);
    while (open_descriptors(target.daemon) > before) nap();
    printf("{");
    print_interval(&interval);
    printf("}\n");
}
