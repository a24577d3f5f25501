/*
 * virtlockd-guard: kills the owners of locks in etcd before the host's lease ends, whatever has become of the daemon. A lease that lapses
 * frees the locks on it; an owner that still writes then would share its disk with another host's guest.
 *
 * The daemon starts it with a socket as descriptor 3, sends it a pidfd of each owner, and moves the deadline on after each keepalive that
 * etcd has answered (guard.h). When the deadline is reached all owners get SIGKILL. Those that are not gone in time after that, because the
 * kernel cannot end them, need the host to go: it reboots at once if the operator has chosen that.
 *
 * The end of its socket disarms nothing: the daemon may have been killed, and its owners go on writing. Only a later deadline does, or the
 * removal of an owner, and there is no name by which another process could connect. The guard ends when its socket has and it has no owner.
 *
 * Nothing here waits but epoll_wait, nothing is allocated after the start, and all pages are locked in memory: it must run when the host
 * has no memory left, or its disks hang.
 *
 * Arguments: `kill` or `reboot`; the file that takes sysrq commands; a watchdog's device or nothing, and its time in seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"
#include "mask.h"
#include "syscalls.h"

#define SOCKET 3
#define MAX_OWNERS 16384
/* Read before the clock is looked at: all that the socket can hold. A deadline that was moved on in time has been moved on. */
#define MESSAGES_AT_ONCE 4096
#define SECOND 1000000000LL
/* Until what has failed is tried again. */
#define AGAIN (SECOND / 2)

/* ---- owners --------------------------------------------------------------------------------------------------- */

static struct owner {
    uint64_t token;
    /* -1: the place is free. */
    int pidfd;
    bool is_killed;
} owners[MAX_OWNERS];

/* Owners; places that have ever been used; owners that were killed and are not gone. */
static uint32_t count, used, dying;
static int events_fd, kill_timer, fence_timer, feed_timer = -1;
static int sysrq = -1, watchdog = -1;
/* The device, or nothing, and the longest time after which it may reset the host. */
static const char *watchdog_device;
static int watchdog_seconds;
/* After which it does, and between two feeds. */
static int64_t watchdog_time, feed_period;
/* The device counts: it resets the host unless it is fed. */
static bool is_counting;
/* It goes on for ever ("nowayout"), and is fed for ever: the kernel logs each attempt to stop it. */
static bool is_unstoppable;
static bool may_reboot, is_alone;
static uint32_t facts;
/* 0: none. */
static int64_t kill_at, gone_by;
static bool has_fired, is_fencing;
/* Owners were killed, and it is not reported yet that they are gone. */
static bool owes_clear;
/* When they were last sent SIGKILL. */
static int64_t fired_at;

