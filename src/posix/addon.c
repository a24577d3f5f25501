/*
 * The daemon's native code: the system calls that Node.js lacks, and the poller that serves all connections through one epoll
 * descriptor. It uses N-API and libuv only, not V8's API, so one build serves every Node.js of the same N-API version. posix.ts
 * types and documents each function: the result of a call, or a negative errno.
 *
 * File names arrive as latin1, one byte a character: a name may hold any byte.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <locale.h>
#include <malloc.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "addon.h"
#include "inode.h"
#include "napi-helpers.h"
#include "syscalls.h"
#include "unix-address.h"

/* A lockspace's directory, a slash, and a resource's name: each string of the lock program has at most 65536 bytes. */
#define PATH_SIZE (2 * 65536 + 2)

/* Too large for the stack. Static, because the daemon's JavaScript has one thread. */
static char path_buffer[PATH_SIZE];

static bool arg_bool(napi_env env, napi_value value) {
    bool result = false;
    napi_get_value_bool(env, value, &result);
    return result;
}

/* The path in `value`, or NULL with errno set when it is too long for any path. */
static const char *arg_path(napi_env env, napi_value value) {
    size_t length = 0;
    napi_get_value_string_latin1(env, value, path_buffer, PATH_SIZE, &length);
    if (length >= PATH_SIZE - 1) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return path_buffer;
}

/*
 * The path of a file in a lockspace. If the directory is empty, the name is the path. Joined here, because V8 would make and
 * flatten a string for every call.
 */
static const char *arg_joined(napi_env env, napi_value directory, napi_value name) {
    size_t length = 0, rest = 0;
    napi_get_value_string_latin1(env, directory, path_buffer, PATH_SIZE, &length);
    if (length > 0 && length < PATH_SIZE - 2) path_buffer[length++] = '/';
    napi_get_value_string_latin1(env, name, path_buffer + length, PATH_SIZE - length, &rest);
    if (length + rest >= PATH_SIZE - 1) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return path_buffer;
}

static napi_value result_of(napi_env env, int status) { return number(env, status < 0 ? -errno : status); }

/* Defines a function of the addon that makes one system call. */
#define SYSTEM_CALL(name, count, call)                                                                                 \
    static napi_value name(napi_env env, napi_callback_info info) {                                                    \
        ARGS(count);                                                                                                   \
        return result_of(env, (int)(call));                                                                            \
    }
#define INT(index) arg_int(env, argv[index])

/* ---- locks ---------------------------------------------------------------------------------------------------- */

static napi_value set_lock_by(int command, napi_env env, napi_callback_info info) {
    ARGS(4);
    return result_of(env, set_lock(command, arg_int(env, argv[0]), (short)arg_int(env, argv[1]),
                                   arg_long(env, argv[2]), arg_long(env, argv[3])));
}

static napi_value posix_setlk(napi_env env, napi_callback_info info) { return set_lock_by(F_SETLK, env, info); }

static napi_value posix_set_ofd_lock(napi_env env, napi_callback_info info) {
    return set_lock_by(F_OFD_SETLK, env, info);
}

static napi_value get_lock_by(int command, napi_env env, napi_callback_info info) {
    ARGS(5);
    struct flock lock = {.l_type = (short)arg_int(env, argv[1]),
                         .l_whence = SEEK_SET,
                         .l_start = arg_long(env, argv[2]),
                         .l_len = arg_long(env, argv[3])};
    int32_t *out;
    napi_get_typedarray_info(env, argv[4], NULL, NULL, (void **)&out, NULL, NULL);
    if (fcntl(arg_int(env, argv[0]), command, &lock) < 0) return number(env, -errno);
    out[0] = lock.l_type;
    out[1] = lock.l_pid;
    return number(env, 0);
}

static napi_value posix_getlk(napi_env env, napi_callback_info info) { return get_lock_by(F_GETLK, env, info); }

static napi_value posix_get_ofd_lock(napi_env env, napi_callback_info info) {
    return get_lock_by(F_OFD_GETLK, env, info);
}

/* What became of a lock whose kind was to change: LockChange in posix.ts. Of one that was kept, the errno is in the higher bits. */
enum { LOCK_CHANGED = 0, LOCK_CHANGED_SHARED = 1, LOCK_KEPT_SHARED = 2, LOCK_KEPT = 3, LOCK_CHANGE_BITS = 2 };

/*
 * A lock of each kind keeps the other out, also of one process, unless both are shared. So an exclusive one is made shared, doubled,
 * and made exclusive again: it is never free, and no other process can have it exclusively. Another process's shared one may come in
 * while both are: so all steps are in one call.
 */
