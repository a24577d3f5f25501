/*
 * virtlockd-storage: calls a file system that may hang, in place of the daemon, and keeps the descriptors of the files that it has
 * locked there. The daemon starts one for each such file system, with a socket as descriptor 3, and sends requests (messages.h). They are
 * served one after the other: a call that hangs keeps the others waiting here, and nobody in the daemon.
 *
 * It outlives the daemon. It ends at the end of its socket: then neither the daemon nor a successor nor the service manager's store has
 * the other end, and nobody could ever ask it for a lock again.
 *
 * Arguments are for ps alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "inode.h"
#include "mask.h"
#include "messages.h"
#include "notes.h"
#include "proof.h"
#include "syscalls.h"

#define SOCKET 3

/* How often a file is tried again that vanishes between open and lock: only a hostile process causes so many. */
#define ATTEMPTS 1000
/* How often, where that is an error of the server's, which may as well be one that stays. */
#define VANISHED_ATTEMPTS 10
/* As in the kernel. */
#define MAX_LINKS 40

/* ---- locked files --------------------------------------------------------------------------------------------- */

struct held {
    uint64_t number;
    int fd;
    bool shared;
    /* Where the daemon's note is in the file, or NO_SLOT. */
    int slot;
    struct file file;
    /* What is known of the lock: see confirm_lock. */
    struct proof proof;
};

/* In the order of their numbers. */
static struct held *table;
static size_t count, capacity;
static uint64_t last_number;

static struct held *find(uint64_t number) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table[middle].number == number) return &table[middle];
        if (table[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static size_t entries_of(const struct file *file) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) found += is_same_inode(&table[i].file, file);
    return found;
}

/* Before a lock is taken, for which there must be room. */
static int make_room(void) {
    if (count < capacity) return 0;
    size_t larger = capacity == 0 ? 64 : capacity * 2;
    struct held *moved = realloc(table, larger * sizeof(*table));
    if (moved == NULL) return -ENOMEM;
    table = moved;
    capacity = larger;
    return 0;
}

static void drop(struct held *held) {
    close(held->fd);
    count--;
    memmove(held, held + 1, (size_t)(table + count - held) * sizeof(*held));
}

/* ---- operations ----------------------------------------------------------------------------------------------- */

static void put_file(struct answer *answer, const struct file *file) {
    answer->device = file->st_dev;
    answer->inode = file->st_ino;
    answer->type = file->st_mode & S_IFMT;
    answer->links = file->st_nlink;
    answer->block_device = S_ISBLK(file->st_mode) ? file->st_rdev : 0;
    answer->flags |= ANSWER_INODE;
}

static int fail(struct answer *answer, uint32_t what, int status) {
    answer->flags |= what;
    return status;
}

/* A lock is in the way of ours. */
static void put_rival(struct answer *answer, int32_t process, const struct file *file) {
    answer->process = process;
    put_file(answer, file);
    if (entries_of(file) > 0) answer->flags |= ANSWER_OWN;
}

static int keep(struct answer *answer, int fd, const struct file *file, bool shared) {
    struct held *held = &table[count++];
    *held = (struct held){.number = ++last_number, .fd = fd, .shared = shared, .slot = NO_SLOT, .file = *file};
    answer->file = held->number;
    put_file(answer, file);
    learn(fd, shared);
    return 0;
}

/*
 * Whether the file system counts links, so that a file without a link is gone whatever a cache says. Makes a probe file beside the path.
 * Where no file can be made, the answer is yes.
 */
static bool counts_links(const char *path, const struct file *file) {
    char probe[PATH_MAX + 16];
    struct file made;
    snprintf(probe, sizeof(probe), "%s.%d", path, (int)getpid());
    int fd = open_inode(probe, O_WRONLY | O_CREAT | O_EXCL, &made);
    if (fd < 0) return true;
    bool counts = made.st_dev != file->st_dev || made.st_nlink != 0;
    close(fd);
    unlink(probe);
    return counts;
}

