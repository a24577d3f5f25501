/*
 * Owns disks and writes a counter to each of them every millisecond, until it is made to stop.
 *
 *   writer SOCKET BEHAVIOUR LOCKSPACE FLAGS [NAME DISK]...
 *
 * BEHAVIOUR, from the moment at which its connection has ended:
 *   dies       SIGTERM ends it
 *   ignores    SIGTERM does not end it
 *   flushes    goes on writing for half a second after SIGTERM, as QEMU does, and exits
 *   stopped    stops itself by SIGSTOP
 *   leaderless ignores SIGTERM, and its first thread exits while the other writes on: a zombie in /proc that is none
 *   replaced   ignores SIGTERM, and its second thread executes the program again, which writes on: the same pid, another start
 * SOCKET is - for a writer without a connection of its own.
 *
 * Reads commands, a line each, and prints what happens as lines of JSON:
 *   acquire    takes the locks (LOCKSPACE is empty for the default one)
 *   write      begins to write; answered by "writing" after the first counters are there
 *   sync       an fsync follows every write from now on
 *   close, half-close, bad-length
 *              end the connection; preceded by "ending" with the time
 *   fork       a child keeps the connection and lives on: "helper". Its commands come from descriptor 3:
 *     close    as above, and "closed" when that is done
 *     leave    it exits, after "left"
 * It ends with its standard input, and with its parent.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk.h"

#define MAX_DISKS 8
/* Where the helper's commands come from: standard input ends for the test when the writer does. */
#define HELPER_FILENO 3
#define FLUSH_NS 500000000
#define BETWEEN_WRITES_NS 1000000

static char **arguments;
static const char *behaviour;
static int connection = -1;
static size_t disks;
static int disk_fds[MAX_DISKS];
static uint32_t serial;
static atomic_bool is_syncing;
/* When SIGTERM came, or 0. */
static _Atomic int64_t terminated;
/* The second thread is to execute the program again. */
static atomic_bool is_to_be_replaced;

static bool behaves(const char *as) {
    return strcmp(behaviour, as) == 0;
}

static void report(const char *what) {
    printf("{\"is\": \"%s\", \"at\": %" PRId64 ", \"pid\": %d}\n", what, now(), getpid());
    fflush(stdout);
}

static void note_termination(int signal) {
    (void)signal;
    int64_t never = 0;
    atomic_compare_exchange_strong(&terminated, &never, now());
}

/* The same program in the same process: descriptor 3 and up are its disks, and it only writes. */
static void replace(void) {
    char counts[16];
    for (size_t i = 0; i < disks; i++) {
        if (dup2(disk_fds[i], (int)(200 + i)) < 0) _exit(3);
    }
    snprintf(counts, sizeof counts, "%zu", disks);
    execl("/proc/self/exe", "writer", "--on", counts, (char *)NULL);
    _exit(3);
}

static void write_counter(int disk, uint64_t counter) {
    struct record record = {.by = BY_WRITER, .pid = (uint64_t)getpid(), .counter = counter, .at = now()};
    if (pwrite(disk, &record, sizeof record, 0) != sizeof record) {
        // The end of the storage, not of the writer.
        if (errno == ENOTCONN || errno == ECONNABORTED) _exit(4);
        fail("write: %s", strerror(errno));
    }
    if (is_syncing && fsync(disk) != 0 && errno != ENOTCONN && errno != ECONNABORTED) fail("fsync: %s", strerror(errno));
}

static void *write_on(void *first_round) {
    struct timespec pause = {.tv_nsec = BETWEEN_WRITES_NS};
    for (uint64_t counter = 1;; counter++) {
        for (size_t i = 0; i < disks; i++) write_counter(disk_fds[i], counter);
        if (counter == 1 && first_round != NULL) report("writing");
        if (is_to_be_replaced) replace();
        int64_t since = terminated;
        if (since != 0 && now() - since > FLUSH_NS) _exit(0);
        nanosleep(&pause, NULL);
    }
}

static void acquire(void) {
    const char *lockspace = arguments[3];
    uint32_t flags = (uint32_t)number_in(arguments[4]);
    for (size_t i = 0; i < disks; i++) {
        struct request request = resource_request(ACQUIRE, lockspace, arguments[5 + 2 * i], flags);
        call(connection, &request, ++serial);
    }
    report("acquired");
}