static int change_lock(int from, int to, int fd, bool shared) {
    if (lock_first_byte(from, fd, F_RDLCK) < 0) return errno << LOCK_CHANGE_BITS | LOCK_KEPT;
    if (lock_first_byte(to, fd, F_RDLCK) == 0) {
        if (lock_first_byte(from, fd, F_UNLCK) == 0)
            return shared || lock_first_byte(to, fd, F_WRLCK) == 0 ? LOCK_CHANGED : LOCK_CHANGED_SHARED;
        int error = errno;
        lock_first_byte(to, fd, F_UNLCK);
        errno = error;
    }
    int error = errno << LOCK_CHANGE_BITS;
    return error | (shared || lock_first_byte(from, fd, F_WRLCK) == 0 ? LOCK_KEPT : LOCK_KEPT_SHARED);
}

/* changeLock(fd, shared, toOfd): see posix.ts. */
static napi_value posix_change_lock(napi_env env, napi_callback_info info) {
    ARGS(3);
    bool to_ofd = arg_bool(env, argv[2]);
    return number(env, change_lock(lock_command(!to_ofd), lock_command(to_ofd), arg_int(env, argv[0]),
                                   arg_bool(env, argv[1])));
}

/*
 * The export `statFields`: the result of the last call that stats a file. One array, whose address is known: to get the address
 * of an argument takes 1 % of an ACQUIRE.
 */
#define STAT_FIELDS 6
static double *stat_fields;

static void put_inode(const struct file *st) {
    stat_fields[0] = (double)st->st_dev;
    /* An inode number of NFS may use all 64 bits, and a double holds 53. */
    stat_fields[1] = (double)(st->st_ino >> 32);
    stat_fields[2] = (double)(st->st_ino & 0xffffffffU);
    stat_fields[3] = st->st_mode & S_IFMT;
    stat_fields[4] = S_ISBLK(st->st_mode) ? (double)st->st_rdev : 0;
    stat_fields[5] = st->st_nlink;
}

static void export_stat_fields(napi_env env, napi_value exports) {
    napi_value buffer, array;
    napi_ref keep;
    napi_create_arraybuffer(env, STAT_FIELDS * sizeof(*stat_fields), (void **)&stat_fields, &buffer);
    napi_create_typedarray(env, napi_float64_array, STAT_FIELDS, buffer, 0, &array);
    napi_create_reference(env, array, 1, &keep);
    napi_set_named_property(env, exports, "statFields", array);
}

static napi_value posix_open_inode(napi_env env, napi_callback_info info) {
    ARGS(2);
    const char *path = arg_path(env, argv[0]);
    if (path == NULL) return number(env, -errno);
    struct file opened;
    int fd = open_inode(path, arg_int(env, argv[1]), &opened);
    if (fd >= 0) put_inode(&opened);
    return number(env, fd);
}

static napi_value posix_lock_named(napi_env env, napi_callback_info info) {
    ARGS(4);
    napi_valuetype type;
    const char *path = NULL;
    napi_typeof(env, argv[2], &type);
    if (type == napi_string && (path = arg_path(env, argv[2])) == NULL) return number(env, -errno);
    return number(env, lock_named(arg_int(env, argv[0]), arg_bool(env, argv[1]), path, arg_bool(env, argv[3])));
}

/* Most acquires in one call. A new file cannot be held by this process under another name. */
static napi_value posix_create_locked(napi_env env, napi_callback_info info) {
    ARGS(3);
    const char *path = arg_joined(env, argv[0], argv[1]);
    if (path == NULL) return number(env, -errno);
    struct file opened;
    int fd = open_inode(path, O_RDWR | O_CREAT | O_EXCL, &opened);
    if (fd < 0) return number(env, fd);
    if (lock_named(fd, arg_bool(env, argv[2]), path, false) != 0) {
        close(fd);
        return number(env, -EEXIST);
    }
    put_inode(&opened);
    return number(env, fd);
}

static napi_value posix_unlink_open(napi_env env, napi_callback_info info) {
    ARGS(3);
    const char *path = arg_joined(env, argv[0], argv[1]);
    return number(env, path == NULL ? -errno : unlink_open(arg_int(env, argv[2]), path));
}

static napi_value posix_stat_inode(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct file st;
    const char *path = arg_path(env, argv[0]);
    if (path == NULL || file_at(path, &st) < 0) return number(env, -errno);
    put_inode(&st);
    return number(env, 0);
}

