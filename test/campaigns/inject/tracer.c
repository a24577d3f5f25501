/*
 * Has one system call of a daemon fail. Two programs in one:
 *
 *     tracer exec PROGRAM [ARGUMENT...]    stops itself until it is traced, then executes the program
 *     tracer trace PID SCRIPT [PREFIX=NAME...]
 *                                          traces that process, its threads and what it spawns; orders come by standard input.
 *                                          SCRIPT is what the runtime executes.
 *
 * The calls in the table below stop for the tracer (seccomp's RET_TRACE), all others run at full speed. In contrast to a
 * preloaded library this meets every such call: those of the dynamic loader, of libc itself, and raw ones. In contrast to
 * strace, calls are known by what they are made for, and a daemon is traced through any number of restarts.
 *
 * Each call has a key: `ROLE NAME TARGET`. ROLE tells the program: `old` and `new` are the daemon before and after exec,
 * `boot` the new one until it has read its script, `child` what the old one spawned (with the program it executes), `late`
 * what the new one spawned. NAME is the system call's, with its operation. TARGET is the path, or what the descriptor stands
 * for, in which a PREFIX is called by its NAME.
 *
 * Orders, a line each. Fields are separated by tabs; TRIGGER is a key, HOW `before` or `after` the call is carried out.
 *
 *     arm SHOW [NTH ERRNO HOW TRIGGER]   counts calls from here on, and fails the NTH with that key; SHOW 1: tells of each
 *     stop                               answered by `end`, behind all lines that tell of calls
 *
 * Lines that tell of calls: `call KEY`, `fails KEY`, and `signal NUMBER PID` for every signal that is sent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "registers are known of x86-64 only"
#endif

/* ---- which calls ---------------------------------------------------------------------------------------------- */

/* The target of a call: the path or descriptor in one of its arguments. */
enum target { NOTHING, PATH0, PATH1, FD0, FD4, AT, PROCESS };

static const struct call {
    int number;
    const char *name;
    enum target target;
    int operation; /* the argument that says what it does; -1 none */
} calls[] = {
#define CALL(name, target, operation) {__NR_##name, #name, target, operation},
    CALL(open, PATH0, 1) CALL(openat, PATH1, 2) CALL(creat, PATH0, -1)
    CALL(read, FD0, -1) CALL(pread64, FD0, -1) CALL(readv, FD0, -1) CALL(preadv, FD0, -1)
    CALL(write, FD0, -1) CALL(pwrite64, FD0, -1) CALL(writev, FD0, -1) CALL(pwritev, FD0, -1)
    CALL(close, FD0, 0) CALL(lseek, FD0, -1) CALL(fcntl, FD0, 1) CALL(ioctl, FD0, 1) CALL(flock, FD0, -1)
    CALL(stat, PATH0, -1) CALL(lstat, PATH0, -1) CALL(fstat, FD0, -1) CALL(newfstatat, AT, -1) CALL(statx, AT, -1)
    CALL(access, PATH0, -1) CALL(faccessat, PATH1, -1) CALL(faccessat2, PATH1, -1)
    CALL(statfs, PATH0, -1) CALL(fstatfs, FD0, -1) CALL(getdents64, FD0, -1)
    CALL(unlink, PATH0, -1) CALL(unlinkat, PATH1, -1) CALL(rename, PATH0, -1) CALL(renameat, PATH1, -1)
    CALL(renameat2, PATH1, -1) CALL(mkdir, PATH0, -1) CALL(mkdirat, PATH1, -1) CALL(readlink, PATH0, -1)
    CALL(readlinkat, PATH1, -1) CALL(chmod, PATH0, -1) CALL(fchmod, FD0, -1) CALL(chdir, PATH0, -1) CALL(getcwd, NOTHING, -1)
    CALL(ftruncate, FD0, -1) CALL(fsync, FD0, -1) CALL(fdatasync, FD0, -1)
    CALL(socket, NOTHING, 0) CALL(socketpair, NOTHING, 0) CALL(bind, FD0, -1) CALL(listen, FD0, -1) CALL(accept4, FD0, -1)
    CALL(connect, FD0, -1) CALL(getsockopt, FD0, 2) CALL(setsockopt, FD0, 2) CALL(getsockname, FD0, -1)
    CALL(getpeername, FD0, -1) CALL(shutdown, FD0, -1)
    CALL(recvfrom, FD0, -1) CALL(recvmsg, FD0, -1) CALL(sendto, FD0, -1) CALL(sendmsg, FD0, -1)
    CALL(epoll_create1, NOTHING, -1) CALL(epoll_ctl, FD0, 1) CALL(epoll_wait, FD0, -1) CALL(epoll_pwait, FD0, -1)
    CALL(eventfd2, NOTHING, -1) CALL(pipe, NOTHING, -1) CALL(pipe2, NOTHING, -1) CALL(timerfd_create, NOTHING, -1)
    CALL(timerfd_settime, FD0, -1) CALL(signalfd4, NOTHING, -1) CALL(memfd_create, NOTHING, -1)
    CALL(inotify_init1, NOTHING, -1) CALL(dup, FD0, -1) CALL(dup2, FD0, -1) CALL(dup3, FD0, -1)
    CALL(clone, NOTHING, -1) CALL(clone3, NOTHING, -1) CALL(fork, NOTHING, -1) CALL(vfork, NOTHING, -1)
    CALL(execve, PATH0, -1) CALL(execveat, PATH1, -1) CALL(wait4, NOTHING, -1) CALL(waitid, NOTHING, -1)
    CALL(kill, PROCESS, 1) CALL(tgkill, PROCESS, 2) CALL(tkill, PROCESS, 1) CALL(pidfd_open, PROCESS, -1)
    CALL(pidfd_send_signal, FD0, 1) CALL(pidfd_getfd, FD0, -1) CALL(prctl, NOTHING, 0) CALL(prlimit64, NOTHING, 1)
    CALL(getrandom, NOTHING, -1) CALL(mmap, FD4, -1) CALL(io_uring_setup, NOTHING, -1) CALL(io_uring_enter, FD0, -1)
#undef CALL
};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