static void begin_writing(void) {
    pthread_t thread;
    static int marker;
    if (pthread_create(&thread, NULL, write_on, &marker) != 0) fail("no thread");
}

/* The connection has ended, by whichever side: what the writer does then, apart from writing on. */
static void connection_ended(void) {
    report("ended");
    if (connection >= 0) close(connection);
    connection = -1;
    if (behaves("stopped")) kill(getpid(), SIGSTOP);
    if (behaves("leaderless")) syscall(SYS_exit, 0);
    if (behaves("replaced")) is_to_be_replaced = true;
}

static void end_connection(const char *how) {
    static const uint8_t bad_length[4];
    report("ending");
    if (strcmp(how, "bad-length") == 0) {
        if (!write_all(connection, bad_length, sizeof bad_length)) fail("write: %s", strerror(errno));
        report("hung-up");
        return; // The daemon closes it.
    }
    if (strcmp(how, "half-close") == 0) {
        shutdown(connection, SHUT_WR);
        report("hung-up");
        return;
    }
    close(connection);
    connection = -1;
    report("hung-up");
    connection_ended();
}

/* A line of commands, without reading beyond it; false at their end. */
static bool read_command(int from, char *line, size_t size) {
    for (size_t length = 0; length + 1 < size;) {
        if (read(from, line + length, 1) != 1) return false;
        if (line[length] == '\n') {
            line[length] = '\0';
            return true;
        }
        length++;
    }
    return false;
}

/* What a forked helper does: nothing but keep the connection. */
static _Noreturn void help(void) {
    char line[64];
    signal(SIGTERM, SIG_DFL);
    report("helper");
    while (read_command(HELPER_FILENO, line, sizeof line)) {
        if (strcmp(line, "close") == 0) {
            report("ending");
            close(connection);
            report("closed");
        } else if (strcmp(line, "leave") == 0) {
            report("left");
            break;
        }
    }
    _exit(0);
}

/* The helper shares the descriptors; its parent reads no more commands, and waits for its end. */
static void fork_helper(void) {
    pid_t child = fork();
    if (child < 0) fail("fork: %s", strerror(errno));
    if (child == 0) help();
    for (;;) pause();
}

static void obey(const char *command) {
    if (strcmp(command, "acquire") == 0) acquire();
    else if (strcmp(command, "write") == 0) begin_writing();
    else if (strcmp(command, "sync") == 0) is_syncing = true;
    else if (strcmp(command, "fork") == 0) fork_helper();
    else end_connection(command);
}

static void prepare_signals(void) {
    // A writer must not outlive the test, in whatever state it is.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (behaves("flushes")) {
        struct sigaction action = {.sa_handler = note_termination, .sa_flags = SA_RESTART};
        sigaction(SIGTERM, &action, NULL);
    } else if (behaves("ignores") || behaves("leaderless") || behaves("replaced")) {
        signal(SIGTERM, SIG_IGN);
    }
}

/* After exec the disks are where replace() put them. */
static _Noreturn void write_replaced(long count) {
    static char ignores[] = "ignores";
    behaviour = ignores;
    disks = (size_t)count;
    for (size_t i = 0; i < disks; i++) disk_fds[i] = (int)(200 + i);
    prepare_signals();
    report("replaced");
    write_on(NULL);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--on") == 0) write_replaced(number_in(argv[2]));
    if (argc < 7 || (argc - 5) / 2 > MAX_DISKS) fail("usage: writer SOCKET BEHAVIOUR LOCKSPACE FLAGS [NAME DISK]...");
    arguments = argv;
    behaviour = argv[2];
    prepare_signals();
    disks = (size_t)(argc - 5) / 2;
    for (size_t i = 0; i < disks; i++) {
        disk_fds[i] = open(argv[6 + 2 * i], O_RDWR | O_CLOEXEC);
        if (disk_fds[i] < 0) fail("open %s: %s", argv[6 + 2 * i], strerror(errno));
    }
    if (strcmp(argv[1], "-") != 0) {
        connection = dial(argv[1]);
        struct request request = register_request((uint32_t)getpid());
        call(connection, &request, ++serial);
    }
    report("registered");

    for (;;) {
        struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = connection, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0) continue; // EINTR
        if (connection >= 0 && ready[1].revents != 0) connection_ended();
        if (ready[0].revents != 0) {
            char command[64];
            if (!read_command(STDIN_FILENO, command, sizeof command)) _exit(0);
            obey(command);
        }
    }
}