static int32_t rival_of(int fd, bool shared) {
    int32_t process = -1;
    return find_rival(fd, shared ? F_RDLCK : F_WRLCK, &process) == 1 ? process : -1;
}

static bool is_busy(int status) { return status == -EAGAIN || status == -EACCES; }

/* The server has no such file any more. One with replicas (GlusterFS) says so even of an open file. */
static bool has_vanished(int status) { return status == -ENOENT || status == -ESTALE; }

/* 1: the file has vanished, and is to be tried again. */
static int acquire_existing(const char *path, bool shared, bool create, bool is_early, struct answer *answer) {
    struct file file;
    int fd = open_inode(path, O_RDWR | (create ? O_CREAT : 0), &file);
    if (fd < 0) return fail(answer, ANSWER_OPEN, fd);
    int status = lock_named(fd, shared, create ? path : NULL, true);
    if (status == 0 || (status == 2 && !counts_links(path, &file))) return keep(answer, fd, &file, shared);
    if (is_busy(status)) {
        put_rival(answer, rival_of(fd, shared), &file);
    }
    close(fd);
    if (status > 0 || (is_early && has_vanished(status))) return 1;
    return fail(answer, is_busy(status) ? ANSWER_BUSY : ANSWER_LOCK, status);
}

static int acquire(const struct request *request, const char *path, struct answer *answer) {
    bool shared = request->flags & FLAG_SHARED, create = request->flags & FLAG_CREATE;
    if (make_room() < 0) return fail(answer, ANSWER_LOCK, -ENOMEM);
    if (create) {
        struct file file;
        int fd = open_inode(path, O_RDWR | O_CREAT | O_EXCL, &file);
        if (fd < 0 && fd != -EEXIST) return fail(answer, ANSWER_OPEN, fd);
        if (fd >= 0 && lock_named(fd, shared, path, true) == 0) return keep(answer, fd, &file, shared);
        /* Another process has unlinked or locked it in between. */
        if (fd >= 0) close(fd);
    }
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int status = acquire_existing(path, shared, create, attempt < VANISHED_ATTEMPTS, answer);
        if (status <= 0) return status;
    }
    return fail(answer, ANSWER_LOCK, -EAGAIN);
}

/*
 * Unlinks the name of a held file. A cache may give that name to the held file while it is already another's, which another host has made
 * after an operator had deleted ours. The server counts no link to ours then, or has no such file. Where it cannot say, the name stays.
 */
static int unlink_held(const struct held *held, const char *path) {
    struct file now;
    if (file_of_server(held->fd, &now) < 0) return has_vanished(last_error()) ? 0 : last_error();
    if (now.st_nlink == 0 && counts_links(path, &now)) return 0;
    return unlink_open(held->fd, path);
}

/*
 * 1: the name of a file goes with its lock; 0: it is another's; -errno: that is not known. The lock is asked for once more, exclusively: a shared
 * file goes with its last sharer, here or on another host, and a lock that was lost is another host's by now, or ours again until the file is
 * unlinked. To ask who has it would leave another host time to get it in between.
 */
static int is_to_unlink(struct held *held) {
    if (held->proof.is_lost) return 0;
    if (!held->shared && !can_be_asked(held->fd)) return 1;
    if (lock_first_byte(F_OFD_SETLK, held->fd, F_WRLCK) == 0) return 1;
    int status = last_error();
    return is_busy(status) ? 0 : status;
}

static int release(const struct request *request, const char *path, struct answer *answer) {
    (void)answer;
    struct held *held = find(request->file);
    if (held == NULL) return -ENOENT;
    int status = request->flags & FLAG_UNLINK ? is_to_unlink(held) : 0;
    bool unlinks = status > 0;
    if (unlinks) status = unlink_held(held, path);
    if (!unlinks || status < 0) drop_slot(held->fd, &held->slot);
    lock_first_byte(F_OFD_SETLK, held->fd, F_UNLCK);
    drop(held);
    return status == -ENOENT ? 0 : status;
}

