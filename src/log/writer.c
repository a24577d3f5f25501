/*
 * virtlockd-log: appends its input to a file of the log, in place of the daemon, which must not wait for it: its storage may hang, its file
 * system may be frozen. Makes the file with mode 0600. Repeats what fails, and outlives the daemon until it has written all, or cannot.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mask.h"

#define AGAIN_NS 100000000L

/* Until the next attempt. The last one was that, if the daemon has closed its end. */
static bool nap(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    struct timespec time = {.tv_nsec = AGAIN_NS};
    if (poll(&input, 1, 0) == 1 && (input.revents & POLLHUP)) return false;
    nanosleep(&time, NULL);
    return true;
}

static int open_file(const char *path) {
    for (;;) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, S_IRUSR | S_IWUSR);
        if (fd >= 0 || !nap()) return fd;
    }
}

static bool write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && !nap()) return false;
        if (written <= 0) continue;
        bytes += written;
        length -= (size_t)written;
    }
    return true;
}

int main(int argc, char **argv) {
    char bytes[64 * 1024];
    if (argc != 2) return 1;
    change_mask(SIG_SETMASK, ALL_SIGNALS, NULL);
    /* Not a child of the daemon, which would have to reap it, nor in its session. */
    setsid();
    pid_t child = fork();
    if (child != 0) return child < 0;
    prctl(PR_SET_NAME, "virtlockd-log");
    if (chdir("/") < 0) return 1;
    int fd = open_file(argv[1]);
    if (fd < 0) return 1;
    for (;;) {
        ssize_t length = read(STDIN_FILENO, bytes, sizeof(bytes));
        if (length < 0 && errno == EINTR) continue;
        if (length <= 0 || !write_all(fd, bytes, (size_t)length)) return length != 0;
    }
}
