/*
 * The floor: floor SOCKET
 *
 * The lower bound of every lock daemon: a bare epoll server that makes only the system calls that a request needs (epoll_wait,
 * read, write; for ACQUIRE open, fcntl, fstat, stat; for RELEASE unlink, close). It checks nothing, keeps only the last descriptor
 * of each connection, and answers every request with success.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define CONNECTIONS 200000
#define HEADER_SIZE 28

/* The lock file each connection opened last. */
static int lock_of[CONNECTIONS];

/* Copies an XDR string behind `to`, and returns what follows it. */
static const uint8_t *take_string(const uint8_t *from, char **to) {
    uint32_t length = get32(from);
    memcpy(*to, from + 4, length);
    *to += length;
    return from + 4 + ((length + 3) & ~3u);
}

static const char *path_of(const uint8_t *payload) {
    static char path[2 * REQUEST_SIZE];
    char *at = path;
    payload = take_string(payload, &at);
    *at++ = '/';
    take_string(payload, &at);
    *at = '\0';
    return path;
}

static void acquire(int connection, const char *path) {
    struct stat held, named;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fcntl(fd, F_SETLK, &lock) != 0 || fstat(fd, &held) != 0 || stat(path, &named) != 0) {
        fail("%s: %s", path, strerror(errno));
    }
    lock_of[connection] = fd;
}

static void release(int connection, const char *path) {
    unlink(path);
    close(lock_of[connection]);
}

static void answer(int connection, const uint8_t *request) {
    uint8_t reply[REPLY_SIZE];
    uint32_t procedure = get32(request + 12);
    if (procedure == ACQUIRE) acquire(connection, path_of(request + HEADER_SIZE));
    if (procedure == RELEASE) release(connection, path_of(request + HEADER_SIZE));
    memcpy(reply, request, REPLY_SIZE);
    put32(reply, REPLY_SIZE);
    put32(reply + 16, 1);
    if (write(connection, reply, REPLY_SIZE) != REPLY_SIZE) fail("write: %s", strerror(errno));
}

/* Requests come whole, because the load generator writes them whole; several may come at once. */
static void serve(int connection) {
    static uint8_t input[65536];
    ssize_t length = read(connection, input, sizeof input);
    if (length <= 0) {
        close(connection);
        return;
    }
    for (ssize_t at = 0; at < length; at += get32(input + at)) answer(connection, input + at);
}

static int listen_at(const char *socket_path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || strlen(socket_path) >= sizeof address.sun_path) fail("no socket for %s", socket_path);
    strcpy(address.sun_path, socket_path);
    unlink(socket_path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0) {
        fail("%s: %s", socket_path, strerror(errno));
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 2) fail("usage: floor SOCKET");
    raise_descriptors();
    int listener = listen_at(argv[1]);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) continue;
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
            if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) fail("epoll_ctl: %s", strerror(errno));
        }
    }
}