static napi_value posix_fstat_inode(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct file st;
    if (file_of(arg_int(env, argv[0]), &st) < 0) return number(env, -errno);
    put_inode(&st);
    return number(env, 0);
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

/*
 * mountsChanged(): whether the mounts of the process's namespace have changed since the last call. The kernel marks an open mountinfo as
 * readable out of band at every change, until it is polled. True at the first call, and whenever it cannot be opened.
 */
static napi_value posix_mounts_changed(napi_env env, napi_callback_info info) {
    (void)info;
    static int table = -1;
    bool changed = true;
    if (table < 0) {
        table = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    } else {
        struct pollfd polled = {.fd = table, .events = POLLPRI};
        changed = poll(&polled, 1, 0) != 0;
    }
    napi_value result;
    napi_get_boolean(env, changed, &result);
    return result;
}

static napi_value posix_unlink(napi_env env, napi_callback_info info) {
    ARGS(1);
    const char *path = arg_path(env, argv[0]);
    return result_of(env, path == NULL ? -1 : unlink(path));
}

/* readLink(path): where the symbolic link leads, or -errno: -EINVAL for any other file. */
static napi_value posix_read_link(napi_env env, napi_callback_info info) {
    ARGS(1);
    char target[PATH_MAX];
    napi_value result;
    const char *path = arg_path(env, argv[0]);
    ssize_t length = path == NULL ? -1 : readlink(path, target, sizeof(target));
    if (length < 0) return number(env, -errno);
    napi_create_string_latin1(env, target, (size_t)length, &result);
    return result;
}

SYSTEM_CALL(posix_close, 1, close(INT(0)))
SYSTEM_CALL(posix_duplicate, 1, fcntl(INT(0), F_DUPFD_CLOEXEC, 0))

static napi_value posix_mkdir(napi_env env, napi_callback_info info) {
    ARGS(1);
    const char *path = arg_path(env, argv[0]);
    return result_of(env, path == NULL ? -1 : mkdir(path, 0700));
}

/* ---- processes ------------------------------------------------------------------------------------------------ */

static napi_value posix_peer_pidfd(napi_env env, napi_callback_info info) {
    ARGS(1);
    int pidfd = -1;
    socklen_t size = sizeof(pidfd);
    int status = getsockopt(arg_int(env, argv[0]), SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size);
    return number(env, status < 0 ? -errno : pidfd);
}

SYSTEM_CALL(posix_pidfd_open, 1, syscall(SYS_pidfd_open, INT(0), 0))
SYSTEM_CALL(posix_pidfd_signal, 2, syscall(SYS_pidfd_send_signal, INT(0), INT(1), NULL, 0))

/* Native, because the registration of a guest waits for it: open, read and close of Node.js take five times as long. */
static napi_value posix_process_start(napi_env env, napi_callback_info info) {
    ARGS(1);
    char text[1024];
    int pid = arg_int(env, argv[0]);
    /* QEMU's user mode makes up the process's own file, with another start after each exec, but not that of its first thread. */
    snprintf(text, sizeof(text), pid == getpid() ? "/proc/%d/task/%d/stat" : "/proc/%d/stat", pid, pid);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return number(env, -errno);
    ssize_t length = read(fd, text, sizeof(text) - 1);
    int error = errno;
    close(fd);
    if (length < 0) return number(env, -error);
    text[length] = '\0';
    /* The 20th word behind the program's name, which is in parentheses and may hold any byte. */
    const char *word = strrchr(text, ')');
    for (int i = 0; i < 20 && word != NULL; i++) word = strchr(word + 1, ' ');
    if (word == NULL) return number(env, -EPROTO);
    return number(env, strtoll(word + 1, NULL, 10));
}

/* Not strerror: its texts are those of the process's language. */
static napi_value posix_strerror(napi_env env, napi_callback_info info) {
    ARGS(1);
    napi_value result;
    const char *text = strerror_l(arg_int(env, argv[0]), newlocale(LC_ALL_MASK, "C", (locale_t)0));
    napi_create_string_latin1(env, text, NAPI_AUTO_LENGTH, &result);
    return result;
}

static napi_value posix_exit(napi_env env, napi_callback_info info) {
    ARGS(1);
    _exit(arg_int(env, argv[0]));
}

static napi_value posix_is_terminal(napi_env env, napi_callback_info info) {
    ARGS(1);
    napi_value result;
    napi_get_boolean(env, isatty(arg_int(env, argv[0])) == 1, &result);
    return result;
}

SYSTEM_CALL(posix_set_process_name, 1, prctl(PR_SET_NAME, arg_path(env, argv[0])))

/* Drops the pages of the runtime's program, which the kernel reads from the file again when they are used. `data` is in it. */
static int forget_program(struct dl_phdr_info *object, size_t size, void *data) {
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t start = object->dlpi_addr + part->p_vaddr, end = start + part->p_memsz;
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X) || (part->p_flags & PF_W)) continue;
        if ((uintptr_t)data < start || (uintptr_t)data >= end) continue;
        start &= ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
        madvise((void *)start, end - start, MADV_DONTNEED);
        return 1;
    }
    return 0;
}

