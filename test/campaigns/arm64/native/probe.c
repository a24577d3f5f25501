/*
 * Asks the kernel for what the lock daemon asks of it, and prints a line for each thing: its name, a tab, and `ok` or what came instead.
 * Run under QEMU's user mode and without it, on one kernel, it shows what is the emulation's: see ../emulation.ts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "syscalls.h"

/* Why a probe has failed, without an error of the kernel's. */
static char reason[256];
/* The first word of this program's own command line. */
static const char *own_name;

/* -1, for `return wrong(...)`. */
__attribute__((format(printf, 1, 2))) static int wrong(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(reason, sizeof(reason), format, values);
    va_end(values);
    return -1;
}

/* A process that waits for its end. */
static pid_t sleeper(void) {
    pid_t pid = fork();
    if (pid != 0) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
}

static int end(pid_t pid) {
    kill(pid, SIGKILL);
    return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static int file(void) { return open("/tmp", O_TMPFILE | O_RDWR, 0600); }

static int lock(int fd, int command, short type) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
    return fcntl(fd, command, &range);
}

static int child_with_shared_descriptors(void) {
    long pid = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0UL);
    if (pid == 0) _exit(0);
    return pid < 0 ? -1 : waitpid((pid_t)pid, NULL, 0) == pid ? 0 : -1;
}

static int child_without_descriptors(void) {
    int fd = file(), status;
    pid_t pid = fork();
    if (pid == 0) _exit(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_UNSHARE) < 0 ? errno : fcntl(fd, F_GETFD) < 0 ? 0 : 255);
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
    errno = WEXITSTATUS(status);
    return errno == 0 ? 0 : errno == 255 ? wrong("the descriptor is open") : -1;
}

static int pidfd(void) {
    pid_t pid = sleeper();
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return -1;
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) return -1;
    if (epoll_wait(epoll, &event, 1, 0) != 0) return wrong("reports an end before there is one");
    if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0) return -1;
    if (epoll_wait(epoll, &event, 1, 5000) != 1) return wrong("does not report the end");
    return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static int descriptor_of_another(void) {
    pid_t pid = sleeper();
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 || syscall(SYS_pidfd_getfd, fd, 0, 0) < 0) return -1;
    return end(pid);
}

static int open_file_description_lock(void) {
    int one = file();
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", one);
    int two = open(path, O_RDWR);
    if (one < 0 || two < 0 || lock(one, F_OFD_SETLK, F_WRLCK) < 0) return -1;
    if (lock(two, F_OFD_SETLK, F_WRLCK) == 0) return wrong("does not keep out another open file");
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    if (fcntl(two, F_OFD_GETLK, &range) < 0) return -1;
    return range.l_type == F_WRLCK && range.l_pid == -1 ? 0 : wrong("F_OFD_GETLK: type %d, pid %d", range.l_type, range.l_pid);
}

/* How /proc lists a process's lock on a descriptor. */
static int is_listed(int fd) {
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    int info = open(path, O_RDONLY);
    ssize_t length = info < 0 ? -1 : read(info, text, sizeof(text) - 1);
    if (length < 0) return -1;
    text[length] = 0;
    close(info);
    return strstr(text, "POSIX  ADVISORY  WRITE") != NULL ? 0 : wrong("fdinfo: %s", text);
}

/* Runs this program again, in this process, to do the rest of a probe. */
static int again(const char *what, int value) {
    char text[16];
    snprintf(text, sizeof(text), "%d", value);
    execl("/proc/self/exe", "probe", what, text, (char *)NULL);
    return -1;
}

static int lock_over_exec(void) {
    int fd = file();
    if (fd < 0 || lock(fd, F_SETLK, F_WRLCK) < 0) return -1;
    return again("listed", fd);
}

static int mask_over_exec(void) {
    sigset_t signals;
    sigfillset(&signals);
    sigprocmask(SIG_SETMASK, &signals, NULL);
    kill(getpid(), SIGUSR1);
    return again("pending", 0);
}

static int is_pending(void) {
    sigset_t signals;
    if (sigpending(&signals) < 0) return -1;
    return sigismember(&signals, SIGUSR1) == 1 ? 0 : wrong("the signal is lost");
}

static int signals_of_another(void) {
    char path[64], line[256];
    pid_t pid = sleeper();
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *status = fopen(path, "r");
    uint64_t caught = 0;
    while (status != NULL && fgets(line, sizeof(line), status) != NULL) sscanf(line, "SigCgt: %lx", &caught);
    end(pid);
    return caught == 0 ? 0 : wrong("catches all that end a process, as /proc has it");
}

static int program_of_another(void) {
    char path[64], own[PATH_MAX] = "", other[PATH_MAX] = "";
    pid_t pid = sleeper();
    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    bool is_read = readlink("/proc/self/exe", own, PATH_MAX - 1) > 0 && readlink(path, other, PATH_MAX - 1) > 0;
    if (end(pid) < 0 || !is_read) return -1;
    return strcmp(own, other) == 0 ? 0 : wrong("%s", other);
}

static int words_of_another(void) {
    char path[64], words[PATH_MAX] = "";
    pid_t pid = sleeper();
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    int fd = open(path, O_RDONLY);
    bool is_read = fd >= 0 && read(fd, words, sizeof(words) - 1) > 0;
    if (end(pid) < 0 || !is_read) return -1;
    return strcmp(words, own_name) == 0 ? 0 : wrong("%s", words);
}