/* Makes an empty file; one that exists is opened only to find the errors that C reports. */
static int create_file(const struct request *request, const char *path, struct answer *answer) {
    (void)request;
    struct file file;
    int fd = open_inode(path, O_WRONLY | O_CREAT | O_EXCL, &file);
    if (fd == -EEXIST) fd = open_inode(path, O_WRONLY | O_CREAT | O_NONBLOCK, &file);
    if (fd < 0) return fd;
    put_file(answer, &file);
    return close(fd) < 0 ? -errno : 0;
}

static int unlink_at(const char *path) { return unlink(path) < 0 ? -errno : 0; }

/* 1: another file has got the name. */
static int delete_once(const char *path, bool is_early) {
    struct file file;
    if (file_at(path, &file) < 0) return -errno;
    /* Only a regular file, which may be a lease, is opened: to open a device may have an effect, and a link is unlinked itself. */
    if (!S_ISREG(file.st_mode)) return unlink_at(path);
    int fd = open_inode(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK, &file);
    if (fd == -ELOOP) return unlink_at(path);
    if (fd < 0) return fd;
    int status = lock_named(fd, false, path, true);
    /* A file without a link, which only a cache still names: the name may be another file's, that another host has made and locked. */
    if (status == 2 && counts_links(path, &file))
        status = 1;
    else if (has_vanished(status))
        status = is_early ? 1 : -ESTALE;
    else if (status == 0 || status == 2)
        status = unlink_open(fd, path);
    close(fd);
    return status;
}

static int delete_file(const struct request *request, const char *path, struct answer *answer) {
    (void)request, (void)answer;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int status = delete_once(path, attempt < VANISHED_ATTEMPTS);
        if (status <= 0) return status == -ENOENT ? 0 : status == -EACCES ? -EAGAIN : status;
    }
    return -EAGAIN;
}

static int stat_path(const struct request *request, const char *path, struct answer *answer) {
    struct file file;
    int flags = request->flags & FLAG_FORCE_SYNC ? AT_STATX_FORCE_SYNC : 0;
    if (statx_file(AT_FDCWD, path, flags, &file) < 0) return -errno;
    put_file(answer, &file);
    return 0;
}

static int make_directory(const struct request *request, const char *path, struct answer *answer) {
    (void)request, (void)answer;
    return mkdir(path, 0700) < 0 ? -errno : 0;
}

/* Asks the file server. The answer has the inode that the path names; -ESTALE: not the locked one. */
static int confirm(const struct request *request, const char *path, struct answer *answer) {
    struct held *held = find(request->file);
    struct file opened, named;
    if (held == NULL) return -ENOENT;
    answer->file = held->number;
    if (file_of_server(held->fd, &opened) < 0) return -errno;
    if (file_at(path, &named) < 0) return -errno;
    put_file(answer, &named);
    return is_same_inode(&opened, &named) ? 0 : -ESTALE;
}

/*
 * Asks whether the lock of a file is still held, and changes no lock: one that another host has by now must stay that host's, and one that
 * nobody has must not come back unnoticed.
 */
static int confirm_lock(const struct request *request, const char *path, struct answer *answer) {
    (void)path;
    struct held *held = find(request->file);
    struct file now;
    int32_t process = -1;
    if (held == NULL) return -ENOENT;
    answer->file = held->number;
    if (!can_be_asked(held->fd)) return -EOPNOTSUPP;
    /* Does the server answer at all, and does it have the file? */
    if (file_of_server(held->fd, &now) < 0) return last_error();
    int status = confirm_held(&held->proof, held->fd, held->shared, &process);
    /* The slot may be another host's. */
    if (held->proof.is_lost) held->slot = NO_SLOT;
    if (status == 0) return 0;
    if (status == TAKEN) {
        answer->process = process;
        put_file(answer, &now);
        if (entries_of(&held->file) > 1) answer->flags |= ANSWER_OWN;
        return fail(answer, ANSWER_BUSY, -EAGAIN);
    }
    return status == GONE ? fail(answer, ANSWER_LOST, -ENOLCK) : status;
}

