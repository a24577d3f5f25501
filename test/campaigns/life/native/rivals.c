/*
 * Asks for the disks of one writer, over many connections at once, until the writer is gone and everybody has had an answer.
 *
 *   rivals PID
 *
 * PID is the writer's: what counts at every answer is whether that process was gone by then (its pidfd is readable). The rivals
 * come on standard input, a line each, with tabs between the fields, then an empty line:
 *
 *   SOCKET KIND LOCKSPACE NAME FLAGS DISK OWNER PATIENCE
 *
 * KIND is acquire, release, create or delete; or bystander, who connects, registers, and wants to be served.
 * Who acquires exclusively marks DISK at once and releases. OWNER is the pid to register. Who has waited for PATIENCE ms
 * hangs up and does not come back; 0: never.
 *
 * Prints lines of JSON, times by CLOCK_MONOTONIC in ns:
 *   asking                   everybody has had an answer
 *   answer                   to one call: code 0 for success; gone: whether the writer was; of a grant also the last writer on
 *                            the disk (by, counter, wrote)
 *   served                   a bystander has registered
 *   forgotten                who was impatient has hung up
 *   closed                   the daemon ended a connection
 *   gone                     the writer is
 *   done                     all of it is over
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk.h"

#define MAX_RIVALS 32
#define MS 1000000
#define REST_NS (8 * MS)
/* What a rival is doing. TIDYING: it deletes what it created. After it has hung up: ABANDONED, and if in doubt the next two. */
enum stage { REGISTERING, RESTING, ASKING, GIVING_BACK, TIDYING, ABANDONED, RETURNING, MAKING_SURE, FINISHED };

struct rival {
    char *socket, *lockspace, *name;
    enum procedure procedure;
    uint32_t flags;
    int disk;
    uint32_t owner;
    int64_t patience;
    enum stage stage;
    int fd;
    uint32_t serial;
    /* When the present stage began: the call was sent, the rest began, the rival hung up. */
    int64_t since;
    /* The writer was gone when the call was sent. */
    bool was_sent_late;
    /* Or has hung up. */
    bool was_answered;
    /* The writer was gone at the last answer that counts: nothing more is to be asked. */
    bool is_over;
    size_t received;
    uint8_t buffer[16384];
};

static struct rival rivals[MAX_RIVALS];
static size_t count;
static int writer;
static int64_t gone_at;
/*
 * When a bystander connected that was served while the writer was there. Who hung up later than that may have been granted the
 * lock before the daemon saw it: such a hold is as good as any, and must be given back.
 */
static int64_t noticed_until;
/*
 * Whether the writer was gone when the answers that are being read were there already: both come from one call of poll, which
 * looks at the connections first. Asked later, a grant that came too early would look like one in time.
 */
static bool was_gone;

static size_t number_of(const struct rival *rival) {
    return (size_t)(rival - rivals);
}

static void enter(struct rival *rival, enum stage stage) {
    rival->stage = stage;
    rival->since = now();
}

static void hang_up(struct rival *rival) {
    if (rival->fd >= 0) close(rival->fd);
    rival->fd = -1;
    rival->received = 0;
}

static void ended_by_daemon(struct rival *rival) {
    hang_up(rival);
    enter(rival, FINISHED);
    printf("{\"is\": \"closed\", \"rival\": %zu, \"at\": %" PRId64 "}\n", number_of(rival), now());
}

static void submit(struct rival *rival, struct request request, enum stage stage) {
    put32(request.bytes + SERIAL_OFFSET, ++rival->serial);
    rival->was_sent_late = gone_at != 0;
    enter(rival, stage);
    if (!write_all(rival->fd, request.bytes, request.length)) ended_by_daemon(rival);
}

static void make_call(struct rival *rival, enum procedure procedure, enum stage stage) {
    submit(rival, resource_request(procedure, rival->lockspace, rival->name, procedure == ACQUIRE ? rival->flags : 0), stage);
}

static void appear(struct rival *rival, enum stage stage) {
    int64_t since = now();
    rival->fd = try_dial(rival->socket);
    if (rival->fd < 0) {
        ended_by_daemon(rival);
        return;
    }
    submit(rival, register_request(rival->owner), stage);
    rival->since = since;
}

static bool is_bystander(const struct rival *rival) {
    return rival->procedure == REGISTER;
}

