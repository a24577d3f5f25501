/*
 * Acts as another host with the same storage. Requests the lock on every file and waits in the kernel, which grants a lock at the very
 * instant at which it is free.
 *
 *   watch FILE...
 *
 * Prints lines of JSON with times of CLOCK_MONOTONIC in ns: `free` when the kernel granted it the lock on a file, which it releases at
 * once, and `held` when another process has the lock again. Exits at the end of its input.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* Between two checks whether a file is held again. */
static const struct timespec REST = { 0, 1000000 };

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void print(const char *is, const char *file) {
    printf("{\"is\":\"%s\",\"at\":%" PRId64 ",\"file\":\"%s\"}\n", is, now(), file);
}

static struct flock first_byte(short type) {
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1 };
}

static void *watch(void *argument) {
    const char *file = argument;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) err(1, "%s", file);
    for (;;) {
        struct flock lock = first_byte(F_WRLCK);
        if (fcntl(fd, F_OFD_SETLKW, &lock) != 0) err(1, "%s", file);
        lock = first_byte(F_UNLCK);
        if (fcntl(fd, F_OFD_SETLK, &lock) != 0) err(1, "%s", file);
        print("free", file);
        do {
            nanosleep(&REST, NULL);
            lock = first_byte(F_WRLCK);
            if (fcntl(fd, F_OFD_GETLK, &lock) != 0) err(1, "%s", file);
        } while (lock.l_type == F_UNLCK);
        print("held", file);
    }
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, watch, argv[i]) != 0) errx(1, "no thread");
    }
    char byte;
    while (read(0, &byte, 1) > 0) continue;
    return 0;
}