/* As lock_named, with an open file that takes the place of the held one if it gets the lock. */
static int lock_reopened(struct held *held, const char *path) {
    struct file file;
    int fd = open_inode(path, O_RDWR, &file);
    if (fd < 0) return fd;
    if (held->proof.is_marked) lock_first_byte(F_OFD_SETLK, held->fd, F_UNLCK);
    int status = lock_named(fd, held->shared, path, true);
    bool gets_it = status == 0 && is_same_inode(&file, &held->file);
    close(gets_it ? held->fd : fd);
    if (gets_it) held->fd = fd;
    return status == 0 && !gets_it ? -ESTALE : status;
}

/*
 * Locks a file again whose lock is lost. Where the kernel has marked the lock, it goes on showing it, in the way of a new one, and fails
 * every read: so the lock is removed first. Anywhere else nothing is removed, in case that a part of the server still has it.
 */
static int lock_again(const struct request *request, const char *path, struct answer *answer) {
    struct held *held = find(request->file);
    struct file file;
    if (held == NULL) return -ENOENT;
    answer->file = held->number;
    if (!held->proof.is_lost) return -EALREADY;
    if (file_at(path, &file) < 0) return last_error();
    if (!is_same_inode(&file, &held->file)) return -ESTALE;
    int status = held->proof.is_marked ? -EIO : lock_named(held->fd, held->shared, path, true);
    if (status < 0 && !is_busy(status)) status = lock_reopened(held, path);
    /* Without a link, or with another file at its path, it guards nothing. */
    if (status > 0) status = -ESTALE;
    if (is_busy(status)) {
        answer->process = rival_of(held->fd, held->shared);
        return fail(answer, ANSWER_BUSY, status);
    }
    if (status < 0) return fail(answer, ANSWER_LOCK, status);
    held->proof = (struct proof){0};
    put_file(answer, &file);
    return 0;
}

/* The descriptor goes with the answer. The helper keeps its own until FORGET. */
static int hand_over(const struct request *request, const char *path, struct answer *answer) {
    (void)path;
    const struct held *held = find(request->file);
    if (held == NULL) return -ENOENT;
    answer->file = held->number;
    put_file(answer, &held->file);
    return 0;
}

/* Closes the descriptor. The lock stays with the one that was handed over. */
static int forget(const struct request *request, const char *path, struct answer *answer) {
    (void)path, (void)answer;
    struct held *held = find(request->file);
    if (held == NULL) return -ENOENT;
    drop(held);
    return 0;
}

static bool is_overlay(const char *directory) {
    struct statfs file_system;
    return statfs(directory, &file_system) == 0 && file_system.f_type == OVERLAYFS_SUPER_MAGIC;
}

/*
 * Unlinks a name that cannot be unlinked, because it ends in a slash. The kernel looks at that only once it may write to the file system,
 * and waits until it is thawed. An overlay asks the file system of its upper layer later than that, so a file without a name is made there.
 */
static int try_write_at(const char *path) {
    char name[PATH_MAX + 2], parent[PATH_MAX + 1];
    struct file file;
    snprintf(name, sizeof(name), "%s/", path);
    snprintf(parent, sizeof(parent), "%s", path);
    for (char *slash = strrchr(parent, '/'); slash != NULL && slash > parent; slash = strrchr(parent, '/')) {
        *slash = 0;
        if (file_at(parent, &file) == 0) break;
        /* Directories are to be made, from the first missing one on. */
        snprintf(name, sizeof(name), "%s/", parent);
    }
    if (!is_overlay(parent)) return unlink_at(name);
    int fd = open(parent, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0);
    return fd < 0 || close(fd) < 0 ? -errno : 0;
}

/* Replaces the path of a symbolic link by the path in it. False when it is none, or that is too long. */
static bool follow_link(char *path) {
    char target[PATH_MAX + 1], *end = strrchr(path, '/');
    ssize_t size = readlink(path, target, PATH_MAX);
    if (size <= 0 || end == NULL) return false;
    target[size] = '\0';
    size_t before = target[0] == '/' ? 0 : (size_t)(end + 1 - path);
    if (before + (size_t)size > PATH_MAX) return false;
    memcpy(path + before, target, (size_t)size + 1);
    return true;
}

