/*
 * Packets to and from the storage helpers (src/storage) and the guard (src/etcd): sockets whose messages stay whole. posix.ts documents
 * each function.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "addon.h"
#include "napi-helpers.h"

/* packetPair(out): both ends into out, close-on-exec. */
static napi_value posix_packet_pair(napi_env env, napi_callback_info info) {
    ARGS(1);
    int32_t *out;
    int ends[2];
    napi_get_typedarray_info(env, argv[0], NULL, NULL, (void **)&out, NULL, NULL);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) return number(env, -errno);
    out[0] = ends[0];
    out[1] = ends[1];
    return number(env, 0);
}

/* sendPacket(fd, buffer, length, attached): 0, or -errno. Never waits, never raises SIGPIPE. */
static napi_value posix_send_packet(napi_env env, napi_callback_info info) {
    ARGS(4);
    struct iovec data = {0};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    int attached = argc > 3 ? arg_int(env, argv[3]) : -1;
    ssize_t sent;
    napi_get_buffer_info(env, argv[1], &data.iov_base, NULL);
    data.iov_len = (size_t)arg_int(env, argv[2]);
    if (attached >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &attached, sizeof(attached));
    }
    do {
        sent = sendmsg(arg_int(env, argv[0]), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return number(env, sent < 0 ? -errno : 0);
}

/*
 * receivePacket(fd, buffer, out): the packet's length, or -errno; out[0] is the descriptor that came with it, or -1. There is room for one:
 * the kernel drops others. Never waits.
 */
static napi_value posix_receive_packet(napi_env env, napi_callback_info info) {
    ARGS(3);
    struct iovec data = {0};
    int32_t *out;
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t size;
    napi_get_buffer_info(env, argv[1], &data.iov_base, &data.iov_len);
    napi_get_typedarray_info(env, argv[2], NULL, NULL, (void **)&out, NULL, NULL);
    out[0] = -1;
    do {
        size = recvmsg(arg_int(env, argv[0]), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    if (size < 0) return number(env, -errno);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) memcpy(out, CMSG_DATA(header), sizeof(int));
    return number(env, size);
}

/* boottime(): the clock of deadlines that a suspended host does not stop, in milliseconds. */
static napi_value posix_boottime(napi_env env, napi_callback_info info) {
    struct timespec now = {0};
    napi_value result;
    (void)info;
    clock_gettime(CLOCK_BOOTTIME, &now);
    napi_create_double(env, (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6, &result);
    return result;
}

void define_packet(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("packetPair", posix_packet_pair),
        FUNCTION("sendPacket", posix_send_packet),
        FUNCTION("receivePacket", posix_receive_packet),
        FUNCTION("boottime", posix_boottime),
    };
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
}
