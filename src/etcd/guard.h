/*
 * The messages between the daemon (guard.ts) and its guard (guard.c), in the byte order of the host. Each is one packet of a SOCK_SEQPACKET
 * socket. A guard may be older than the daemon, and serve it for months: numbers and fields here never change.
 */
#ifndef GUARD_H
#define GUARD_H

#include <stdint.h>

enum {
    /* Answered with what the guard is and has. */
    GUARD_STATUS = 1,
    /*
     * An owner's pidfd comes with it. -ETIME: no deadline, or it is past; -ENOSPC: no room; -EEXIST: its token is there already; -EBADF:
     * no pidfd; -ESRCH: the process is gone; -EPERM: it may not be killed.
     */
    GUARD_ADD = 2,
    /* -ENOENT: there is no such owner, or it is gone. */
    GUARD_REMOVE = 3,
    /* Sets the deadlines, sooner or later ones. */
    GUARD_ARM = 4,
    /* -EBUSY: there are owners. */
    GUARD_DISARM = 5,
    /* The owner at the place `token` or the next one: the answer has its token, and in `next` the place to go on from; 0: no more. */
    GUARD_LIST = 6,
};

/* Without being asked. */
enum {
    /* At the deadline: `count` owners have got SIGKILL. */
    GUARD_FIRED = 16,
    /* All those are gone. */
    GUARD_CLEARED = 17,
    /* `count` of them are not gone in time. `status`: of the reboot, -EOPNOTSUPP where none is wanted. */
    GUARD_FENCING = 18,
};

struct guard_request {
    uint32_t operation;
    uint32_t reserved;
    uint64_t serial;
    /* An owner, by the daemon's number. */
    uint64_t token;
    /* CLOCK_BOOTTIME in nanoseconds: when owners are killed, and by when they must be gone. */
    int64_t kill_at;
    int64_t gone_by;
};

/* What the guard is. */
enum {
    /* A deadline is set, and not past. */
    GUARD_IS_ARMED = 1,
    GUARD_IS_LOCKED_IN_MEMORY = 2,
    GUARD_IS_OOM_EXEMPT = 4,
    GUARD_IS_REALTIME = 8,
    /* Its timer wakes a suspended host. */
    GUARD_WAKES_HOST = 16,
    /* While it has owners. */
    GUARD_FEEDS_WATCHDOG = 32,
    /* It was told to, and is allowed to. */
    GUARD_MAY_REBOOT = 64,
    /* GUARD_LIST: the owner was killed, and is not gone. */
    GUARD_OWNER_KILLED = 128,
};

struct guard_answer {
    uint32_t operation;
    /* 0 or -errno. */
    int32_t status;
    uint64_t serial;
    uint64_t token;
    int64_t kill_at;
    int64_t gone_by;
    uint32_t flags;
    int32_t process;
    /* How many owners it has, or those that the message is about. */
    uint32_t count;
    uint32_t next;
};

_Static_assert(sizeof(struct guard_request) == 40 && sizeof(struct guard_answer) == 56, "guard.ts knows these sizes");

#endif
