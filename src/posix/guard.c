/*
 * launch.c preloads this into the daemon's runtime. It keeps signals blocked while the runtime starts: exec keeps the mask, but
 * Node.js begins by unblocking all signals with their default actions, and JavaScript listens 30 ms later.
 *
 * Only the main thread takes signals: all others block them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mask.h"

#define EXPORT __attribute__((visibility("default")))

/* The old symbol: built on glibc 2.34, this would need that, and the pinned Node.js runs on 2.28. */
#ifdef __x86_64__
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
#endif

static bool guarding = true;

/* Replaces libc's. */
EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    if (guarding && how == SIG_SETMASK) how = SIG_BLOCK;
    if (guarding && how == SIG_UNBLOCK) set = NULL;
    return sigprocmask(how, set, old) < 0 ? errno : 0;
}

/* The runtime waits for its first threads for ever, even for one that could not be created: so often again, with pauses of 20 ms. */
#define TRIES 100
static const struct timespec again = {.tv_nsec = 20 * 1000 * 1000};

/* Replaces libc's. A thread begins with the mask of the thread that makes it. */
EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    mask before;
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    change_mask(SIG_SETMASK, ALL_SIGNALS, &before);
    int error = create(thread, attributes, start, argument);
    for (int tries = 1; error != 0 && guarding && tries < TRIES; tries++) {
        nanosleep(&again, NULL);
        error = create(thread, attributes, start, argument);
    }
    change_mask(SIG_SETMASK, before, NULL);
    return error;
}

/* From now on signals.c sets the mask. */
EXPORT void end_guard(void) { guarding = false; }

/* libc uses it to cancel threads, and exports no name for it. */
#define SIGCANCEL 32

static void do_nothing(int signal) { (void)signal; }

/*
 * Gives SIGCANCEL a handler: libc unblocks it in every thread, but handles it only once a thread is cancelled. libc's sigaction
 * refuses this signal, so this sets the handler for another one, and copies what the kernel then has.
 */
__attribute__((constructor)) static void handle_cancel(void) {
    struct sigaction nothing = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    char kernels[152];
    sigaction(SIGUSR2, &nothing, &before);
    if (syscall(SYS_rt_sigaction, SIGUSR2, NULL, kernels, sizeof(mask)) == 0)
        syscall(SYS_rt_sigaction, SIGCANCEL, kernels, NULL, sizeof(mask));
    sigaction(SIGUSR2, &before, NULL);
}

/* Removes this library from LD_PRELOAD, and closes its descriptor there, so that no executed program inherits them. */
__attribute__((constructor)) static void forget_preload(void) {
    static const char by_descriptor[] = "/proc/self/fd/";
    const char *list = getenv("LD_PRELOAD");
    if (list == NULL || strncmp(list, by_descriptor, strlen(by_descriptor)) != 0) return;
    close(atoi(list + strlen(by_descriptor)));
    const char *others = strchr(list, ':');
    if (others == NULL) unsetenv("LD_PRELOAD");
    else setenv("LD_PRELOAD", others + 1, 1);
}
