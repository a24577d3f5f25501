#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct target target;

struct name name_of(unsigned kind, unsigned index) {
    struct name name;
    uint64_t mixed = ((uint64_t)kind << 32 | index) + 1;
    char *at = name.text;
    for (int part = 0; part < 4; part++) {
        mixed = (mixed ^ mixed >> 31) * 0x9E3779B97F4A7C15u;
        at += sprintf(at, "%016lx", (unsigned long)mixed);
    }
    return name;
}

const char *path_of(struct name name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", target.directory, name.text);
    return path;
}

void make_names(unsigned kind, unsigned count) {
    /* File systems allow 65 000 at least. */
    enum { NAMES = 1000 };
    char first[4096] = "";
    for (unsigned i = 0; i < count; i++) {
        const char *path = path_of(name_of(kind, i));
        if (i % NAMES == 0) {
            strcpy(first, path);
            int fd = open(path, O_CREAT | O_CLOEXEC, 0600);
            if (fd < 0) fail("%s: %s", path, strerror(errno));
            close(fd);
        } else if (link(first, path) != 0 && errno != EEXIST) {
            fail("%s: %s", path, strerror(errno));
        }
    }
}

int connect_registered(uint32_t pid) {
    /* A daemon that never answers, as C after a restart, must not block the benchmark for ever. */
    const struct timeval limit = {.tv_sec = 30};
    int fd = dial(target.socket);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    struct request request = register_request(pid);
    call(fd, &request, 1);
    return fd;
}

void connect_many(int *fds, unsigned count) {
    const unsigned batch = 256;
    for (unsigned done = 0; done < count;) {
        unsigned end = done + batch < count ? done + batch : count;
        for (unsigned i = done; i < end; i++) {
            fds[i] = dial(target.socket);
            struct request request = register_request(NOBODY + i);
            put32(request.bytes + SERIAL_OFFSET, 1);
            if (!write_all(fds[i], request.bytes, request.length)) fail("write: %s", strerror(errno));
        }
        for (; done < end; done++) {
            uint8_t reply[REPLY_SIZE];
            if (!read_all(fds[done], reply, REPLY_SIZE)) fail("connection %u was not answered", done);
            check_reply(reply, REGISTER, 1);
        }
    }
}

void set_idle(unsigned count) {
    static int *fds;
    static unsigned open;
    if (count > open) {
        fds = realloc(fds, count * sizeof *fds);
        if (fds == NULL) fail("out of memory");
        connect_many(fds + open, count - open);
    }
    for (unsigned i = count; i < open; i++) close(fds[i]);
    open = count;
}

void exchange_many(enum procedure procedure, unsigned kind, unsigned count, uint32_t owner, uint32_t flags) {
    enum { WINDOW = 64 };
    static uint8_t out[WINDOW * REQUEST_SIZE];
    int fd = connect_registered(owner);
    for (unsigned done = 0; done < count;) {
        unsigned end = done + WINDOW < count ? done + WINDOW : count;
        size_t length = 0;
        for (unsigned i = done; i < end; i++) {
            struct request request = resource_request(procedure, target.directory, name_of(kind, i).text, flags);
            put32(request.bytes + SERIAL_OFFSET, i);
            memcpy(out + length, request.bytes, request.length);
            length += request.length;
        }
        if (!write_all(fd, out, length)) fail("write: %s", strerror(errno));
        for (; done < end; done++) {
            uint8_t reply[REPLY_SIZE];
            if (!read_all(fd, reply, REPLY_SIZE)) fail("request %u of many was not answered", done);
            check_reply(reply, procedure, done);
        }
    }
    close(fd);
}
