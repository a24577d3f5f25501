/*
 * Sets a thread's signal mask by the system call. libc keeps the first two real-time signals for itself and never blocks them,
 * although they end a process that has no handler for them.
 */
#ifndef MASK_H
#define MASK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bit N-1 is signal N. */
typedef uint64_t mask;
#define ALL_SIGNALS UINT64_MAX
#define NO_SIGNALS 0

/* `how` is as for sigprocmask. `before`, if not NULL, gets the former mask. */
static inline void change_mask(int how, mask set, mask *before) {
    syscall(SYS_rt_sigprocmask, how, &set, before, sizeof(set));
}

#endif
