/* What stands at the beginning of a disk: who wrote last, and when. A writer's counter and a rival's mark overwrite each other. */
#pragma once
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "wire.h"

#define BY_WRITER 0x72657469727720U
#define BY_RIVAL 0x6c61766972202020U

/* Written and read in one call: inode locks of the file system keep it whole. */
struct record {
    uint64_t by;
    uint64_t pid;
    uint64_t counter;
    /* CLOCK_MONOTONIC in ns, taken right before the write. */
    int64_t at;
};

/* CLOCK_MONOTONIC in ns: one clock for every process of the machine, and the one of process.hrtime. */
static inline int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The number in a text. Ends the program when there is none. */
static inline long number_in(const char *text) {
    long value;
    char rest;
    if (text == NULL || sscanf(text, "%ld%c", &value, &rest) != 1) fail("no number: %s", text == NULL ? "" : text);
    return value;
}