/* Where the path is a link, a file may be made where that leads to, and the link be unlinked: both file systems are tried. */
static int try_write(const struct request *request, const char *path, struct answer *answer) {
    (void)request, (void)answer;
    char at[PATH_MAX + 1];
    snprintf(at, sizeof(at), "%s", path);
    int status = try_write_at(at);
    for (int links = 0; links < MAX_LINKS && follow_link(at); links++) status = try_write_at(at);
    return status;
}

/* Writes the daemon's note into a file that it has locked. The note stands before the path, which the daemon has made or found empty. */
static int note(const struct request *request, const char *text, struct answer *answer) {
    (void)answer;
    struct held *held = find(request->file);
    if (held == NULL) return -ENOENT;
    if (!is_lone_file(held->fd, text + NOTE_SIZE)) return -EMLINK;
    int status = find_mark(held->fd);
    if (status < 0) return status;
    /* It may be another host's by now, as the lock may. */
    if (!keeps_slot(held->fd, held->slot)) held->slot = NO_SLOT;
    if (held->slot == NO_SLOT) {
        int slot = claim_slot(held->fd);
        if (slot < 0) return slot;
        held->slot = slot;
    }
    status = write_slot(held->fd, held->slot, text);
    if (status < 0) drop_slot(held->fd, &held->slot);
    return status;
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

/* The descriptor (-1: none) and the note (NULL: none) go with it. */
static void send_answer(struct answer *answer, int fd, char *text) {
    if (!(answer->flags & ANSWER_BUSY)) {
        answer->process = getpid();
        answer->flags |= ANSWER_HELPER;
    }
    struct iovec data[] = {
        {.iov_base = answer, .iov_len = sizeof(*answer)},
        {.iov_base = text, .iov_len = NOTE_SIZE},
    };
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = data, .msg_iovlen = text == NULL ? 1 : 2};
    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    }
    /* Waits for room: a daemon that has died reads nothing until the next one has found this socket. */
    while (sendmsg(SOCKET, &message, MSG_NOSIGNAL) < 0) {
        if (errno != EINTR && errno != ENOMEM && errno != ENOBUFS) _exit(0);
    }
}

/* One answer for each locked file, then the last one. */
static int list(const struct request *request, const char *path, struct answer *answer) {
    (void)path;
    for (size_t i = 0; i < count; i++) {
        const struct held *held = &table[i];
        struct answer one = {.operation = OP_LIST, .serial = request->serial, .file = held->number};
        put_file(&one, &held->file);
        one.flags |= ANSWER_MORE | (held->shared ? ANSWER_SHARED : 0U);
        send_answer(&one, -1, NULL);
    }
    answer->file = count;
    return 0;
}

/* An answer with each note that counts, then the last one. The path may be any file's by now. */
static int read_notes(const struct request *request, const char *path, struct answer *answer) {
    (void)answer;
    struct file file;
    int fd = open_inode(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, &file);
    if (fd < 0) return fd;
    int status = S_ISREG(file.st_mode) ? find_mark(fd) : -EEXIST;
    for (int slot = 0; status == 1 && slot < NOTE_SLOTS; slot++) {
        char text[NOTE_SIZE];
        if (!read_slot(fd, slot, text)) continue;
        struct answer one = {.operation = OP_READ_NOTES, .serial = request->serial, .flags = ANSWER_MORE};
        send_answer(&one, -1, text);
    }
    close(fd);
    return status < 0 ? status : 0;
}

enum needs { NO_PATH, PATH, PATH_TO_UNLINK, NOTE_AND_PATH };

