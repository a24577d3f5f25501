#include "wire.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER_SIZE 28

uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

void put32(uint8_t *to, uint32_t value) {
    to[0] = (uint8_t)(value >> 24);
    to[1] = (uint8_t)(value >> 16);
    to[2] = (uint8_t)(value >> 8);
    to[3] = (uint8_t)value;
}

static void add32(struct request *request, uint32_t value) {
    if (request->length + 4 > REQUEST_SIZE) fail("request too long");
    put32(request->bytes + request->length, value);
    request->length += 4;
}

static void add_bytes(struct request *request, const void *bytes, size_t length) {
    size_t padded = (length + 3) & ~(size_t)3;
    if (request->length + padded > REQUEST_SIZE) fail("request too long");
    memset(request->bytes + request->length, 0, padded);
    memcpy(request->bytes + request->length, bytes, length);
    request->length += padded;
}

static void add_string(struct request *request, const char *string) {
    add32(request, (uint32_t)strlen(string));
    add_bytes(request, string, strlen(string));
}

static struct request begin(enum procedure procedure) {
    struct request request = {.procedure = procedure, .length = HEADER_SIZE};
    put32(request.bytes + 4, LOCK_PROGRAM);
    put32(request.bytes + 8, 1);
    put32(request.bytes + 12, procedure);
    return request;
}

static struct request end(struct request request) {
    put32(request.bytes, (uint32_t)request.length);
    return request;
}

struct request register_request(uint32_t pid) {
    static const uint8_t uuid[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    struct request request = begin(REGISTER);
    add_bytes(&request, uuid, sizeof uuid);
    add_string(&request, "guest");
    add32(&request, 1);
    add32(&request, pid);
    add32(&request, 0);
    return end(request);
}

struct request lockspace_request(const char *path) {
    struct request request = begin(CREATE_LOCKSPACE);
    add_string(&request, path);
    return end(request);
}

struct request resource_request(enum procedure procedure, const char *path, const char *name, uint32_t flags) {
    struct request request = begin(procedure);
    add_string(&request, path);
    add_string(&request, name);
    add32(&request, flags);
    return end(request);
}

void check_reply(const uint8_t *reply, enum procedure procedure, uint32_t serial) {
    const uint32_t wanted[] = {REPLY_SIZE, LOCK_PROGRAM, 1, procedure, 1, serial, 0};
    for (size_t word = 0; word < sizeof wanted / sizeof *wanted; word++) {
        uint32_t given = get32(reply + 4 * word);
        if (given != wanted[word]) {
            fail("procedure %d: word %zu of the reply is %u, not %u", procedure, word, given, wanted[word]);
        }
    }
}

int try_dial(const char *socket_path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(socket_path) >= sizeof address.sun_path) fail("socket path too long: %s", socket_path);
    strcpy(address.sun_path, socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int dial(const char *socket_path) {
    int fd = try_dial(socket_path);
    if (fd < 0) fail("connect to %s: %s", socket_path, strerror(errno));
    return fd;
}

bool write_all(int fd, const void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t count = send(fd, (const uint8_t *)bytes + done, length - done, MSG_NOSIGNAL);
        if (count <= 0) return false;
        done += (size_t)count;
    }
    return true;
}

bool read_all(int fd, void *bytes, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t count = read(fd, (uint8_t *)bytes + done, length - done);
        if (count <= 0) return false;
        done += (size_t)count;
    }
    return true;
}

void call(int fd, struct request *request, uint32_t serial) {
    uint8_t reply[REPLY_SIZE];
    put32(request->bytes + SERIAL_OFFSET, serial);
    if (!write_all(fd, request->bytes, request->length)) fail("write: %s", strerror(errno));
    if (!read_all(fd, reply, REPLY_SIZE)) fail("procedure %d was not answered", request->procedure);
    check_reply(reply, request->procedure, serial);
}

void raise_descriptors(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) fail("getrlimit: %s", strerror(errno));
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) fail("setrlimit: %s", strerror(errno));
}

void fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ') *at = '\'';
    }
    printf("{\"error\": \"%s\"}\n", text);
    fflush(stdout);
    exit(1);
}
