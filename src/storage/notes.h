/*
 * Who holds a lock, written into the lock file for other hosts to read (docs/operations/lockctl.md): the mark, then a slot for each host that holds
 * the lock. A host has its slot while it has the slot's first byte locked, through the same open file as the lock itself. So a note counts
 * as long as its lock lasts, and what a dead host has left behind counts no more. The texts are the daemon's (holder-note.ts).
 */
#ifndef NOTES_H
#define NOTES_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "inode.h"
#include "messages.h"

#define NOTE_SLOTS 31
#define NOTE_MARK "virtlockd holders 1\n"
#define NO_SLOT (-1)

static inline off_t slot_start(int slot) { return (off_t)NOTE_SIZE * (slot + 1); }

static inline int write_whole(int fd, const char *bytes, off_t start) {
    ssize_t size = pwrite(fd, bytes, NOTE_SIZE, start);
    if (size < 0) return last_error();
    return size == NOTE_SIZE ? 0 : -ENOSPC;
}

/* Whether the path itself, and not a link there, names the open file, and nothing else names that. */
static inline bool is_lone_file(int fd, const char *path) {
    struct file opened, named;
    return file_of(fd, &opened) == 0 && statx_file(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &named) == 0 &&
           is_same_inode(&opened, &named) && S_ISREG(named.st_mode) && named.st_nlink == 1;
}

/* 1: the file is ours; 0: it is empty; -EEXIST: it is somebody's. */
static inline int find_mark(int fd) {
    char mark[sizeof(NOTE_MARK) - 1];
    ssize_t size = pread(fd, mark, sizeof(mark), 0);
    if (size <= 0) return size < 0 ? last_error() : 0;
    return (size_t)size == sizeof(mark) && memcmp(mark, NOTE_MARK, sizeof(mark)) == 0 ? 1 : -EEXIST;
}

/* Whether no other host has got the slot. Its lock is taken again if it was lost. */
static inline bool keeps_slot(int fd, int slot) {
    return slot != NO_SLOT && set_lock(F_OFD_SETLK, fd, F_WRLCK, slot_start(slot), 1) == 0;
}

static inline int claim_slot(int fd) {
    for (int slot = 0; slot < NOTE_SLOTS; slot++) {
        if (set_lock(F_OFD_SETLK, fd, F_WRLCK, slot_start(slot), 1) == 0) return slot;
        if (errno != EAGAIN && errno != EACCES) return last_error();
    }
    return -EUSERS;
}

/* Writes the text into the slot of an open file, after the mark if that is missing. A file of anybody else's stays as it is. */
static inline int write_slot(int fd, int slot, const char *text) {
    int status = find_mark(fd);
    if (status == 0) {
        char head[NOTE_SIZE] = NOTE_MARK;
        status = write_whole(fd, head, 0);
    }
    if (status < 0) return status;
    status = write_whole(fd, text, slot_start(slot));
    if (status < 0) return status;
    /* Another host sees what the server has. */
    return fdatasync(fd) < 0 ? last_error() : 0;
}

/* Gives up the slot: no note is better than an old one. One that is another host's by now stays. */
static inline void drop_slot(int fd, int *slot) {
    static const char none[NOTE_SIZE];
    if (*slot == NO_SLOT) return;
    if (keeps_slot(fd, *slot) && find_mark(fd) == 1) (void)!pwrite(fd, none, NOTE_SIZE, slot_start(*slot));
    set_lock(F_OFD_SETLK, fd, F_UNLCK, slot_start(*slot), 1);
    *slot = NO_SLOT;
}

static inline bool is_slot_taken(int fd, int slot) {
    int32_t process;
    return find_rival_at(fd, F_WRLCK, slot_start(slot), &process) == 1;
}

/* Reads the slot if a host has it. */
static inline bool read_slot(int fd, int slot, char *text) {
    return pread(fd, text, NOTE_SIZE, slot_start(slot)) == NOTE_SIZE && text[0] != '\0' && is_slot_taken(fd, slot);
}

#endif