static void print_answer(const struct rival *rival, int64_t at, uint32_t code, const struct record *seen) {
    printf("{\"is\": \"answer\", \"rival\": %zu, \"sent\": %" PRId64 ", \"at\": %" PRId64 ", \"code\": %u, \"gone\": %s",
           number_of(rival), rival->since, at, code, was_gone ? "true" : "false");
    if (seen != NULL) {
        printf(", \"by\": \"%s\", \"counter\": %" PRIu64 ", \"wrote\": %" PRId64, seen->by == BY_WRITER ? "writer" : "rival",
               seen->counter, seen->at);
    }
    printf("}\n");
    // Now: what comes next may wait, on a hung file system.
    fflush(stdout);
}

/* It is the rival's: a writer's counter that is there from now on was written to another owner's disk. */
static void take_disk(const struct rival *rival, int64_t at) {
    struct record seen;
    if (pread(rival->disk, &seen, sizeof seen, 0) != sizeof seen) fail("read: %s", strerror(errno));
    struct record mark = {.by = BY_RIVAL, .pid = rival->owner, .counter = number_of(rival), .at = now()};
    print_answer(rival, at, 0, &seen);
    if (pwrite(rival->disk, &mark, sizeof mark, 0) != sizeof mark) fail("mark: %s", strerror(errno));
}

static void rest_or_finish(struct rival *rival) {
    if (!rival->is_over) {
        enter(rival, RESTING);
        return;
    }
    hang_up(rival);
    enter(rival, FINISHED);
}

/* The answer to what the rival is here for. */
static void answered(struct rival *rival, uint32_t code, int64_t at) {
    rival->was_answered = true;
    bool is_exclusive_grant = code == 0 && rival->procedure == ACQUIRE && (rival->flags & SHARED) == 0;
    if (is_exclusive_grant) take_disk(rival, at);
    else print_answer(rival, at, code, NULL);
    // Held by another rival: its time comes. Any other answer to a call made late is the last one.
    bool is_held = code == 87 && rival->procedure != RELEASE;
    rival->is_over = code == 0 ? was_gone : !is_held && rival->was_sent_late;
    if (code == 0 && rival->procedure == ACQUIRE) make_call(rival, RELEASE, GIVING_BACK);
    else if (code == 0 && rival->procedure == CREATE && (rival->flags & AUTOCREATE) != 0) make_call(rival, DELETE, TIDYING);
    else rest_or_finish(rival);
}

static void registered(struct rival *rival, int64_t at) {
    if (!is_bystander(rival)) {
        make_call(rival, rival->procedure, ASKING);
        return;
    }
    rival->was_answered = true;
    if (!was_gone) noticed_until = rival->since;
    rival->is_over = was_gone;
    printf("{\"is\": \"served\", \"rival\": %zu, \"sent\": %" PRId64 ", \"at\": %" PRId64 "}\n", number_of(rival), rival->since,
           at);
    hang_up(rival);
    rest_or_finish(rival);
}

static void handle(struct rival *rival, uint32_t code) {
    int64_t at = now();
    switch (rival->stage) {
    case REGISTERING:
        if (code != 0) fail("rival %zu: REGISTER was refused with %u", number_of(rival), code);
        registered(rival, at);
        break;
    case ASKING:
        answered(rival, code, at);
        break;
    case GIVING_BACK:
        if (code != 0) fail("rival %zu: RELEASE of what it had been granted was refused with %u", number_of(rival), code);
        rest_or_finish(rival);
        break;
    case TIDYING:
        rest_or_finish(rival);
        break;
    case RETURNING:
        make_call(rival, RELEASE, MAKING_SURE);
        break;
    case MAKING_SURE:
        rival->is_over = true;
        rest_or_finish(rival);
        break;
    case RESTING:
    case ABANDONED:
    case FINISHED:
        fail("rival %zu: an answer to nothing", number_of(rival));
    }
}

static void receive(struct rival *rival) {
    ssize_t length = recv(rival->fd, rival->buffer + rival->received, sizeof rival->buffer - rival->received, 0);
    if (length <= 0) {
        ended_by_daemon(rival);
        return;
    }
    rival->received += (size_t)length;
    if (rival->received < REPLY_SIZE || rival->received < get32(rival->buffer)) return;
    uint32_t status = get32(rival->buffer + REPLY_SIZE - 4);
    uint32_t code = status == 0 ? 0 : get32(rival->buffer + REPLY_SIZE);
    if (get32(rival->buffer + SERIAL_OFFSET) != rival->serial) fail("rival %zu: a wrong serial", number_of(rival));
    rival->received = 0;
    handle(rival, code);
}

