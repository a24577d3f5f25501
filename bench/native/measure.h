/* Time, the spread of waits, and the cost of another process. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

/* Nanoseconds, monotonic. */
uint64_t now(void);

/* Nanoseconds of processor time a process has used, all threads: its own CPU clock, exact where /proc counts 10 ms ticks. */
uint64_t cpu_of(pid_t pid);

/* Waits in nanoseconds, kept in 32 bins per power of two: percentiles are exact to 3 %, the longest is exact. */
#define BINS (64 * 32)
struct waits {
    uint64_t count;
    uint64_t longest;
    uint64_t bins[BINS];
};
void add_wait(struct waits *waits, uint64_t nanoseconds);
/* The wait that this share (0 to 1) of all waits does not exceed, in microseconds. */
double percentile(const struct waits *waits, double share);

/* One measured interval of a daemon and of this program beside it. */
struct interval {
    pid_t daemon;
    uint64_t start, daemon_cpu, own_cpu, ticks[2];
};
struct interval begin_interval(pid_t daemon);
/* Prints, without braces: seconds, the CPU seconds of the daemon (and the part spent in the kernel) and of this program, RSS. */
void print_interval(const struct interval *interval);
/* Prints, without braces: calls, rate, p50, p99 and longest wait in µs. */
void print_waits(const struct waits *waits, uint64_t calls, double seconds);

/* The open descriptors of a process. */
long open_descriptors(pid_t pid);