static const struct call *call_numbered(long number) {
    for (size_t i = 0; i < CALLS; i++) {
        if (calls[i].number == number) return &calls[i];
    }
    return NULL;
}

static void die(const char *what) {
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    exit(3);
}

/* Maps of memory are none of a file's, and there are many. */
static void install_filter(void) {
    struct sock_filter program[2 * CALLS + 16];
    unsigned short used = 0;
    const uint32_t number = offsetof(struct seccomp_data, nr), mapped = offsetof(struct seccomp_data, args[4]);
#define STEP(...) program[used++] = (struct sock_filter)__VA_ARGS__
    STEP(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number));
    STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 0, 4));
    STEP(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, mapped));
    STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 0, 1));
    STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
    for (size_t i = 0; i < CALLS; i++) {
        STEP(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i].number, 0, 1));
        STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
    }
    STEP(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
#undef STEP
    struct sock_fprog filter = {.len = used, .filter = program};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0) die("seccomp");
}

static int run_traced(char **words) {
    raise(SIGSTOP);
    install_filter();
    execv(words[0], words);
    die(words[0]);
    return 3;
}

/* ---- the traced ----------------------------------------------------------------------------------------------- */

static pid_t daemon_pid;
/* Set at exec, and when the script has been read, until the next order. */
static bool is_new, is_booted;
static const char *script;

/* A thread or process; few, and most of them short-lived. */
static struct task {
    pid_t tid, pid;
    bool late;          /* it descends from the new program */
    bool failing;       /* its present call has been let through, and is to fail at its end */
    char program[16];   /* of a process that is not the daemon */
} tasks[512];

static struct task *task_of(pid_t tid) {
    struct task *unused = NULL;
    for (struct task *task = tasks; task < tasks + sizeof(tasks) / sizeof(tasks[0]); task++) {
        if (task->tid == tid) return task;
        if (task->tid == 0 && unused == NULL) unused = task;
    }
    if (unused == NULL) die("too many tasks");
    *unused = (struct task){.tid = tid, .pid = tid, .late = is_new};
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%d/status", tid);
    FILE *status = fopen(path, "re");
    while (status != NULL && fgets(line, sizeof(line), status) != NULL) sscanf(line, "Tgid: %d", &unused->pid);
    if (status != NULL) fclose(status);
    /* A thread has the role of its process. */
    for (struct task *task = tasks; task < tasks + sizeof(tasks) / sizeof(tasks[0]); task++) {
        if (task->tid != unused->pid || task == unused) continue;
        unused->late = task->late;
        memcpy(unused->program, task->program, sizeof(unused->program));
    }
    return unused;
}