static void note_end_of_writer(void) {
    gone_at = now();
    printf("{\"is\": \"gone\", \"at\": %" PRId64 "}\n", gone_at);
}

/* What is due without an answer. */
static void look_at_clock(struct rival *rival) {
    int64_t time = now();
    if (rival->stage == RESTING && time - rival->since >= REST_NS) {
        if (is_bystander(rival)) appear(rival, REGISTERING);
        else make_call(rival, rival->procedure, ASKING);
    } else if (rival->stage == ASKING && rival->patience > 0 && time - rival->since >= rival->patience) {
        printf("{\"is\": \"forgotten\", \"rival\": %zu, \"sent\": %" PRId64 ", \"at\": %" PRId64 "}\n", number_of(rival),
               rival->since, time);
        hang_up(rival);
        rival->was_answered = true; // There is nothing more to wait for.
        enter(rival, ABANDONED);
    } else if (rival->stage == ABANDONED && gone_at != 0) {
        if (noticed_until > rival->since) {
            enter(rival, FINISHED);
            return;
        }
        appear(rival, RETURNING);
    }
}

static void read_rival(char *line) {
    if (count == MAX_RIVALS) fail("more than %d rivals", MAX_RIVALS);
    struct rival *rival = &rivals[count++];
    char *fields[8];
    for (size_t i = 0; i < 8; i++) {
        fields[i] = strsep(&line, "\t");
        if (fields[i] == NULL) fail("a rival has 8 fields");
    }
    const char *kind = fields[1];
    rival->socket = strdup(fields[0]);
    rival->procedure = strcmp(kind, "acquire") == 0   ? ACQUIRE
                       : strcmp(kind, "release") == 0 ? RELEASE
                       : strcmp(kind, "create") == 0  ? CREATE
                       : strcmp(kind, "delete") == 0  ? DELETE
                                                      : REGISTER;
    rival->lockspace = strdup(fields[2]);
    rival->name = strdup(fields[3]);
    rival->flags = (uint32_t)number_in(fields[4]);
    rival->disk = fields[5][0] == '\0' ? -1 : open(fields[5], O_RDWR | O_CLOEXEC);
    if (fields[5][0] != '\0' && rival->disk < 0) fail("open %s: %s", fields[5], strerror(errno));
    rival->owner = (uint32_t)number_in(fields[6]);
    rival->patience = number_in(fields[7]) * (int64_t)MS;
    rival->fd = -1;
}

static void read_rivals(void) {
    static char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0') return;
        read_rival(line);
    }
    exit(0);
}

/* Waits for an answer, the writer's end, the end of standard input, or the next thing that is due. */
static void wait_for_something(void) {
    struct pollfd ready[MAX_RIVALS + 2];
    for (size_t i = 0; i < count; i++) ready[i] = (struct pollfd){.fd = rivals[i].fd, .events = POLLIN};
    ready[count] = (struct pollfd){.fd = gone_at == 0 ? writer : -1, .events = POLLIN};
    ready[count + 1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    fflush(stdout);
    if (poll(ready, count + 2, 2) < 0) return;
    if (ready[count + 1].revents != 0) exit(0);
    was_gone = gone_at != 0 || ready[count].revents != 0;
    for (size_t i = 0; i < count; i++) {
        if (ready[i].revents != 0 && rivals[i].fd >= 0) receive(&rivals[i]);
    }
    if (ready[count].revents != 0) note_end_of_writer();
}

int main(int argc, char **argv) {
    if (argc != 2) fail("usage: rivals PID");
    writer = (int)syscall(SYS_pidfd_open, (pid_t)number_in(argv[1]), 0);
    if (writer < 0) fail("pidfd_open of the writer: %s", strerror(errno));
    read_rivals();
    for (size_t i = 0; i < count; i++) appear(&rivals[i], REGISTERING);
    bool is_asking = false;
    for (;;) {
        bool is_done = gone_at != 0, has_asked = true;
        for (size_t i = 0; i < count; i++) {
            look_at_clock(&rivals[i]);
            if (rivals[i].stage != FINISHED) is_done = false;
            if (rivals[i].stage != FINISHED && !rivals[i].was_answered) has_asked = false;
        }
        if (has_asked && !is_asking) {
            is_asking = true;
            printf("{\"is\": \"asking\", \"at\": %" PRId64 "}\n", now());
        }
        if (is_done) break;
        wait_for_something();
    }
    printf("{\"is\": \"done\", \"at\": %" PRId64 "}\n", now());
    fflush(stdout);
    return 0;
}