/* A number of this process's own stat file; -1: it has no such field. */
static long own_stat(int wanted) {
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (length < 0) return -1;
    close(fd);
    text[length] = 0;
    char *word = strrchr(text, ')');
    for (int field = 2; field < wanted && word != NULL; field++) word = strchr(word + 1, ' ');
    return word == NULL ? -1 : strtol(word, NULL, 10);
}

static int own_memory(void) { return own_stat(24) > 0 ? 0 : wrong("%ld pages", own_stat(24)); }

static int start_over_exec(void) {
    /* Longer than a clock tick. */
    usleep(50000);
    return again("started", (int)own_stat(22));
}

static int has_started(int before) { return own_stat(22) == before ? 0 : wrong("%ld after %d", own_stat(22), before); }

static int send_descriptor(int socket, int fd) {
    char byte = 0;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    return sendmsg(socket, &message, 0) == 1 ? 0 : -1;
}

static int receive_descriptor(int socket, int flags) {
    char byte;
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    if (recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC) != 1) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    int fd;
    if (header == NULL) return wrong("no descriptor came");
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
}

/* As the queue of locked files is sent to itself: many times over, and read without being taken. */
static int descriptors_in_flight(void) {
    int pair[2], fd = file();
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0 || send_descriptor(pair[0], fd) < 0) return -1;
    int peeked = receive_descriptor(pair[1], MSG_PEEK), taken = receive_descriptor(pair[1], 0);
    if (peeked < 0 || taken < 0) return -1;
    struct stat one, other;
    if (fstat(fd, &one) < 0 || fstat(taken, &other) < 0) return -1;
    return one.st_ino == other.st_ino && peeked != taken ? 0 : wrong("another file came");
}

static int peer_credentials(void) {
    int pair[2];
    struct ucred peer = {0};
    socklen_t length = sizeof(peer);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return -1;
    return peer.pid == getpid() ? 0 : wrong("pid %d", peer.pid);
}

static int peer_pidfd(void) {
    int pair[2], fd;
    socklen_t length = sizeof(fd);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) return -1;
    return getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &length);
}

static int sealed_memory(void) {
    int fd = memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, 4096) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0) return -1;
    if (mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED) return -1;
    return ftruncate(fd, 0) < 0 ? 0 : wrong("it shrinks");
}

static int program_by_descriptor(void) {
    int fd = open("/proc/self/exe", O_RDONLY);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fd < 0) return -1;
    execl(path, "probe", "nothing", "0", (char *)NULL);
    return -1;
}

static int fresh_attributes(void) {
    struct statx found;
    return statx(AT_FDCWD, "/tmp", AT_STATX_FORCE_SYNC, STATX_INO | STATX_BTIME, &found);
}

static int timer(void) {
    struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &soon, NULL) < 0) return -1;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    return poll(&ready, 1, 5000) == 1 ? 0 : wrong("it does not expire");
}

static int locked_memory(void) { return mlockall(MCL_CURRENT); }

static int limits(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -1;
    limit.rlim_cur = 256;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static const struct probe {
    const char *name;
    int (*ask)(void);
} probes[] = {
    {"a child that shares the descriptors and nothing else (clone with CLONE_FILES)", child_with_shared_descriptors},
    {"a table of descriptors of its own (close_range with CLOSE_RANGE_UNSHARE)", child_without_descriptors},
    {"the end of a process by its pidfd", pidfd},
    {"a descriptor of another process (pidfd_getfd)", descriptor_of_another},
    {"open file description locks", open_file_description_lock},
    {"a POSIX lock that stays over exec", lock_over_exec},
    {"signals that stay blocked and pending over exec", mask_over_exec},
    {"a program that is executed by its descriptor", program_by_descriptor},
    {"which signals another process catches (/proc/PID/status)", signals_of_another},
    {"the program of another process (/proc/PID/exe)", program_of_another},
    {"the words of another process (/proc/PID/cmdline)", words_of_another},
    {"the memory of the process itself (/proc/self/stat)", own_memory},
    {"the start of the process itself, the same after exec (/proc/self/stat)", start_over_exec},
    {"descriptors in messages, also with MSG_PEEK", descriptors_in_flight},
    {"the pid of a peer (SO_PEERCRED)", peer_credentials},
    {"a pidfd of a peer (SO_PEERPIDFD)", peer_pidfd},
    {"memory that cannot shrink (memfd_create, F_ADD_SEALS)", sealed_memory},
    {"attributes from the file server (statx with AT_STATX_FORCE_SYNC)", fresh_attributes},
    {"timers", timer},
    {"locked memory", locked_memory},
    {"limits of its own", limits},
};

static _Noreturn void report(int status) {
    if (status >= 0) puts("ok");
    else if (reason[0] != 0) puts(reason);
    else printf("%s\n", strerrorname_np(errno));
    fflush(stdout);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc == 3) {
        if (strcmp(argv[1], "listed") == 0) report(is_listed(atoi(argv[2])));
        if (strcmp(argv[1], "pending") == 0) report(is_pending());
        if (strcmp(argv[1], "started") == 0) report(has_started(atoi(argv[2])));
        report(0);
    }
    own_name = argv[0];
    for (size_t i = 0; i < sizeof(probes) / sizeof(*probes); i++) {
        printf("%s\t", probes[i].name);
        fflush(stdout);
        /* Each in a process of its own: what it changes ends with it. */
        pid_t pid = fork();
        int status;
        if (pid == 0) {
            alarm(30);
            report(probes[i].ask());
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid) return 1;
        if (WIFSIGNALED(status)) printf("ended by signal %d\n", WTERMSIG(status));
    }
    return 0;
}
