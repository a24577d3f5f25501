/*
 * Preloaded into the daemon's runtime by launch.c: what signals come while the runtime starts, wait. exec keeps the mask, but
 * the first act of Node.js is to unblock all of them with their default actions, and JavaScript listens 30 ms later.
 *
 * Signals are the main thread's alone: no other thread takes one that the main thread has blocked.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mask.h"

#define EXPORT __attribute__((visibility("default")))

/* Else it is one of glibc 2.34 where this is built on such: the pinned Node.js itself runs on 2.28. */
#ifdef __x86_64__
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
#endif

static bool guarding = true;

/* In the place of libc's. */
EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    if (guarding && how == SIG_SETMASK) how = SIG_BLOCK;
    if (guarding && how == SIG_UNBLOCK) set = NULL;
    return sigprocmask(how, set, old) < 0 ? errno : 0;
}

/* In the place of libc's: a thread begins with the mask of the one that makes it. */
EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    mask before;
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    change_mask(SIG_SETMASK, ALL_SIGNALS, &before);
    int error = create(thread, attributes, start, argument);
    change_mask(SIG_SETMASK, before, NULL);
    return error;
}

/* For signals.c: the mask is its own from here on. */
EXPORT void end_guard(void) { guarding = false; }

/* libc's, which has no other name for it. */
#define SIGCANCEL 32

static void do_nothing(int signal) { (void)signal; }

/*
 * libc unblocks this one in every thread that it makes, and has a handler for it only once a thread is cancelled. Its sigaction refuses
 * to set one: what that makes of the same handler for another signal is given to the kernel once more.
 */
__attribute__((constructor)) static void handle_cancel(void) {
    struct sigaction nothing = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    char kernels[152];
    sigaction(SIGUSR2, &nothing, &before);
    if (syscall(SYS_rt_sigaction, SIGUSR2, NULL, kernels, sizeof(mask)) == 0)
        syscall(SYS_rt_sigaction, SIGCANCEL, kernels, NULL, sizeof(mask));
    sigaction(SIGUSR2, &before, NULL);
}

/* Takes this library out of LD_PRELOAD, and closes the descriptor that names it there: nothing that is executed inherits it. */
__attribute__((constructor)) static void forget_preload(void) {
    static const char by_descriptor[] = "/proc/self/fd/";
    const char *list = getenv("LD_PRELOAD");
    if (list == NULL || strncmp(list, by_descriptor, strlen(by_descriptor)) != 0) return;
    close(atoi(list + strlen(by_descriptor)));
    const char *others = strchr(list, ':');
    if (others == NULL) unsetenv("LD_PRELOAD");
    else setenv("LD_PRELOAD", others + 1, 1);
}