static const struct {
    int (*run)(const struct request *request, const char *path, struct answer *answer);
    enum needs needs;
    uint32_t flags;
} operations[] = {
    [OP_LIST] = {list, NO_PATH, 0},
    [OP_ACQUIRE] = {acquire, PATH, FLAG_SHARED | FLAG_CREATE},
    [OP_RELEASE] = {release, PATH_TO_UNLINK, FLAG_UNLINK},
    [OP_CREATE] = {create_file, PATH, 0},
    [OP_DELETE] = {delete_file, PATH, 0},
    [OP_STAT] = {stat_path, PATH, FLAG_FORCE_SYNC},
    [OP_MAKE_DIRECTORY] = {make_directory, PATH, 0},
    [OP_HAND_OVER] = {hand_over, NO_PATH, 0},
    [OP_FORGET] = {forget, NO_PATH, 0},
    [OP_CONFIRM] = {confirm, PATH, 0},
    [OP_TRY_WRITE] = {try_write, PATH, 0},
    [OP_NOTE] = {note, NOTE_AND_PATH, 0},
    [OP_READ_NOTES] = {read_notes, PATH, 0},
    [OP_CONFIRM_LOCK] = {confirm_lock, NO_PATH, 0},
    [OP_LOCK_AGAIN] = {lock_again, PATH, 0},
};

#define OPERATIONS (sizeof(operations) / sizeof(*operations))

/* Absolute, and without a zero, which would cut it. */
static bool is_path(const char *path, size_t length) {
    return length > 0 && path[0] == '/' && memchr(path, '\0', length) == NULL;
}

static int serve(const struct request *request, char *path, size_t length, struct answer *answer) {
    if (request->operation == 0 || request->operation >= OPERATIONS) return -EOPNOTSUPP;
    if (request->flags & ~operations[request->operation].flags) return -EINVAL;
    enum needs needs = operations[request->operation].needs;
    size_t before = needs == NOTE_AND_PATH ? NOTE_SIZE : 0;
    bool is_optional = needs == NO_PATH || (needs == PATH_TO_UNLINK && !(request->flags & FLAG_UNLINK));
    if (length < before) return -EINVAL;
    if (length == before ? !is_optional : needs == NO_PATH || !is_path(path + before, length - before)) return -EINVAL;
    path[length] = '\0';
    return operations[request->operation].run(request, path, answer);
}

static void receive_all(void) {
    union {
        struct request head;
        char bytes[REQUEST_MAX + 2];
    } packet;
    for (;;) {
        /* No room for descriptors: the kernel drops those that are attached. */
        ssize_t size = recv(SOCKET, packet.bytes, REQUEST_MAX + 1, 0);
        if (size < 0 && (errno == EINTR || errno == ENOMEM || errno == ENOBUFS)) continue;
        if (size <= 0) return;
        struct answer answer = {.status = -EINVAL};
        if ((size_t)size >= sizeof(struct request)) {
            answer.operation = packet.head.operation;
            answer.serial = packet.head.serial;
            size_t length = (size_t)size - sizeof(struct request);
            if ((size_t)size > REQUEST_MAX)
                answer.status = -ENAMETOOLONG;
            else
                answer.status = serve(&packet.head, packet.bytes + sizeof(struct request), length, &answer);
        }
        bool hands_over = answer.operation == OP_HAND_OVER && answer.status == 0;
        send_answer(&answer, hands_over ? find(packet.head.file)->fd : -1, NULL);
    }
}

/* The daemon may have been about to execute itself, with descriptors that are not close-on-exec. */
static void close_others(void) {
    struct rlimit limit = {0};
    if (syscall(SYS_close_range, SOCKET + 1, ~0U, 0) == 0) return;
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = SOCKET + 1; (rlim_t)fd < limit.rlim_cur && fd < 1 << 16; fd++) close(fd);
}

int main(void) {
    change_mask(SIG_SETMASK, ALL_SIGNALS, NULL);
    /* Not a child of the daemon, which would have to reap it, nor in its session, nor the leader of one, whom a terminal could choose. */
    setsid();
    pid_t child = fork();
    if (child != 0) return child < 0;
    close_others();
    prctl(PR_SET_NAME, "virtlockd-storage");
    if (chdir("/") < 0) return 1;
    receive_all();
    return 0;
}
