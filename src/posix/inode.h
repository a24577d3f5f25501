/* Files by their inodes, and locks on their first byte: for the addon and for the storage helper. Functions return 0 or more, or -errno. */
#ifndef INODE_H
#define INODE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The compiler cannot know that errno is positive, and would warn of what a success fills in. */
static inline int last_error(void) { return errno > 0 ? -errno : -EIO; }

/* A file system behind which there is another process may answer EINTR every time. */
#define INTERRUPTIONS 100

static inline int set_lock(int command, int fd, short type, off_t start, off_t length) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    int status = fcntl(fd, command, &lock);
    for (int i = 0; status < 0 && errno == EINTR && i < INTERRUPTIONS; i++) status = fcntl(fd, command, &lock);
    return status;
}

/* 1: a lock is in the way of one of that type on a byte, by that process as the file system names it; 0: none is. */
static inline int find_rival_at(int fd, short type, off_t start, int32_t *process) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 1};
    int status = fcntl(fd, F_OFD_GETLK, &lock);
    for (int i = 0; status < 0 && errno == EINTR && i < INTERRUPTIONS; i++) status = fcntl(fd, F_OFD_GETLK, &lock);
    if (status < 0) return last_error();
    if (lock.l_type == F_UNLCK) return 0;
    *process = lock.l_pid;
    return 1;
}

static inline int lock_command(bool is_ofd) { return is_ofd ? F_OFD_SETLK : F_SETLK; }

static inline int lock_first_byte(int command, int fd, short type) { return set_lock(command, fd, type, 0, 1); }

/*
 * stat, fstat and libc's pthread_sigmask are symbols of glibc 2.33 and 2.32. An addon that uses them would not load with glibc
 * 2.28, on which the pinned Node.js still runs. So this is filled by statx.
 */
struct file {
    dev_t st_dev;
    ino_t st_ino;
    mode_t st_mode;
    dev_t st_rdev;
    uint32_t st_nlink;
};

static inline int statx_file(int fd, const char *path, int flags, struct file *file) {
    struct statx st;
    if (statx(fd, path, flags | AT_NO_AUTOMOUNT, STATX_TYPE | STATX_MODE | STATX_INO | STATX_NLINK, &st) < 0) return -1;
    file->st_dev = makedev(st.stx_dev_major, st.stx_dev_minor);
    file->st_ino = st.stx_ino;
    file->st_mode = st.stx_mode;
    file->st_rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor);
    file->st_nlink = st.stx_nlink;
    return 0;
}

static inline int file_at(const char *path, struct file *file) { return statx_file(AT_FDCWD, path, 0, file); }

/* Stats an open file by what the kernel has in memory: a file server that does not answer is not asked. */
static inline int file_of(int fd, struct file *file) {
    return statx_file(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, file);
}

/* Stats an open file as the server has it: a network file system would answer from its cache. */
static inline int file_of_server(int fd, struct file *file) {
    return statx_file(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, file);
}

static inline bool is_same_inode(const struct file *one, const struct file *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino;
}

static inline bool is_named(const struct file *opened, const char *path) {
    struct file named;
    return file_at(path, &named) == 0 && is_same_inode(&named, opened);
}

/* Unlinks the name of an open file. If it is another file's by now, it stays: another process may have that file locked. */
static inline int unlink_open(int fd, const char *path) {
    struct file opened;
    if (file_of(fd, &opened) < 0 || !is_named(&opened, path)) return 0;
    return unlink(path) < 0 ? -errno : 0;
}

static inline int open_inode(const char *path, int flags, struct file *st) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) return last_error();
    if (file_of(fd, st) == 0) return fd;
    int error = last_error();
    close(fd);
    return error;
}

/* See lockNamed in posix.ts. A named file without a link: the name is a cached one, or the file system counts no links. */
static inline int lock_named(int fd, bool shared, const char *path, bool is_ofd) {
    struct file opened;
    if (lock_first_byte(lock_command(is_ofd), fd, shared ? F_RDLCK : F_WRLCK) < 0) return -errno;
    if (path == NULL) return 0;
    if (file_of_server(fd, &opened) < 0) return -errno;
    if (!is_named(&opened, path)) return 1;
    return opened.st_nlink == 0 ? 2 : 0;
}

#endif