static void forget_task(pid_t tid) {
    for (struct task *task = tasks; task < tasks + sizeof(tasks) / sizeof(tasks[0]); task++) {
        if (task->tid == tid) task->tid = 0;
    }
}

/* ---- keys ----------------------------------------------------------------------------------------------------- */

#define KEY_SIZE 1024
#define MAX_PATH 512

static char **prefixes;
static int prefix_count;

static bool peek(pid_t pid, uint64_t address, void *into, size_t size) {
    struct iovec local = {into, size}, remote = {(void *)(uintptr_t)address, size};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* Byte for byte behind a page's end, where the string may end the mapping. */
static void peek_string(pid_t pid, uint64_t address, char *text, size_t size) {
    size_t used = 0;
    while (used + 1 < size) {
        size_t part = 256 - (address + used) % 256;
        if (part > size - 1 - used) part = size - 1 - used;
        if (!peek(pid, address + used, text + used, part)) break;
        char *end = memchr(text + used, '\0', part);
        if (end != NULL) return;
        used += part;
    }
    text[used] = '\0';
}

/* The longest known prefix of a path, or NULL. */
static const char *prefix_of(const char *path) {
    const char *found = NULL;
    size_t longest = 0;
    for (int i = 0; i < prefix_count; i++) {
        size_t length = strcspn(prefixes[i], "=");
        if (length <= longest || strncmp(path, prefixes[i], length) != 0) continue;
        if (path[length] != '/' && path[length] != '\0') continue;
        longest = length;
        found = prefixes[i];
    }
    return found;
}

/* The path with its prefix named, numbers of processes and inodes taken out, and what separates fields. */
static void normalize(const char *path, char *text, size_t size) {
    const char *prefix;
    size_t used = 0;
    /* One without a name leads to the root, where another may begin. */
    while (used == 0 && (prefix = prefix_of(path)) != NULL) {
        size_t length = strcspn(prefix, "=");
        used = (size_t)snprintf(text, size, "%s", prefix + length + 1);
        path += length;
    }
    bool has_numbers = strncmp(path, "/proc/", 6) == 0 || (path[0] != '/' && strchr(path, ':') != NULL);
    for (; *path != '\0' && used + 1 < size; path++) {
        if (has_numbers && *path >= '0' && *path <= '9') {
            if (used == 0 || text[used - 1] != '#') text[used++] = '#';
        } else text[used++] = strchr("\t\n ", *path) != NULL ? '?' : *path;
    }
    text[used] = '\0';
}

/* How it was opened. */
static unsigned flags_of(pid_t pid, int fd) {
    char path[64], line[64];
    unsigned flags = 0;
    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, fd);
    FILE *info = fopen(path, "re");
    while (info != NULL && fgets(line, sizeof(line), info) != NULL) sscanf(line, "flags: %o", &flags);
    if (info != NULL) fclose(info);
    return flags;
}

static void name_descriptor(pid_t pid, int fd, char *text, size_t size) {
    char link[64], path[MAX_PATH];
    if (fd == AT_FDCWD) {
        snprintf(text, size, "cwd");
        return;
    }
    snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length < 0) {
        snprintf(text, size, "none");
        return;
    }
    path[length] = '\0';
    normalize(path, text, size);
    if (strncmp(path, "pipe:", 5) == 0 && (flags_of(pid, fd) & O_NONBLOCK)) snprintf(text, size, "pipe:[#]/nonblocking");
    /* A connection has one number for life, exec included. */
    if (pid == daemon_pid && strncmp(path, "socket:", 7) == 0) snprintf(text, size, "socket@%d", fd);
    if (pid == daemon_pid && strcmp(path, "anon_inode:[eventpoll]") == 0) snprintf(text, size, "anon_inode:[eventpoll]@%d", fd);
}

static bool is_script(pid_t pid, int fd) {
    char text[MAX_PATH];
    name_descriptor(pid, fd, text, sizeof(text));
    return strcmp(text, script) == 0;
}

static void name_path(pid_t pid, uint64_t address, char *text, size_t size) {
    char path[MAX_PATH];
    peek_string(pid, address, path, sizeof(path));
    normalize(path, text, size);
}

