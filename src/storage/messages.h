/*
 * The messages between the daemon (messages.ts) and its storage helper (helper.c), in the byte order of the host. Each is one packet of
 * a SOCK_SEQPACKET socket. A helper may be older than the daemon, and serve it for months: numbers and fields here never change.
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include <limits.h>
#include <stdint.h>

enum operation {
    OP_LIST = 1,
    OP_ACQUIRE = 2,
    OP_RELEASE = 3,
    OP_CREATE = 4,
    OP_DELETE = 5,
    OP_STAT = 6,
    OP_MAKE_DIRECTORY = 7,
    OP_HAND_OVER = 8,
    OP_FORGET = 9,
    OP_CONFIRM = 10,
    OP_TRY_WRITE = 11,
    OP_NOTE = 12,
    OP_READ_NOTES = 13,
    OP_CONFIRM_LOCK = 14,
    OP_LOCK_AGAIN = 15,
};

/* Flags of requests: see `operations` in helper.c. */
enum {
    FLAG_SHARED = 1,
    FLAG_CREATE = 2,
    FLAG_UNLINK = 4,
    FLAG_FORCE_SYNC = 8,
};

/* The size of a holder's note (notes.h). */
#define NOTE_SIZE 512

/* A path follows, without a terminating zero; it ends with the packet. OP_NOTE has a note before the path. */
struct request {
    uint32_t operation;
    uint32_t flags;
    uint64_t serial;
    /* A file that the helper has locked, by its number. */
    uint64_t file;
};

#define REQUEST_MAX (sizeof(struct request) + PATH_MAX - 1)

/* What failed in an acquire, and what else there is to say. */
enum {
    ANSWER_OPEN = 1,
    ANSWER_LOCK = 2,
    /* Another lock is in the way; `process` is as of F_OFD_GETLK. */
    ANSWER_BUSY = 4,
    /* The locked file is shared. */
    ANSWER_SHARED = 8,
    /* More answers to this request follow. */
    ANSWER_MORE = 16,
    /* The fields of the inode count. */
    ANSWER_INODE = 32,
    /* `process` is the helper itself. */
    ANSWER_HELPER = 64,
    /* With BUSY: the helper itself has the file. */
    ANSWER_OWN = 128,
    /* The lock that the helper had is gone, and no other is in the way. */
    ANSWER_LOST = 256,
};

/* A note follows in each answer of OP_READ_NOTES but the last. */
struct answer {
    uint32_t operation;
    /* 0 or -errno. */
    int32_t status;
    uint64_t serial;
    uint64_t file;
    uint64_t device;
    uint64_t inode;
    uint32_t type;
    uint32_t links;
    uint64_t block_device;
    int32_t process;
    uint32_t flags;
};

_Static_assert(sizeof(struct request) == 24 && sizeof(struct answer) == 64, "messages.ts knows these sizes");

#endif