/*
 * bin/virtlockd has V8 start with --no-rehash-snapshot. V8 takes the code caches of the runtime's own modules only with the flags that
 * these were made with, so the flag has its default again from here on. Weak, because N-API has no such function.
 */
extern void set_v8_flags(const char *flags) __asm__("_ZN2v82V818SetFlagsFromStringEPKc") __attribute__((weak));

static napi_value posix_trim_memory(napi_env env, napi_callback_info info) {
    (void)env;
    (void)info;
    malloc_trim(0);
    dl_iterate_phdr(forget_program, (void *)(uintptr_t)napi_create_int64);
    return NULL;
}

/* ---- sockets -------------------------------------------------------------------------------------------------- */

struct unix_address {
    struct sockaddr_un name;
    socklen_t length;
};
/* As bind, connect and sendto take an address. */
#define NAME_OF(address) (const struct sockaddr *)&(address).name, (address).length

/* A UNIX socket of this type, or -errno; fills in the address of `path`: see unix-address.h. */
static int unix_socket(napi_env env, napi_value path, int type, struct unix_address *address) {
    address->length = unix_address(env, path, &address->name);
    if (address->length == 0) return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static napi_value posix_listen_unix(napi_env env, napi_callback_info info) {
    ARGS(2);
    struct unix_address address;
    int fd = unix_socket(env, argv[0], SOCK_STREAM | SOCK_NONBLOCK, &address);
    if (fd >= 0 && (bind(fd, NAME_OF(address)) < 0 || listen(fd, arg_int(env, argv[1])) < 0)) fd = close_failed(fd);
    return number(env, fd);
}

static napi_value posix_probe_unix(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct unix_address address;
    int fd = unix_socket(env, argv[0], SOCK_STREAM | SOCK_NONBLOCK, &address);
    if (fd < 0) return number(env, fd);
    int status = connect(fd, NAME_OF(address)) < 0 ? -errno : 0;
    close(fd);
    return number(env, status);
}

static napi_value posix_connect_unix(napi_env env, napi_callback_info info) {
    ARGS(2);
    struct unix_address address;
    int milliseconds = arg_int(env, argv[1]);
    struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    int fd = unix_socket(env, argv[0], SOCK_STREAM, &address);
    if (fd < 0) return number(env, fd);
    int status = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (status == 0) status = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    /* With a time limit, stopping and continuing the process interrupts the call. */
    if (status == 0) {
        do status = connect(fd, NAME_OF(address));
        while (status < 0 && errno == EINTR);
    }
    return number(env, status < 0 ? close_failed(fd) : fd);
}

static napi_value posix_send_datagram(napi_env env, napi_callback_info info) {
    ARGS(2);
    struct unix_address address;
    void *data;
    size_t size;
    int fd = unix_socket(env, argv[0], SOCK_DGRAM | SOCK_NONBLOCK, &address);
    if (fd < 0) return number(env, fd);
    napi_get_buffer_info(env, argv[1], &data, &size);
    int status = sendto(fd, data, size, MSG_NOSIGNAL, NAME_OF(address)) < 0 ? -errno : 0;
    close(fd);
    return number(env, status);
}

/* `text`, up to its NUL or `size` bytes; null for NULL. */
static napi_value text_or_null(napi_env env, const char *text, size_t size) {
    napi_value result;
    if (text == NULL) napi_get_null(env, &result);
    else napi_create_string_latin1(env, text, strnlen(text, size), &result);
    return result;
}

static napi_value posix_peer_security(napi_env env, napi_callback_info info) {
    ARGS(1);
    char context[4096];
    socklen_t size = sizeof(context);
    int status = getsockopt(arg_int(env, argv[0]), SOL_SOCKET, SO_PEERSEC, context, &size);
    return text_or_null(env, status < 0 ? NULL : context, size);
}

/*
 * getsockopt of a number or a struct, repeated when memory is short: a failure would mean that there is no connection, or that
 * its peer is unknown.
 */
static int ask_socket(int fd, int option, void *value, socklen_t size) {
    for (int tries = 1;; tries++) {
        socklen_t used = size;
        int status = getsockopt(fd, SOL_SOCKET, option, value, &used);
        if (status == 0 || errno == EBADF || errno == ENOTSOCK || errno == ENOPROTOOPT || tries == 3) return status;
    }
}

/* The results are those of SocketKind in posix.ts. */
static napi_value posix_inspect_socket(napi_env env, napi_callback_info info) {
    ARGS(2);
    int fd = arg_int(env, argv[0]);
    int32_t *words;
    struct ucred peer = {.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
    int type = 0, listening = 0;
    napi_get_typedarray_info(env, argv[1], NULL, NULL, (void **)&words, NULL, NULL);
    if (ask_socket(fd, SO_TYPE, &type, sizeof(type)) < 0) return number(env, errno == ENOTSOCK ? 0 : -errno);
    if (type != SOCK_STREAM) return number(env, 0);
    if (ask_socket(fd, SO_ACCEPTCONN, &listening, sizeof(listening)) < 0) return number(env, -errno);
    if (listening) return number(env, 2);
    if (ask_socket(fd, SO_PEERCRED, &peer, sizeof(peer)) < 0) return number(env, -errno);
    words[0] = peer.pid;
    words[1] = (int32_t)peer.uid;
    words[2] = (int32_t)peer.gid;
    return number(env, 1);
}

SYSTEM_CALL(posix_listen_again, 2, listen(INT(0), INT(1)))

static napi_value posix_socket_path(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct sockaddr_un address = {0};
    socklen_t size = sizeof(address), before = offsetof(struct sockaddr_un, sun_path);
    int status = getsockname(arg_int(env, argv[0]), (struct sockaddr *)&address, &size);
    bool is_bound = status == 0 && size > before && address.sun_path[0] != '\0';
    return text_or_null(env, is_bound ? address.sun_path : NULL, size - before);
}

static napi_value posix_set_nonblocking(napi_env env, napi_callback_info info) {
    ARGS(1);
    int fd = arg_int(env, argv[0]);
    int flags = fcntl(fd, F_GETFL);
    return result_of(env, flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

/* hasHungUp(fd, directions): see posix.ts. */
static napi_value posix_has_hung_up(napi_env env, napi_callback_info info) {
    ARGS(2);
    napi_value has_hung_up;
    short ends = arg_int(env, argv[1]) == 1 ? POLLRDHUP | POLLHUP : POLLHUP;
    struct pollfd peer = {.fd = arg_int(env, argv[0]), .events = POLLRDHUP};
    int count = poll(&peer, 1, 0);
    napi_get_boolean(env, count > 0 && (peer.revents & ends) != 0, &has_hung_up);
    return has_hung_up;
}

SYSTEM_CALL(posix_shutdown_socket, 1, shutdown(INT(0), SHUT_RDWR))

/*
 * One word for each descriptor of a connection, in memory that outlives this process: which of its input has been read and not been
 * answered. The bits are CallMark of posix.ts, above which is the number of the round in which the input was read. 0: there is none.
 */
#define MARK_BEGUN 5U
#define MARK_CONSUMED 2U
#define MARK_PRESENT 8U
#define MARK_ROUND 16U
static struct {
    uint32_t *words;
    size_t count;
    napi_ref keep;
    uint32_t round;
} marks;

static uint32_t *mark_of(int fd) { return fd >= 0 && (size_t)fd < marks.count ? marks.words + fd : NULL; }

/* useMarks(words, round): the marks are there from now on; null: nowhere. Rounds go on from that one, unless it is negative. */
static napi_value posix_use_marks(napi_env env, napi_callback_info info) {
    ARGS(2);
    int64_t round = arg_long(env, argv[1]);
    if (round >= 0) marks.round = (uint32_t)round * MARK_ROUND;
    bool are_there = false;
    if (marks.keep != NULL) napi_delete_reference(env, marks.keep);
    marks.keep = NULL;
    marks.count = 0;
    napi_is_typedarray(env, argv[0], &are_there);
    if (!are_there) return NULL;
    napi_get_typedarray_info(env, argv[0], NULL, &marks.count, (void **)&marks.words, NULL, NULL);
    napi_create_reference(env, argv[0], 1, &marks.keep);
    return NULL;
}

/* Before anything is read: it will be known that there was something, whatever becomes of this process. */
static void mark_input(int fd) {
    uint32_t *mark = mark_of(fd);
    if (mark != NULL && *mark == 0) __atomic_store_n(mark, marks.round | MARK_PRESENT, __ATOMIC_SEQ_CST);
}

/* Nothing was read after all: no call is under way, unless an earlier read has left one. */
static void unmark_input(int fd) {
    uint32_t *mark = mark_of(fd);
    if (mark != NULL && *mark == (marks.round | MARK_PRESENT)) __atomic_store_n(mark, 0, __ATOMIC_SEQ_CST);
}

/* Bytes sent, or -errno. Never waits, never raises SIGPIPE. */
static ssize_t send_part(int fd, const char *data, size_t length) {
    uint32_t *mark = mark_of(fd);
    if (mark != NULL) __atomic_store_n(mark, *mark | MARK_BEGUN | MARK_PRESENT, __ATOMIC_SEQ_CST);
    ssize_t sent;
    do {
        sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    /* An event is sent although nothing was read. */
    if (mark != NULL && sent == (ssize_t)length && (*mark & MARK_CONSUMED || *mark < MARK_ROUND))
        __atomic_store_n(mark, 0, __ATOMIC_SEQ_CST);
    return sent < 0 ? -errno : sent;
}

static napi_value posix_send(napi_env env, napi_callback_info info) {
    ARGS(4);
    char *data;
    size_t size;
    int32_t start = arg_int(env, argv[2]), end = arg_int(env, argv[3]);
    napi_get_buffer_info(env, argv[1], (void **)&data, &size);
    return number(env, send_part(arg_int(env, argv[0]), data + start, (size_t)(end - start)));
}

static napi_value posix_send_all(napi_env env, napi_callback_info info) {
    ARGS(3);
    char *data;
    int32_t *range;
    int32_t failed = 0;
    napi_get_buffer_info(env, argv[0], (void **)&data, NULL);
    napi_get_typedarray_info(env, argv[1], NULL, NULL, (void **)&range, NULL, NULL);
    for (int32_t left = arg_int(env, argv[2]); left > 0; left--, range += 3) {
        int32_t length = range[2] - range[1];
        range[0] = (int32_t)send_part(range[0], data + range[1], (size_t)length);
        failed += range[0] != length;
    }
    return number(env, failed);
}

/* ---- poller --------------------------------------------------------------------------------------------------- */

/*
 * One epoll descriptor polls all sockets, and libuv watches only that. A round reads every ready connection into one shared
 * buffer, accepts newcomers, and then calls JavaScript once with a list of what happened. So the daemon enters JavaScript once a
 * round, idle connections cost nothing, and the descriptor outlives a re-execution with all sockets registered in it.
 */
#define ROUND_EVENTS 256
#define MAX_READ 16384
/* Accepting costs more than a request: when a thousand connect at once, requests wait for no more than these. */
#define MAX_ACCEPT 32
#define RECORD_WORDS 6
/* As in poller.ts: behind the budgets are the ceilings. */
#define LISTENERS 16

enum { RECORD_READ = 1, RECORD_WRITABLE = 2, RECORD_ACCEPT = 3, RECORD_READY = 4 };

/* In the place of a listener's index: no socket, but another descriptor that becomes readable, such as a pidfd. */
#define WATCHED UINT32_MAX

static struct {
    napi_env env;
    napi_ref callback;
    uv_poll_t handle;
    int epoll;
    int32_t *records;
    uint32_t record_limit;
    char *input;
    size_t input_size;
    int32_t *budgets; /* how many connections each listener may still accept; JavaScript writes it */
} poller = {.epoll = -1};

static int32_t *record(uint32_t index, int32_t type, int32_t fd, int32_t a, int32_t b, int32_t c, int32_t d) {
    int32_t *words = poller.records + (size_t)index * RECORD_WORDS;
    words[0] = type;
    words[1] = fd;
    words[2] = a;
    words[3] = b;
    words[4] = c;
    words[5] = d;
    return words;
}

static uint32_t accept_waiting(int listener, int32_t *budget, uint32_t used) {
    uint32_t before = used;
    mark_input(listener);
    for (int left = MAX_ACCEPT; left > 0 && *budget > 0 && used < poller.record_limit; left--) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            if (errno == EAGAIN) break;
            record(used++, RECORD_ACCEPT, listener, -errno, 0, 0, 0);
            break;
        }
        struct ucred peer = {.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
        ask_socket(fd, SO_PEERCRED, &peer, sizeof(peer));
        (*budget)--;
        record(used++, RECORD_ACCEPT, listener, fd, peer.pid, (int32_t)peer.uid, (int32_t)peer.gid);
        /* JavaScript decides how it goes on. */
        if (fd >= budget[LISTENERS]) *budget = 0;
    }
    if (used == before) unmark_input(listener);
    return used;
}

/* accept(listener): a connection that waits there, close-on-exec and non-blocking, or -errno. */
static napi_value posix_accept(napi_env env, napi_callback_info info) {
    ARGS(1);
    int fd;
    do {
        fd = accept4(arg_int(env, argv[0]), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    return number(env, fd < 0 ? -errno : fd);
}

/*
 * Gives no room for descriptors: the kernel drops those that a peer attached, and sets MSG_CTRUNC. They are never installed, so
 * they cannot leak, and no close of one can drop a lock that this process holds on the same file.
 */
static ssize_t receive(int fd, char *into, size_t size, bool *descriptors) {
    struct iovec data = {.iov_base = into, .iov_len = size};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    ssize_t got;
    do {
        got = recvmsg(fd, &message, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    *descriptors = got >= 0 && (message.msg_flags & MSG_CTRUNC) != 0;
    return got < 0 ? -errno : got;
}

/* Reads and accepts what is ready, and describes it in records. Returns their number. */
static uint32_t gather(void) {
    struct epoll_event ready[ROUND_EVENTS];
    uint32_t used = 0;
    size_t filled = 0;
    marks.round += MARK_ROUND;
    /* 0 is no round: see send_part. */
    if (marks.round == 0) marks.round = MARK_ROUND;
    int count = epoll_wait(poller.epoll, ready, ROUND_EVENTS, 0);
    for (int i = 0; i < count && used < poller.record_limit; i++) {
        int fd = (int)(uint32_t)ready[i].data.u64;
        uint32_t listener = (uint32_t)(ready[i].data.u64 >> 32); /* its place in budgets, from 1; 0 a connection */
        if (listener == WATCHED) {
            record(used++, RECORD_READY, fd, 0, 0, 0, 0);
        } else if (listener != 0) {
            used = accept_waiting(fd, poller.budgets + listener - 1, used);
        } else if (ready[i].events & EPOLLOUT) {
            record(used++, RECORD_WRITABLE, fd, 0, 0, 0, 0);
        } else if (!(ready[i].events & EPOLLIN)) {
            /* Input is not polled for, but the peer has hung up. */
            record(used++, RECORD_READ, fd, 0, 0, 0, 0);
        } else {
            size_t room = poller.input_size - filled;
            bool descriptors;
            if (room == 0) break; /* the rest stays ready for the next round */
            mark_input(fd);
            ssize_t got = receive(fd, poller.input + filled, room < MAX_READ ? room : MAX_READ, &descriptors);
            if (got < 0) unmark_input(fd);
            if (got == -EAGAIN) continue;
            record(used++, RECORD_READ, fd, (int32_t)got, (int32_t)filled, descriptors, 0);
            if (got > 0) filled += (size_t)got;
        }
    }
    return used;
}

static void deliver(uint32_t used) {
    int32_t count = (int32_t)used;
    call_back(poller.env, poller.callback, 1, &count);
}

/*
 * A client that makes one call after the other sends the next one a few microseconds after the reply. To sleep and be woken
 * costs more than the call itself, so after a round the daemon polls on for a moment. Where that seldom finds anything (a client
 * that calls now and then, or one on the same processor), the daemon sleeps at once, and tries it only once in a while.
 */
#define POLL_ON_NS 50000
#define MAX_TRUST 8
#define TRY_EVERY 1024
/* Then timers and signals have their turn. */
#define MAX_STAY_NS 1000000

static uint32_t poll_on(void) {
    static unsigned trust = 1, skipped = 0;
    if (trust == 0 && ++skipped < TRY_EVERY) return gather();
    skipped = 0;
    uint64_t until = uv_hrtime() + POLL_ON_NS;
    uint32_t used;
    do {
        used = gather();
    } while (used == 0 && uv_hrtime() < until);
    if (used == 0) trust = trust > 0 ? trust - 1 : 0;
    else if (trust < MAX_TRUST) trust++;
    return used;
}

static void on_ready(uv_poll_t *handle, int status, int events) {
    (void)handle;
    (void)events;
    if (status < 0) return;
    uint64_t until = 0;
    uint32_t used = gather();
    if (used > 0) until = uv_hrtime() + MAX_STAY_NS;
    while (used > 0) {
        deliver(used);
        if (uv_hrtime() >= until) break;
        used = poll_on();
    }
}

static napi_value poller_start(napi_env env, napi_callback_info info) {
    ARGS(5);
    uv_loop_t *loop;
    napi_ref keep;
    size_t words = 0;

    poller.env = env;
    napi_create_reference(env, argv[0], 1, &poller.callback);
    for (int i = 1; i <= 3; i++) napi_create_reference(env, argv[i], 1, &keep);
    napi_get_typedarray_info(env, argv[1], NULL, &words, (void **)&poller.records, NULL, NULL);
    napi_get_buffer_info(env, argv[2], (void **)&poller.input, &poller.input_size);
    napi_get_typedarray_info(env, argv[3], NULL, NULL, (void **)&poller.budgets, NULL, NULL);
    poller.record_limit = (uint32_t)(words / RECORD_WORDS);

    int inherited = arg_int(env, argv[4]);
    poller.epoll = inherited < 0 ? epoll_create1(EPOLL_CLOEXEC) : inherited;
    if (poller.epoll < 0) return number(env, -errno);
    napi_get_uv_event_loop(env, &loop);
    int status = uv_poll_init(loop, &poller.handle, poller.epoll);
    if (status == 0) status = uv_poll_start(&poller.handle, UV_READABLE, on_ready);
    /* JavaScript may try again. */
    if (status < 0 && inherited < 0) close(poller.epoll);
    return number(env, status < 0 ? status : poller.epoll);
}

static napi_value poller_set(napi_env env, napi_callback_info info) {
    ARGS(4);
    int fd = arg_int(env, argv[1]);
    struct epoll_event event = {.events = (uint32_t)arg_int(env, argv[2]),
                                .data.u64 = (uint64_t)arg_int(env, argv[3]) << 32 | (uint32_t)fd};
    int op = arg_int(env, argv[0]);
    int status = epoll_ctl(poller.epoll, op, fd, &event);
    if (status < 0 && errno == EEXIST) status = epoll_ctl(poller.epoll, EPOLL_CTL_MOD, fd, &event);
    return result_of(env, status);
}

/* ---- module --------------------------------------------------------------------------------------------------- */

static napi_value init(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("setlk", posix_setlk),
        FUNCTION("setOfdLock", posix_set_ofd_lock),
        FUNCTION("getlk", posix_getlk),
        FUNCTION("getOfdLock", posix_get_ofd_lock),
        FUNCTION("changeLock", posix_change_lock),
        FUNCTION("openInode", posix_open_inode),
        FUNCTION("lockNamed", posix_lock_named),
        FUNCTION("createLocked", posix_create_locked),
        FUNCTION("mountsChanged", posix_mounts_changed),
        FUNCTION("unlinkOpen", posix_unlink_open),
        FUNCTION("statInode", posix_stat_inode),
        FUNCTION("fstatInode", posix_fstat_inode),
        FUNCTION("unlink", posix_unlink),
        FUNCTION("readLink", posix_read_link),
        FUNCTION("close", posix_close),
        FUNCTION("duplicate", posix_duplicate),
        FUNCTION("peerPidfd", posix_peer_pidfd),
        FUNCTION("pidfdOpen", posix_pidfd_open),
        FUNCTION("pidfdSignal", posix_pidfd_signal),
        FUNCTION("processStart", posix_process_start),
        FUNCTION("makeDirectory", posix_mkdir),
        FUNCTION("strerror", posix_strerror),
        FUNCTION("exit", posix_exit),
        FUNCTION("isTerminal", posix_is_terminal),
        FUNCTION("setProcessName", posix_set_process_name),
        FUNCTION("trimMemory", posix_trim_memory),
        FUNCTION("listenUnix", posix_listen_unix),
        FUNCTION("probeUnix", posix_probe_unix),
        FUNCTION("connectUnix", posix_connect_unix),
        FUNCTION("sendDatagram", posix_send_datagram),
        FUNCTION("peerSecurity", posix_peer_security),
        FUNCTION("accept", posix_accept),
        FUNCTION("inspectSocket", posix_inspect_socket),
        FUNCTION("listenAgain", posix_listen_again),
        FUNCTION("socketPath", posix_socket_path),
        FUNCTION("setNonblocking", posix_set_nonblocking),
        FUNCTION("shutdownSocket", posix_shutdown_socket),
        FUNCTION("hasHungUp", posix_has_hung_up),
        FUNCTION("send", posix_send),
        FUNCTION("sendAll", posix_send_all),
        FUNCTION("useMarks", posix_use_marks),
        FUNCTION("pollerStart", poller_start),
        FUNCTION("pollerSet", poller_set),
    };
    if (set_v8_flags != NULL) set_v8_flags("--rehash-snapshot");
    export_stat_fields(env, exports);
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
    define_packet(env, exports);
    define_scan(env, exports);
    define_signals(env, exports);
    define_spawn(env, exports);
    define_store(env, exports);
    return exports;
}

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
