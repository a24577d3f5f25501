/*
 * Whether a lock is still held on a file system whose server decides that. No call here changes it. Another byte is locked for a moment, when a
 * shared lock is granted or asked about, until it is learnt whether locks of ours are shown: see shows_other_byte. What asking shows:
 *
 * - F_OFD_GETLK through the open file that has the lock goes to the server, and does not report the own lock. A lock in the way is
 *   another's, so ours is lost. Nothing in the way proves nothing: our lock may be there, or gone with nobody in its place.
 * - F_OFD_GETLK through another open file of the same inode reports our lock, if the kernel keeps no record of its own and asks the server
 *   (FUSE, Ceph). Where locks of ours have been seen so and one is not seen any more, it is gone. NFS answers from the kernel's record, which keeps a lost
 *   lock.
 * - Linux marks a lock that NFSv4 has lost: a read through its open file fails with EIO until the lock is removed or the file closed
 *   (fcntl_locking(2)). A read through another open file then succeeds; else the EIO is of the storage.
 *
 * A file system that has reported a lock in the way each time, or never one of our own, is not believed: that is learnt of the file system, of
 * which a helper has one alone, and not of each lock. It is learnt from the first locks that are granted, and at each question until then. So a
 * lock is also found lost that was never asked about before. GETLK of SMB locks and unlocks to find out, so it is not asked; nor are file systems of
 * which it is not known what they answer.
 */
#ifndef PROOF_H
#define PROOF_H

#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "inode.h"

#ifndef CEPH_SUPER_MAGIC
#define CEPH_SUPER_MAGIC 0x00c36400
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* Besides -errno, which says that it is not known: another has the lock; nobody has it. */
enum { TAKEN = 1, GONE = 2 };

/* What is known of a lock from former questions: it was found lost, and the kernel has marked it so. */
struct proof {
    bool is_lost;
    bool is_marked;
};

/* What is known of the file system: nothing was in the way of a lock once; a lock of ours was seen through another open file. */
static struct {
    bool passes_own;
    bool shows_own;
    int lessons;
} learnt;

/* How many locks are asked about as they are granted, where these do not show both. */
#define MAX_LESSONS 8

static inline long type_of(int fd) {
    struct statfs file_system;
    return fstatfs(fd, &file_system) < 0 ? 0 : (long)file_system.f_type;
}

static inline bool can_be_asked(int fd) {
    long type = type_of(fd);
    return type == NFS_SUPER_MAGIC || type == CEPH_SUPER_MAGIC || type == FUSE_SUPER_MAGIC;
}

static inline int find_rival(int fd, short type, int32_t *process) { return find_rival_at(fd, type, 0, process); }

/* Opens the inode of an open file once more, wherever its name is by now. */
static inline int open_again(int fd) {
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/*
 * Whether a read fails with EIO, which asks the server. What is cached of the first page, and not to be written, is dropped first. The
 * kernel does not ask about an empty file, but if the cache is left out.
 */
static inline bool fails_to_read(int fd) {
    static _Alignas(4096) char page[4096];
    ssize_t size = 0;
    posix_fadvise(fd, 0, sizeof(page), POSIX_FADV_DONTNEED);
    size = pread(fd, page, sizeof(page), 0);
    int flags = size == 0 ? fcntl(fd, F_GETFL) : -1;
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
        size = pread(fd, page, sizeof(page), 0);
        fcntl(fd, F_SETFL, flags);
    }
    return size < 0 && errno == EIO;
}

/* Whether the kernel has marked the lock of an open file as lost. Twice, for an error that passes says nothing. */
static inline bool has_mark(int fd) {
    if (!fails_to_read(fd)) return false;
    int other = open_again(fd);
    bool has_mark = other >= 0 && !fails_to_read(other) && fails_to_read(fd);
    if (other >= 0) close(other);
    return has_mark;
}

/* 1: the lock of an open file on a byte is seen through another one; 0: no lock is. */
static inline int see_at(int fd, off_t start) {
    int32_t process;
    int other = open_again(fd);
    if (other < 0) return last_error();
    int status = find_rival_at(other, F_WRLCK, start, &process);
    close(other);
    return status;
}

static inline int see(int fd) { return see_at(fd, 0); }

static inline int lose(struct proof *proof, int how) {
    proof->is_lost = true;
    return how;
}

/*
 * A byte that nobody locks, nor a file system refuses: an image has no such end. A server that knows the low 32 or 31 bits of an offset alone takes
 * it for a byte at 768 MiB, far from those that are locked: 0, QEMU's from 100 on, SQLite's from 1 GiB on. So it never takes it for ours.
 */
#define FREE_BYTE (((off_t)1 << 62) + 0x2ffffffe)

/*
 * Whether a lock of ours is seen through another open file. One is taken for this moment, on another byte. It is exclusive, so what is seen there is no
 * other's. Nothing is locked where the server does not tell that byte from the first, on which a lock is seen: the unlock would drop ours.
 */
static inline bool shows_other_byte(int fd) {
    if (see_at(fd, FREE_BYTE) != 0 || see(fd) != 1) return false;
    if (set_lock(F_OFD_SETLK, fd, F_WRLCK, FREE_BYTE, 1) < 0) return false;
    bool is_seen = see_at(fd, FREE_BYTE) == 1;
    set_lock(F_OFD_SETLK, fd, F_UNLCK, FREE_BYTE, 1);
    return is_seen;
}

/*
 * Whether the lock that was seen through another open file is ours. Beside a shared one there may be those of other hosts, which come and go between
 * two questions. Beside an exclusive one there is another's only if ours was lost since, and that one is still in the way.
 */
static inline bool is_ours(int fd, bool shared) {
    int32_t process;
    return shared ? shows_other_byte(fd) : find_rival(fd, F_WRLCK, &process) == 0;
}

/* Learns of the file system what it answers about a lock that it has just granted: later it may be lost by the first question. */
static inline void learn(int fd, bool shared) {
    int32_t process;
    if (learnt.lessons >= MAX_LESSONS || !can_be_asked(fd)) return;
    learnt.lessons++;
    if (find_rival(fd, shared ? F_RDLCK : F_WRLCK, &process) == 0) learnt.passes_own = true;
    bool can_show = type_of(fd) != NFS_SUPER_MAGIC;
    if (can_show && see(fd) == 1) learnt.shows_own |= is_ours(fd, shared);
    if (learnt.passes_own && (learnt.shows_own || !can_show)) learnt.lessons = MAX_LESSONS;
}

/* 0: nothing speaks against the lock. -EBUSY: another lock is in the way, on a file system where one always was. */
static inline int confirm_held(struct proof *proof, int fd, bool shared, int32_t *process) {
    long type = type_of(fd);
    int rival = find_rival(fd, shared ? F_RDLCK : F_WRLCK, process);
    if (rival == 1) return learnt.passes_own || proof->is_lost ? lose(proof, TAKEN) : -EBUSY;
    if (rival == 0) learnt.passes_own = true;
    if (!proof->is_marked && type != FUSE_SUPER_MAGIC) proof->is_marked = has_mark(fd);
    if (proof->is_marked) return lose(proof, GONE);
    if (rival < 0) return rival;
    if (proof->is_lost) return GONE;
    int seen = type == NFS_SUPER_MAGIC ? 0 : see(fd);
    if (seen < 0) return seen;
    if (seen == 0 && learnt.shows_own) return lose(proof, GONE);
    if (seen == 1 && !learnt.shows_own) learnt.shows_own = is_ours(fd, shared);
    return 0;
}

#endif
