#include "rates.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"
#include "peers.h"

/* A connection that sends its two requests in turn. */
struct peer {
    int fd;
    uint32_t serial;
    unsigned turn;
    uint64_t sent;
    struct request requests[2];
};

static struct waits waits;

static void send_next(struct peer *peer) {
    struct request *request = &peer->requests[peer->turn];
    put32(request->bytes + SERIAL_OFFSET, ++peer->serial);
    peer->sent = now();
    if (!write_all(peer->fd, request->bytes, request->length)) fail("write: %s", strerror(errno));
}

/* Reads the reply and returns the time. */
static uint64_t take_reply(struct peer *peer) {
    uint8_t reply[REPLY_SIZE];
    if (!read_all(peer->fd, reply, REPLY_SIZE)) fail("procedure %d was not answered", peer->requests[peer->turn].procedure);
    uint64_t at = now();
    check_reply(reply, peer->requests[peer->turn].procedure, peer->serial);
    add_wait(&waits, at - peer->sent);
    peer->turn ^= 1;
    return at;
}

/* One peer needs no epoll: the generator makes two system calls a request. */
static void run_one(struct peer *peer, uint64_t end) {
    do send_next(peer);
    while (take_reply(peer) < end || peer->turn != 0);
}

static void run_many(struct peer *peers, unsigned count, uint64_t end) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
        send_next(&peers[i]);
    }
    for (unsigned busy = count; busy > 0;) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, 60000);
        if (ready <= 0) fail("no reply within a minute");
        for (int i = 0; i < ready; i++) {
            struct peer *peer = events[i].data.ptr;
            /* Every peer ends with its second request, so that nothing stays acquired. */
            if (take_reply(peer) >= end && peer->turn == 0) busy--;
            else send_next(peer);
        }
    }
    close(epoll);
}

static void run_peers(struct peer *peers, unsigned count, double seconds) {
    memset(&waits, 0, sizeof waits);
    struct interval interval = begin_interval(target.daemon);
    uint64_t end = interval.start + (uint64_t)(seconds * 1e9);
    if (count == 1) run_one(peers, end);
    else run_many(peers, count, end);
    double took = (double)(now() - interval.start) / 1e9;
    printf("{");
    print_waits(&waits, waits.count, took);
    printf(", ");
    print_interval(&interval);
    printf("}\n");
}

static struct peer *make_peers(unsigned count) {
    struct peer *peers = calloc(count, sizeof *peers);
    if (peers == NULL) fail("out of memory");
    for (unsigned i = 0; i < count; i++) peers[i].fd = connect_registered(NOBODY + i);
    return peers;
}

static void end_peers(struct peer *peers, unsigned count) {
    for (unsigned i = 0; i < count; i++) close(peers[i].fd);
    free(peers);
}

void run_register(unsigned connections, double seconds) {
    struct peer *peers = make_peers(connections);
    for (unsigned i = 0; i < connections; i++) {
        peers[i].requests[0] = peers[i].requests[1] = register_request(NOBODY + i);
    }
    run_peers(peers, connections, seconds);
    end_peers(peers, connections);
}

static void set_resource(struct peer *peer, struct name name, uint32_t flags) {
    peer->requests[0] = resource_request(ACQUIRE, target.directory, name.text, flags);
    peer->requests[1] = resource_request(RELEASE, target.directory, name.text, 0);
}

void run_acquire(unsigned connections, double seconds) {
    struct peer *peers = make_peers(connections);
    for (unsigned i = 0; i < connections; i++) set_resource(&peers[i], name_of(KIND_LOAD, i), AUTOCREATE);
    run_peers(peers, connections, seconds);
    end_peers(peers, connections);
}

void run_shared(unsigned owners, double seconds) {
    struct name name = name_of(KIND_SHARED, 0);
    struct peer *peer = make_peers(1);
    set_resource(peer, name, SHARED | AUTOCREATE);
    for (unsigned i = 1; i <= owners; i++) {
        struct request request = register_request(NOBODY + i);
        call(peer->fd, &request, 1);
        call(peer->fd, &peer->requests[0], 2);
    }
    struct request self = register_request(NOBODY);
    call(peer->fd, &self, 1);
    run_peers(peer, 1, seconds);
    for (unsigned i = 1; i <= owners; i++) {
        struct request request = register_request(NOBODY + i);
        call(peer->fd, &request, 1);
        call(peer->fd, &peer->requests[1], 2);
    }
    end_peers(peer, 1);
}

void run_cycle(double seconds) {
    struct name name = name_of(KIND_LOAD, 0);
    struct request introduction = register_request(NOBODY);
    struct request acquire = resource_request(ACQUIRE, target.directory, name.text, AUTOCREATE);
    struct request release = resource_request(RELEASE, target.directory, name.text, 0);
    memset(&waits, 0, sizeof waits);
    struct interval interval = begin_interval(target.daemon);
    uint64_t end = interval.start + (uint64_t)(seconds * 1e9), at = interval.start;
    while (at < end) {
        int fd = dial(target.socket);
        call(fd, &introduction, 1);
        call(fd, &acquire, 2);
        call(fd, &release, 3);
        close(fd);
        uint64_t after = now();
        add_wait(&waits, after - at);
        at = after;
    }
    printf("{");
    print_waits(&waits, waits.count, (double)(at - interval.start) / 1e9);
    printf(", ");
    print_interval(&interval);
    printf("}\n");
}

void run_probe(double seconds, double timeout) {
    struct request request = register_request(NOBODY);
    struct timeval limit = {.tv_sec = (time_t)timeout, .tv_usec = (suseconds_t)((timeout - (double)(time_t)timeout) * 1e6)};
    unsigned unanswered = 0, closed = 0;
    uint32_t serial = 0;
    uint64_t longest_at = 0, longest_gap = 0;
    int fd = connect_registered(NOBODY);
    memset(&waits, 0, sizeof waits);
    struct interval interval = begin_interval(target.daemon);
    uint64_t end = interval.start + (uint64_t)(seconds * 1e9), at, answered_at = interval.start;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    do {
        uint8_t reply[REPLY_SIZE];
        uint64_t sent = now();
        put32(request.bytes + SERIAL_OFFSET, ++serial);
        errno = 0;
        bool answered = write_all(fd, request.bytes, request.length) && read_all(fd, reply, REPLY_SIZE);
        at = now();
        if (answered) {
            check_reply(reply, REGISTER, serial);
            if (at - answered_at > longest_gap) longest_gap = at - answered_at;
            answered_at = at;
            if (at - sent > waits.longest) longest_at = sent - interval.start;
            add_wait(&waits, at - sent);
        } else {
            if (errno == EAGAIN) unanswered++;
            else closed++;
            close(fd);
            fd = dial(target.socket);
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        }
    } while (at < end);
    close(fd);
    printf("{\"unanswered\": %u, \"closed\": %u, \"longestAt\": %.6f, \"gap\": %.3f, ", unanswered, closed,
           (double)longest_at / 1e9, (double)longest_gap / 1e3);
    print_waits(&waits, waits.count, (double)(at - interval.start) / 1e9);
    printf(", ");
    print_interval(&interval);
    printf("}\n");
}
