/*
 * Starts programs without waiting for anything. posix.ts documents the functions, and child.ts uses them.
 *
 * libuv's spawn waits until the program is executed. The kernel does not come back from that while the program is on storage that
 * hangs, nor while a descriptor that is closed in the new program is. So here nobody waits for the execution. And the child does not
 * get copies of the daemon's descriptors, not even until it executes: it shares the table with the daemon, and has the kernel copy the
 * first three only. (The kernel copies the first 64 and closes 61 of them again. Where one of those hangs, the child does, too.) It opens
 * the others again that it is to have, by their links in /proc. A socket cannot be opened again: the child takes a duplicate out of the
 * daemon's table, as a debugger would. Where that is not allowed it gets copies of them all.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "addon.h"
#include "mask.h"
#include "napi-helpers.h"
#include "syscalls.h"

/* The descriptors 0 to 3 of the program. */
#define STREAMS 4
#define NO_STREAM (-2)
#define NULL_STREAM (-1)
/* Above the streams. */
#define ASIDE 16
#define EXEC_FAILED 127

/*
 * The pids of children that may share the daemon's table of descriptors: until then, POSIX locks of the daemon are the table's, not the
 * daemon's. If the daemon executed a program, the kernel would give it a copy of the table, and would drop the locks when the child
 * leaves the former one. 0: none.
 */
#define SHARERS 64
static pid_t sharers[SHARERS];

/* 0: both processes have one table of descriptors; above: they do not. */
static long compare_tables(pid_t one, pid_t other) { return syscall(SYS_kcmp, one, other, KCMP_FILES, 0UL, 0UL); }

/* What cannot be found out counts as shared. */
static bool shares(pid_t *sharer) {
    if (*sharer == 0) return false;
    long order = compare_tables(getpid(), *sharer);
    if (order == 0 || (order < 0 && errno != ESRCH)) return true;
    *sharer = 0;
    return false;
}

static void forget_sharer(pid_t pid) {
    for (int place = 0; place < SHARERS; place++) {
        if (sharers[place] == pid) sharers[place] = 0;
    }
}

bool await_own_descriptors(int milliseconds) {
    static const struct timespec moment = {.tv_nsec = 100000};
    int left = milliseconds * 10;
    for (int place = 0; place < SHARERS; place++) {
        for (; shares(&sharers[place]); left--) {
            if (left <= 0) return false;
            nanosleep(&moment, NULL);
        }
    }
    return true;
}

/* A place for a child that is to share the table; NULL: none is left. */
static pid_t *place_for_sharer(void) {
    for (int place = 0; place < SHARERS; place++) {
        if (!shares(&sharers[place])) return &sharers[place];
    }
    return NULL;
}

struct stream {
    int fd; /* the daemon's, NULL_STREAM or NO_STREAM */
    char link[48];
    int access;
    bool is_socket;
    struct statx file;
};

static int statx_of(int fd, struct statx *file) { return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, file); }

static bool prepare(struct stream *stream) {
    if (stream->fd < STREAMS - 1) return true;
    int flags = fcntl(stream->fd, F_GETFL);
    if (flags < 0 || statx_of(stream->fd, &stream->file) < 0) return false;
    stream->access = flags & O_ACCMODE;
    stream->is_socket = S_ISSOCK(stream->file.stx_mode);
    snprintf(stream->link, sizeof(stream->link), "/proc/%d/fd/%d", (int)getpid(), stream->fd);
    return true;
}

/* In the child: a duplicate of a descriptor of the daemon. -EBADF: there is none, but it would be allowed. */
static int duplicate_of(pid_t daemon, int fd) {
    int process = (int)syscall(SYS_pidfd_open, daemon, 0);
    if (process < 0) return -errno;
    int copy = (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    int status = copy < 0 ? -errno : copy;
    close(process);
    return status;
}

/* In the child. The link may be that of another process, if /proc is of another pid namespace. */
static int open_again(const struct stream *stream, pid_t daemon) {
    struct statx found;
    int fd = stream->is_socket ? duplicate_of(daemon, stream->fd) : open(stream->link, stream->access | O_CLOEXEC);
    if (fd < 0 || statx_of(fd, &found) < 0) return -1;
    return found.stx_ino == stream->file.stx_ino && found.stx_dev_minor == stream->file.stx_dev_minor ? fd : -1;
}

/* In the child: a descriptor above all streams. */
static int put_aside(const struct stream *stream, pid_t daemon, bool is_trimmed) {
    int fd = stream->fd;
    if (fd == NULL_STREAM) fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    else if (fd >= STREAMS - 1 && is_trimmed) fd = open_again(stream, daemon);
    return fcntl(fd, F_DUPFD_CLOEXEC, ASIDE);
}

struct program {
    char **files;
    char **arguments;
    char **environment;
    const char *directory;
    struct stream streams[STREAMS];
    pid_t daemon;
    bool may_trim;
};

/* In the child, while it shares the daemon's table. */
static bool may_trim(const struct program *program) {
    bool has_socket = false;
    for (int i = 0; i < STREAMS; i++) has_socket |= program->streams[i].is_socket;
    return program->may_trim && (!has_socket || duplicate_of(program->daemon, -1) == -EBADF);
}

/* In the child, which has a copy of the memory: only system calls. */
static void become(const struct program *program) {
    int aside[STREAMS], error = ENOENT;
    for (int signal = 1; signal < SIGRTMIN; signal++) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigaction(signal, &action, NULL);
    }
    bool is_trimmed = may_trim(program) && syscall(SYS_close_range, STREAMS - 1, ~0U, CLOSE_RANGE_UNSHARE) == 0;
    if (!is_trimmed && unshare(CLONE_FILES) < 0) return;
    for (int i = 0; i < STREAMS; i++) {
        const struct stream *stream = &program->streams[i];
        aside[i] = stream->fd == NO_STREAM ? -1 : put_aside(stream, program->daemon, is_trimmed);
        if (aside[i] < 0 && stream->fd > NULL_STREAM) return;
    }
    for (int i = 0; i < STREAMS; i++) {
        if (aside[i] < 0) close(i);
        else dup2(aside[i], i);
    }
    if (program->directory != NULL && chdir(program->directory) < 0) error = errno;
    change_mask(SIG_SETMASK, NO_SIGNALS, NULL);
    for (char **file = program->files; *file != NULL; file++) {
        execve(*file, program->arguments, program->environment);
        if (errno != ENOENT && errno != ENOTDIR) error = errno;
    }
    char text[16];
    int length = snprintf(text, sizeof(text), "%c%d", 0, error);
    for (int i = STREAMS - 1; i > 0; i--) {
        if (program->streams[i].fd >= STREAMS - 1 && write(i, text, (size_t)length) == length) break;
    }
}