static void name_target(const struct call *call, pid_t pid, const uint64_t *args, char *text, size_t size) {
    char first = '\0';
    switch (call->target) {
    case PATH0: name_path(pid, args[0], text, size); break;
    case PATH1: name_path(pid, args[1], text, size); break;
    case FD0: name_descriptor(pid, (int)args[0], text, size); break;
    case FD4: name_descriptor(pid, (int)args[4], text, size); break;
    case AT:
        if (args[1] != 0) peek(pid, args[1], &first, 1);
        if (first == '\0') name_descriptor(pid, (int)args[0], text, size);
        else name_path(pid, args[1], text, size);
        break;
    case PROCESS:
        snprintf(text, size, "%s", (pid_t)args[0] == pid ? "self" : (pid_t)args[0] == daemon_pid ? "daemon" : "process");
        break;
    case NOTHING: snprintf(text, size, "-"); break;
    }
}

static const char *operation_name(pid_t pid, int number, int operation) {
    static char digits[16];
    if (number == __NR_fcntl) {
        switch (operation) {
        case F_DUPFD: return "F_DUPFD";
        case F_DUPFD_CLOEXEC: return "F_DUPFD_CLOEXEC";
        case F_GETFD: return "F_GETFD";
        case F_SETFD: return "F_SETFD";
        case F_GETFL: return "F_GETFL";
        case F_SETFL: return "F_SETFL";
        case F_GETLK: return "F_GETLK";
        case F_SETLK: return "F_SETLK";
        case F_OFD_GETLK: return "F_OFD_GETLK";
        case F_OFD_SETLK: return "F_OFD_SETLK";
        default: break;
        }
    }
    if (number == __NR_close) return (flags_of(pid, operation) & O_ACCMODE) == O_RDONLY ? NULL : "written";
    if (number == __NR_open || number == __NR_openat) return operation & O_CREAT ? "O_CREAT" : NULL;
    if (number == __NR_epoll_ctl) return operation == 1 ? "ADD" : operation == 2 ? "DEL" : "MOD";
    snprintf(digits, sizeof(digits), "%d", operation);
    return digits;
}

static void make_key(const struct task *task, const struct call *call, const uint64_t *args, char *key) {
    char target[MAX_PATH];
    const char *operation = call->operation < 0 ? NULL : operation_name(task->pid, call->number, (int)args[call->operation]);
    const char *daemon = !is_new ? "old" : is_booted ? "new" : "boot";
    const char *role = task->pid == daemon_pid ? daemon : task->late ? "late" : "child";
    name_target(call, task->pid, args, target, sizeof(target));
    snprintf(key, KEY_SIZE, "%s%s%s %s%s%s %s", role, task->program[0] ? ":" : "", task->program, call->name,
             operation == NULL ? "" : ":", operation == NULL ? "" : operation, target);
}

/* ---- orders --------------------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool armed, show, after;
    unsigned left; /* how many more calls with the key until the one that fails; 0 none */
    int error;
    char key[KEY_SIZE];
} plan;

static void arm(char *line) {
    char *fields[5] = {0};
    for (int i = 0; i < 5 && line != NULL; i++) fields[i] = strsep(&line, "\t");
    plan.armed = true;
    is_new = is_booted = false;
    plan.show = fields[0] != NULL && fields[0][0] == '1';
    plan.left = fields[4] == NULL ? 0 : (unsigned)atoi(fields[1]);
    plan.error = fields[4] == NULL ? 0 : atoi(fields[2]);
    plan.after = fields[4] != NULL && strcmp(fields[3], "after") == 0;
    snprintf(plan.key, sizeof(plan.key), "%s", fields[4] == NULL ? "" : fields[4]);
    puts("armed");
    fflush(stdout);
}

static void *take_orders(void *unused) {
    static char line[2 * KEY_SIZE];
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        pthread_mutex_lock(&lock);
        if (strncmp(line, "arm\t", 4) == 0) arm(line + 4);
        if (strcmp(line, "stop") == 0) {
            plan.armed = false;
            puts("end");
            fflush(stdout);
        }
        pthread_mutex_unlock(&lock);
    }
    /* Nobody is there any more: PTRACE_O_EXITKILL ends the traced. */
    exit(0);
    return unused;
}

/* ---- stops ---------------------------------------------------------------------------------------------------- */

