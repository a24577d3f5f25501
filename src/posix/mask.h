/*
 * A thread's signal mask, asked of the kernel itself: libc leaves the first two real-time signals, which it has for its own use, out of
 * every mask that it is given, and they end a process that has no handler for them like the others.
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

/* `how` is as sigprocmask's; the mask before goes to `before`, if that is not NULL. */
static inline void change_mask(int how, mask set, mask *before) {
    syscall(SYS_rt_sigprocmask, how, &set, before, sizeof(set));
}

#endif