/* In the place of an owner's in the event. */
enum { ON_SOCKET = MAX_OWNERS, ON_TIMER, ON_FENCE, ON_FEED };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int watch(int fd, uint32_t place) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = place};
    return epoll_ctl(events_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void set_timer(int timer, int64_t at) {
    struct itimerspec when = {.it_value = {at / SECOND, at % SECOND}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static struct owner *find(uint64_t token) {
    for (uint32_t i = 0; i < used; i++)
        if (owners[i].pidfd >= 0 && owners[i].token == token) return &owners[i];
    return NULL;
}

static void say(uint32_t operation, int status, uint32_t about) {
    struct guard_answer event = {.operation = operation,
                                 .status = status,
                                 .kill_at = kill_at,
                                 .gone_by = gone_by,
                                 .flags = facts,
                                 .process = getpid(),
                                 .count = about};
    if (!is_alone) send(SOCKET, &event, sizeof(event), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void drop(struct owner *owner) {
    if (owner->is_killed) dying--;
    /* The daemon may have the pidfd too, and epoll would go on reporting it. */
    epoll_ctl(events_fd, EPOLL_CTL_DEL, owner->pidfd, NULL);
    close(owner->pidfd);
    owner->pidfd = -1;
    count--;
}

static int send_signal(int pidfd, int signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

/* ---- the watchdog --------------------------------------------------------------------------------------------- */

/* The first time after `wait`, which is not 0; `period` 0: never. */
static void feed_every(int64_t period, int64_t wait) {
    struct itimerspec when = {.it_value = {wait / SECOND, wait % SECOND},
                              .it_interval = {period / SECOND, period % SECOND}};
    feed_period = period;
    timerfd_settime(feed_timer, 0, &when, NULL);
}

static bool set_counting(bool on) {
    int option = on ? WDIOS_ENABLECARD : WDIOS_DISABLECARD;
    if (ioctl(watchdog, WDIOC_SETOPTIONS, &option) < 0) return false;
    is_counting = on;
    return true;
}

/* -EBUSY: another process feeds it, which may be the guard before this one. */
static int open_watchdog(void) {
    struct watchdog_info info;
    int seconds = watchdog_seconds;
    watchdog = open(watchdog_device, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    if (watchdog < 0) return -errno;
    if (ioctl(watchdog, WDIOC_GETSUPPORT, &info) < 0) {
        /* It is none. */
        close(watchdog);
        watchdog = -1;
        return -ENOTTY;
    }
    /* Opening has started it. One that counts in longer steps is fed as well, but would reset the host too late to count. */
    is_counting = true;
    if (ioctl(watchdog, WDIOC_SETTIMEOUT, &seconds) == 0 && seconds > 0 && seconds <= watchdog_seconds)
        facts |= GUARD_FEEDS_WATCHDOG;
    else
        seconds = watchdog_seconds;
    watchdog_time = seconds * SECOND;
    feed_every(watchdog_time / 4, watchdog_time / 4);
    return 0;
}

/* The last time at which it may be fed while there are owners that have been killed. Devices may count some percent too slowly. */
static int64_t last_feed(int64_t share) {
    return gone_by - watchdog_time - watchdog_time / share;
}

/* The host has to go by the lease's end, also where it cannot reboot itself, or hangs in that. */
static bool is_doomed(void) {
    return may_reboot && has_fired && count > 0 && now() > last_feed(32);
}

static void feed(void) {
    if (watchdog < 0) {
        int status = open_watchdog();
        if (status < 0 && status != -EBUSY) feed_every(0, 0);
        return;
    }
    /* Not earlier: a guard that has just begun is about to get those of the one before. */
    if (is_counting && count == 0 && !is_unstoppable) is_unstoppable = !set_counting(false);
    if (!is_counting && (count == 0 || set_counting(true))) return;
    if (is_doomed()) return;
    if (write(watchdog, "", 1) < 0) facts &= ~(uint32_t)GUARD_FEEDS_WATCHDOG;
}

/* Owners have just been killed. Has the device reset the host shortly before the lease ends, and no sooner: they may take that long to die. */
static void align_feeds(void) {
    if (watchdog < 0) return;
    feed();
    int64_t wait = last_feed(16) - now();
    if (may_reboot && is_counting && wait > 0) feed_every(feed_period, wait % feed_period + 1);
}

static void start_watchdog(const char *device, int seconds) {
    if (*device == '\0') return;
    watchdog_device = device;
    watchdog_seconds = seconds;
    feed_timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    watch(feed_timer, ON_FEED);
    feed_every(SECOND / 2, SECOND / 2);
    feed();
}

/* Otherwise it would reset the host. */
static void stop_watchdog(void) {
    if (watchdog >= 0 && write(watchdog, "V", 1) == 1) close(watchdog);
}

/* ---- the deadline --------------------------------------------------------------------------------------------- */

/* Again for those that are there still: a signal can fail for want of memory. */
static void fire(void) {
    uint32_t killed = 0;
    fired_at = now();
    for (uint32_t i = 0; i < used; i++) {
        if (owners[i].pidfd < 0) continue;
        if (send_signal(owners[i].pidfd, SIGKILL) == -ESRCH) {
            drop(&owners[i]);
            continue;
        }
        killed++;
        if (!owners[i].is_killed) dying++;
        owners[i].is_killed = true;
    }
    if (has_fired) return;
    has_fired = owes_clear = true;
    align_feeds();
    say(GUARD_FIRED, 0, killed);
}

static int reboot_host(void) {
    if (!may_reboot) return -EOPNOTSUPP;
    /* The kernel ends nothing and writes nothing back for this one. */
    if (sysrq >= 0 && write(sysrq, "b", 1) == 1) {
        /* Still here: it was a file, or sysrq does not do that here. */
    }
    return reboot(RB_AUTOBOOT) < 0 ? -errno : 0;
}

/* Does what is due by the clock, and sets the timers for what comes next. */
static void look_at_clock(void) {
    int64_t time = now();
    if (kill_at != 0 && time >= kill_at && (!has_fired || (count > 0 && time >= fired_at + AGAIN))) fire();
    if (kill_at != 0 && time >= gone_by && count > 0) {
        int status = reboot_host();
        if (!is_fencing) say(GUARD_FENCING, status, count);
        is_fencing = true;
    }
    if (owes_clear && dying == 0) {
        owes_clear = false;
        /* The device may be about to reset the host. */
        if (watchdog >= 0) feed();
        say(GUARD_CLEARED, 0, 0);
    }
    if (count == 0) is_fencing = false;
    if (kill_at == 0) return;
    set_timer(kill_timer, !has_fired ? kill_at : count > 0 ? time + AGAIN : 0);
    set_timer(fence_timer, count == 0 ? 0 : time < gone_by ? gone_by : time + AGAIN);
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static int add(uint64_t token, int pidfd) {
    uint32_t place = 0;
    if (pidfd < 0) return -EBADF;
    if (kill_at == 0 || now() >= kill_at) return -ETIME;
    if (find(token) != NULL) return -EEXIST;
    int status = send_signal(pidfd, 0);
    if (status < 0) return status;
    while (place < used && owners[place].pidfd >= 0) place++;
    if (place == MAX_OWNERS) return -ENOSPC;
    status = watch(pidfd, place);
    if (status < 0) return status;
    owners[place] = (struct owner){.token = token, .pidfd = pidfd};
    if (place == used) used++;
    count++;
    if (watchdog >= 0 && !is_counting && !set_counting(true)) facts &= ~(uint32_t)GUARD_FEEDS_WATCHDOG;
    return 0;
}

static int remove_owner(uint64_t token) {
    struct owner *owner = find(token);
    if (owner == NULL) return -ENOENT;
    /* One that was killed is waited for: until it is gone it may write. */
    if (!owner->is_killed) drop(owner);
    return 0;
}

static int arm(int64_t at, int64_t by) {
    if (at <= 0 || by < at) return -EINVAL;
    kill_at = at;
    gone_by = by;
    has_fired = is_fencing = false;
    return 0;
}

static int disarm(void) {
    if (count > 0) return -EBUSY;
    kill_at = gone_by = 0;
    has_fired = is_fencing = false;
    set_timer(kill_timer, 0);
    set_timer(fence_timer, 0);
    return 0;
}

static void list(uint64_t from, struct guard_answer *answer) {
    for (uint64_t i = from; i < used; i++) {
        if (owners[i].pidfd < 0) continue;
        answer->token = owners[i].token;
        answer->next = (uint32_t)i + 1;
        if (owners[i].is_killed) answer->flags |= GUARD_OWNER_KILLED;
        return;
    }
}

/* Takes the descriptor, if there is one. */
static void serve(const struct guard_request *request, int attached) {
    struct guard_answer answer = {.operation = request->operation, .serial = request->serial, .token = request->token};
    uint32_t flags = 0;
    switch (request->operation) {
    case GUARD_STATUS:
        break;
    case GUARD_ADD:
        answer.status = add(request->token, attached);
        if (answer.status == 0) attached = -1;
        break;
    case GUARD_REMOVE:
        answer.status = remove_owner(request->token);
        break;
    case GUARD_ARM:
        answer.status = arm(request->kill_at, request->gone_by);
        break;
    case GUARD_DISARM:
        answer.status = disarm();
        break;
    case GUARD_LIST:
        list(request->token, &answer);
        flags = answer.flags;
        break;
    default:
        answer.status = -EOPNOTSUPP;
    }
    if (attached >= 0) close(attached);
    answer.kill_at = kill_at;
    answer.gone_by = gone_by;
    answer.flags = flags | facts | (kill_at > now() ? GUARD_IS_ARMED : 0);
    answer.process = getpid();
    answer.count = count;
    /* Never waits: a daemon that reads nothing must not keep the guard from its clock. */
    send(SOCKET, &answer, sizeof(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void receive(void) {
    for (int i = 0; i < MESSAGES_AT_ONCE && !is_alone; i++) {
        struct guard_request request;
        struct iovec data = {.iov_base = &request, .iov_len = sizeof(request)};
        union {
            char room[CMSG_SPACE(sizeof(int))];
            struct cmsghdr align;
        } control;
        struct msghdr message = {
            .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = CMSG_LEN(sizeof(int))};
        int attached = -1;
        ssize_t size = recvmsg(SOCKET, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (size < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOMEM || errno == ENOBUFS)) return;
        if (size <= 0) {
            epoll_ctl(events_fd, EPOLL_CTL_DEL, SOCKET, NULL);
            is_alone = true;
            return;
        }
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header != NULL && header->cmsg_type == SCM_RIGHTS) memcpy(&attached, CMSG_DATA(header), sizeof(attached));
        if (size == sizeof(request))
            serve(&request, attached);
        else if (attached >= 0)
            close(attached);
    }
}

static void run(void) {
    static struct epoll_event events[64];
    while (!is_alone || count > 0) {
        uint64_t ticks;
        int ready = epoll_wait(events_fd, events, sizeof(events) / sizeof(*events), -1);
        for (int i = 0; i < ready; i++) {
            uint32_t place = events[i].data.u32;
            if (place < MAX_OWNERS) {
                if (owners[place].pidfd >= 0) drop(&owners[place]);
            } else if (place == ON_TIMER || place == ON_FENCE || place == ON_FEED) {
                int timer = place == ON_TIMER ? kill_timer : place == ON_FENCE ? fence_timer : feed_timer;
                if (read(timer, &ticks, sizeof(ticks)) < 0) continue;
                if (place == ON_FEED) feed();
            }
        }
        /* Also when only the clock has woken us: a deadline that was moved on before that counts. */
        receive();
        look_at_clock();
    }
}

/* ---- the start ------------------------------------------------------------------------------------------------ */

static int make_timer(void) {
    int timer = timerfd_create(CLOCK_BOOTTIME_ALARM, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer >= 0) {
        facts |= GUARD_WAKES_HOST;
        return timer;
    }
    return timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
}

static bool has_capability(int number) {
    /* CapEff of /proc/self/status would do as well, but /proc need not be mounted. */
    struct {
        uint32_t version;
        int pid;
    } head = {0x20080522, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } data[2] = {{0}};
    if (syscall(SYS_capget, &head, data) < 0) return false;
    return data[number / 32].effective >> number % 32 & 1;
}

#define CAPABILITY_BOOT 22

static void prepare(char **argv) {
    struct rlimit files = {0};
    struct sched_param priority = {.sched_priority = 1};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    may_reboot = strcmp(argv[1], "reboot") == 0;
    if (may_reboot) {
        sysrq = open(argv[2], O_WRONLY | O_CLOEXEC);
        if (sysrq >= 0 || has_capability(CAPABILITY_BOOT)) facts |= GUARD_MAY_REBOOT;
    }
    int exempt = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (exempt >= 0 && write(exempt, "-1000", 5) == 5) facts |= GUARD_IS_OOM_EXEMPT;
    close(exempt);
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) == 0) facts |= GUARD_IS_REALTIME;
    for (uint32_t i = 0; i < MAX_OWNERS; i++) owners[i].pidfd = -1;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0) facts |= GUARD_IS_LOCKED_IN_MEMORY;
    start_watchdog(argv[3], atoi(argv[4]));
}

/* The daemon may have been about to execute itself, with descriptors that are not close-on-exec. */
static void close_others(void) {
    struct rlimit limit = {0};
    if (syscall(SYS_close_range, SOCKET + 1, ~0U, 0) == 0) return;
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = SOCKET + 1; (rlim_t)fd < limit.rlim_cur && fd < 1 << 16; fd++) close(fd);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    change_mask(SIG_SETMASK, ALL_SIGNALS, NULL);
    /* Not a child of the daemon, which would have to reap it, nor in its session, nor the leader of one, whom a terminal could choose. */
    setsid();
    pid_t child = fork();
    if (child != 0) return child < 0;
    close_others();
    prctl(PR_SET_NAME, "virtlockd-guard");
    if (chdir("/") < 0) return 1;
    events_fd = epoll_create1(EPOLL_CLOEXEC);
    kill_timer = make_timer();
    fence_timer = make_timer();
    if (events_fd < 0 || kill_timer < 0 || fence_timer < 0) return 1;
    if (watch(SOCKET, ON_SOCKET) < 0 || watch(kill_timer, ON_TIMER) < 0 || watch(fence_timer, ON_FENCE) < 0) return 1;
    prepare(argv);
    run();
    stop_watchdog();
    return 0;
}