static long clone_with(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, 0UL);
    return pid < 0 ? -errno : pid;
}

/*
 * As fork, with a place for the pid of a child that shares the table. It begins with copies of all descriptors where it would not be
 * known later whether it still shares them, as in a container that may not call kcmp(2); and under QEMU's user mode, which makes no
 * child that shares nothing else.
 */
static long fork_sharing_descriptors(pid_t *sharer) {
    pid_t daemon = getpid();
    long pid = compare_tables(daemon, daemon) == 0 ? clone_with(CLONE_FILES) : -EINVAL;
    if (pid > 0) *sharer = (pid_t)pid;
    return pid == -EINVAL ? clone_with(0) : pid;
}

/* spawn(files, arguments, environment, directory, streams): see posix.ts. */
static napi_value posix_spawn_program(napi_env env, napi_callback_info info) {
    ARGS(5);
    struct program program = {.files = string_vector(env, argv[0]),
                              .arguments = string_vector(env, argv[1]),
                              .environment = string_vector(env, argv[2]),
                              .daemon = getpid(),
                              .may_trim = access("/proc/self/fd", X_OK) == 0};
    char directory[4096];
    size_t length = 0;
    int32_t *fds;
    long pid = -ENOMEM;
    napi_get_value_string_latin1(env, argv[3], directory, sizeof(directory), &length);
    if (length > 0) program.directory = directory;
    napi_get_typedarray_info(env, argv[4], NULL, NULL, (void **)&fds, NULL, NULL);
    bool is_ready = program.files != NULL && program.arguments != NULL && program.environment != NULL;
    for (int i = 0; i < STREAMS && is_ready; i++) {
        program.streams[i].fd = fds[i];
        if (!prepare(&program.streams[i])) {
            pid = -errno;
            is_ready = false;
        }
    }
    if (is_ready) {
        mask before;
        /* A handler of the runtime would write into the runtime's pipe. */
        change_mask(SIG_SETMASK, ALL_SIGNALS, &before);
        pid_t *sharer = place_for_sharer();
        pid = sharer == NULL ? -EAGAIN : fork_sharing_descriptors(sharer);
        if (pid == 0) {
            become(&program);
            _exit(EXEC_FAILED);
        }
        change_mask(SIG_SETMASK, before, NULL);
    }
    free_vector(program.files);
    free_vector(program.arguments);
    free_vector(program.environment);
    return number(env, pid);
}

/* reap(pid): see posix.ts. */
static napi_value posix_reap(napi_env env, napi_callback_info info) {
    ARGS(1);
    int status = 0;
    pid_t pid = waitpid(arg_int(env, argv[0]), &status, WNOHANG);
    if (pid < 0) return number(env, -errno);
    if (pid == 0) return number(env, -EAGAIN);
    /* The number may be that of a stranger from now on. */
    forget_sharer(pid);
    return number(env, WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status));
}

/* createBuffer(): memory that a child writes into, and that ends with its last descriptor. */
static napi_value posix_create_buffer(napi_env env, napi_callback_info info) {
    (void)info;
    int fd = memfd_create("virtlockd answers", MFD_CLOEXEC);
    return number(env, fd < 0 ? -errno : fd);
}

/* createPipe(ends): the writing end does not wait. */
static napi_value posix_create_pipe(napi_env env, napi_callback_info info) {
    ARGS(1);
    int32_t *ends;
    int made[2];
    napi_get_typedarray_info(env, argv[0], NULL, NULL, (void **)&ends, NULL, NULL);
    if (pipe2(made, O_CLOEXEC) < 0) return number(env, -errno);
    fcntl(made[1], F_SETFL, O_WRONLY | O_NONBLOCK);
    ends[0] = made[0];
    ends[1] = made[1];
    return number(env, 0);
}

void define_spawn(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("spawn", posix_spawn_program),
        FUNCTION("reap", posix_reap),
        FUNCTION("createBuffer", posix_create_buffer),
        FUNCTION("createPipe", posix_create_pipe),
    };
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
}