static void tell_signal(const struct call *call, const uint64_t *args) {
    int signal = 0;
    switch (call->number) {
    case __NR_kill: case __NR_tkill: case __NR_pidfd_send_signal: signal = (int)args[1]; break;
    case __NR_tgkill: signal = (int)args[2]; break;
    default: break;
    }
    if (signal != 0) printf("signal\t%d\t%d\n", signal, (int)args[0]);
}

/* A call begins. Returns how the task goes on. */
static int on_call(struct task *task) {
    struct user_regs_struct regs;
    if (!plan.armed || ptrace(PTRACE_GETREGS, task->tid, NULL, &regs) < 0) return PTRACE_CONT;
    const struct call *call = call_numbered((long)regs.orig_rax);
    if (call == NULL) return PTRACE_CONT;
    const uint64_t args[6] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
    char key[KEY_SIZE];
    make_key(task, call, args, key);
    bool fails = plan.left > 0 && strcmp(key, plan.key) == 0 && --plan.left == 0;
    if (plan.show) printf("call\t%s\n", key);
    if (task->pid == daemon_pid && is_new && call->number == __NR_close && is_script(task->pid, (int)args[0])) is_booted = true;
    tell_signal(call, args);
    if (!fails) return PTRACE_CONT;
    printf("fails\t%s\n", key);
    fflush(stdout);
    if (plan.after) {
        task->failing = true;
        return PTRACE_SYSCALL;
    }
    regs.orig_rax = (unsigned long long)-1;
    regs.rax = (unsigned long long)-plan.error;
    ptrace(PTRACE_SETREGS, task->tid, NULL, &regs);
    return PTRACE_CONT;
}

/* A call that was let through ends. */
static void on_return(struct task *task) {
    struct user_regs_struct regs;
    if (!task->failing || ptrace(PTRACE_GETREGS, task->tid, NULL, &regs) < 0) return;
    task->failing = false;
    regs.rax = (unsigned long long)-plan.error;
    ptrace(PTRACE_SETREGS, task->tid, NULL, &regs);
}

static void on_exec(struct task *task) {
    if (task->pid == daemon_pid) {
        is_new = true;
        return;
    }
    char path[64], program[MAX_PATH];
    snprintf(path, sizeof(path), "/proc/%d/exe", task->pid);
    ssize_t length = readlink(path, program, sizeof(program) - 1);
    program[length < 0 ? 0 : length] = '\0';
    const char *slash = strrchr(program, '/');
    snprintf(task->program, sizeof(task->program), "%.15s", slash == NULL ? program : slash + 1);
}

static void on_stop(pid_t tid, int status) {
    struct task *task = task_of(tid);
    int signal = WSTOPSIG(status), event = status >> 16, request = PTRACE_CONT, deliver = 0;
    switch (event) {
    case PTRACE_EVENT_SECCOMP: request = on_call(task); break;
    case PTRACE_EVENT_EXEC: on_exec(task); break;
    case PTRACE_EVENT_STOP:
        /* Stopped as a process; only SIGCONT sets it going. */
        if (signal != SIGTRAP) request = PTRACE_LISTEN;
        break;
    case 0:
        if (signal == (SIGTRAP | 0x80)) on_return(task);
        else deliver = signal;
        break;
    default: break;
    }
    ptrace(request, tid, NULL, (void *)(uintptr_t)deliver);
}

static int trace(pid_t pid) {
    const uintptr_t options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK |
                              PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    pthread_t thread;
    daemon_pid = pid;
    if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0) die("PTRACE_SEIZE");
    kill(pid, SIGCONT);
    if (pthread_create(&thread, NULL, take_orders, NULL) != 0) die("pthread_create");
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == EINTR) continue;
        if (tid < 0) break;
        pthread_mutex_lock(&lock);
        if (WIFSTOPPED(status)) on_stop(tid, status);
        else forget_task(tid);
        pthread_mutex_unlock(&lock);
    }
    puts("gone");
    return 0;
}

int main(int count, char **words) {
    if (count > 2 && strcmp(words[1], "exec") == 0) return run_traced(words + 2);
    if (count > 3 && strcmp(words[1], "trace") == 0) {
        script = words[3];
        prefixes = words + 4;
        prefix_count = count - 4;
        return trace((pid_t)atoi(words[2]));
    }
    fprintf(stderr, "usage: tracer exec PROGRAM [ARGUMENT...] | tracer trace PID SCRIPT [PREFIX=NAME...]\n");
    return 2;
}
