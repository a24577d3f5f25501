/*
 * The client's side of a UNIX socket, for the fuzzer and the tests: blocking with a limit, and able to attach
 * descriptors, which Node.js is not. Not part of the daemon. client.ts is its typed face and documents each function.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../posix/napi-helpers.h"
#include "../../posix/unix-address.h"

#define MAX_DESCRIPTORS 64

static napi_value client_connect(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct sockaddr_un address;
    socklen_t length = unix_address(env, argv[0], &address);
    if (length == 0) return number(env, -ENAMETOOLONG);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return number(env, -errno);
    return connect(fd, (struct sockaddr *)&address, length) < 0 ? number(env, close_failed(fd)) : number(env, fd);
}

static napi_value client_pair(napi_env env, napi_callback_info info) {
    ARGS(1);
    int32_t *out;
    int pair[2];
    napi_get_typedarray_info(env, argv[0], NULL, NULL, (void **)&out, NULL, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return number(env, -errno);
    out[0] = pair[0];
    out[1] = pair[1];
    return number(env, 0);
}

static int wait_for(int fd, short events, int limit) {
    struct pollfd entry = {.fd = fd, .events = events};
    int ready;
    do {
        ready = poll(&entry, 1, limit);
    } while (ready < 0 && errno == EINTR);
    return ready;
}

/* send(fd, bytes, descriptors, limit): all bytes, the descriptors with the first of them. */
static napi_value client_send(napi_env env, napi_callback_info info) {
    ARGS(4);
    char *data;
    size_t size, sent = 0;
    uint32_t count = 0;
    int fd = arg_int(env, argv[0]), limit = arg_int(env, argv[3]);
    union {
        char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
        struct cmsghdr align;
    } control;
    napi_get_buffer_info(env, argv[1], (void **)&data, &size);
    napi_get_array_length(env, argv[2], &count);
    if (count > MAX_DESCRIPTORS) count = MAX_DESCRIPTORS;

    while (sent < size) {
        struct iovec part = {.iov_base = data + sent, .iov_len = size - sent};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (count > 0 && sent == 0) {
            int descriptors[MAX_DESCRIPTORS];
            for (uint32_t i = 0; i < count; i++) {
                napi_value item;
                napi_get_element(env, argv[2], i, &item);
                descriptors[i] = arg_int(env, item);
            }
            message.msg_control = control.bytes;
            message.msg_controllen = CMSG_SPACE(count * sizeof(int));
            memset(&control, 0, sizeof(control));
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(count * sizeof(int));
            memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
        }
        ssize_t got = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (got >= 0) sent += (size_t)got;
        else if (errno == EAGAIN) {
            if (wait_for(fd, POLLOUT, limit) <= 0) break;
        } else if (errno != EINTR) return number(env, -errno);
    }
    return number(env, (int64_t)sent);
}

/* receive(fd, into, offset, limit): bytes; 0 at the end; -EAGAIN when nothing comes in time. */
static napi_value client_receive(napi_env env, napi_callback_info info) {
    ARGS(4);
    char *data;
    size_t size;
    int fd = arg_int(env, argv[0]), offset = arg_int(env, argv[2]), limit = arg_int(env, argv[3]);
    napi_get_buffer_info(env, argv[1], (void **)&data, &size);
    for (;;) {
        ssize_t got = recv(fd, data + offset, size - (size_t)offset, MSG_DONTWAIT);
        if (got >= 0) return number(env, got);
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return number(env, -errno);
        int ready = limit == 0 ? 0 : wait_for(fd, POLLIN, limit);
        if (ready <= 0) return number(env, ready < 0 ? -errno : -EAGAIN);
    }
}

static napi_value client_finish(napi_env env, napi_callback_info info) {
    ARGS(1);
    return number(env, shutdown(arg_int(env, argv[0]), SHUT_WR) < 0 ? -errno : 0);
}

static napi_value client_close(napi_env env, napi_callback_info info) {
    ARGS(1);
    return number(env, close(arg_int(env, argv[0])) < 0 ? -errno : 0);
}

static napi_value init(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("connect", client_connect), FUNCTION("pair", client_pair),     FUNCTION("send", client_send),
        FUNCTION("receive", client_receive), FUNCTION("finish", client_finish), FUNCTION("close", client_close),
    };
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
    return exports;
}

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
