/*
 * The system calls of virtlockd-trace that Node.js lacks: connecting with a peer's identity, passing descriptors, and polling a
 * descriptor. Uses N-API and libuv only. relay.ts documents each function.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <grp.h>
#include <node_api.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "../../posix/napi-helpers.h"
#include "../../posix/unix-address.h"

/* The most that the kernel carries in one message (SCM_MAX_FD). */
#define MAX_DESCRIPTORS 253
#define MAX_GROUPS 65536

static napi_value result_of(napi_env env, int status) { return number(env, status < 0 ? -errno : status); }

static int32_t *arg_words(napi_env env, napi_value value) {
    int32_t *words = NULL;
    napi_get_typedarray_info(env, value, NULL, NULL, (void **)&words, NULL, NULL);
    return words;
}

/* ---- sockets -------------------------------------------------------------------------------------------------- */

/* listen(path): a listening socket that only its owner may connect to, or -errno. */
static napi_value relay_listen(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct sockaddr_un address;
    socklen_t size = unix_address(env, argv[0], &address);
    if (size == 0) return number(env, -ENAMETOOLONG);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return number(env, -errno);
    mode_t mask = umask(0177);
    int status = bind(fd, (struct sockaddr *)&address, size);
    umask(mask);
    if (status < 0 || listen(fd, SOMAXCONN) < 0) return number(env, close_failed(fd));
    return number(env, fd);
}

static napi_value relay_is_listening(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct sockaddr_un address;
    socklen_t size = unix_address(env, argv[0], &address);
    napi_value result;
    bool listening = false;
    int fd = size == 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        listening = connect(fd, (struct sockaddr *)&address, size) == 0 || errno == EAGAIN;
        close(fd);
    }
    napi_get_boolean(env, listening, &result);
    return result;
}

static napi_value relay_accept(napi_env env, napi_callback_info info) {
    ARGS(1);
    return result_of(env, accept4(arg_int(env, argv[0]), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static napi_value relay_peer_of(napi_env env, napi_callback_info info) {
    ARGS(2);
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    int status = getsockopt(arg_int(env, argv[0]), SOL_SOCKET, SO_PEERCRED, &peer, &size);
    int32_t *out = arg_words(env, argv[1]);
    out[0] = peer.pid;
    out[1] = (int32_t)peer.uid;
    out[2] = (int32_t)peer.gid;
    return result_of(env, status);
}

/*
 * Takes on the identity of the process behind `fd`, in this thread only: it makes the system calls itself, because glibc's
 * functions change all threads. Returns false, with nothing changed, if this process may not.
 */
static bool become(const struct ucred *peer, int fd) {
    gid_t *groups = malloc(MAX_GROUPS * sizeof(gid_t));
    socklen_t size = MAX_GROUPS * sizeof(gid_t);
    bool done = groups != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0 &&
                syscall(SYS_setgroups, size / sizeof(gid_t), groups) == 0;
    free(groups);
    if (!done) return false;
    if (syscall(SYS_setresgid, -1, peer->gid, -1) < 0) return false;
    if (syscall(SYS_setresuid, -1, peer->uid, -1) < 0) {
        syscall(SYS_setresgid, -1, getgid(), -1);
        return false;
    }
    return true;
}

static napi_value relay_connect_as(napi_env env, napi_callback_info info) {
    ARGS(3);
    struct sockaddr_un address;
    socklen_t address_size = unix_address(env, argv[0], &address);
    if (address_size == 0) return number(env, -ENAMETOOLONG);
    int client = arg_int(env, argv[1]);
    int32_t *out = arg_words(env, argv[2]);
    struct ucred peer = {0};
    socklen_t size = sizeof(peer);
    if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return number(env, -errno);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return number(env, -errno);

    uid_t own_user = geteuid();
    gid_t own_group = getegid();
    bool same = peer.uid == own_user && peer.gid == own_group, became = false;
    gid_t *own_groups = NULL;
    int own_group_count = 0;
    if (!same) {
        own_group_count = getgroups(0, NULL);
        own_groups = malloc(((size_t)own_group_count + 1) * sizeof(gid_t));
        if (own_groups != NULL && getgroups(own_group_count, own_groups) == own_group_count) {
            became = become(&peer, client);
        }
    }
    int status = connect(fd, (struct sockaddr *)&address, address_size) < 0 ? -errno : 0;
    if (!same && own_groups != NULL) {
        /* It must not go on as another user. */
        if (became && (syscall(SYS_setresuid, -1, own_user, -1) < 0 || syscall(SYS_setresgid, -1, own_group, -1) < 0)) {
            abort();
        }
        syscall(SYS_setgroups, own_group_count, own_groups);
    }
    free(own_groups);
    out[0] = same || became;
    if (status < 0) {
        close(fd);
        return number(env, status);
    }
    return number(env, fd);
}

static napi_value relay_receive(napi_env env, napi_callback_info info) {
    ARGS(4);
    char *bytes;
    size_t size, most = (size_t)arg_int(env, argv[2]);
    napi_get_buffer_info(env, argv[1], (void **)&bytes, &size);
    int32_t *descriptors = arg_words(env, argv[3]);
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = most < size ? most : size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t got;
    do {
        got = recvmsg(arg_int(env, argv[0]), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    descriptors[0] = 0;
    if (got < 0) return number(env, -errno);
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one != NULL; one = CMSG_NXTHDR(&message, one)) {
        if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (one->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(descriptors + 1 + descriptors[0], CMSG_DATA(one), count * sizeof(int));
        descriptors[0] += (int32_t)count;
    }
    return number(env, got);
}

static napi_value relay_send(napi_env env, napi_callback_info info) {
    ARGS(5);
    char *bytes;
    size_t size;
    napi_get_buffer_info(env, argv[1], (void **)&bytes, &size);
    int32_t start = arg_int(env, argv[2]), end = arg_int(env, argv[3]);
    const int32_t *descriptors = arg_words(env, argv[4]);
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = bytes + start, .iov_len = (size_t)(end - start)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptors[0] > 0) {
        size_t length = (size_t)descriptors[0] * sizeof(int);
        memset(&control, 0, sizeof(control));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(length);
        struct cmsghdr *only = CMSG_FIRSTHDR(&message);
        only->cmsg_level = SOL_SOCKET;
        only->cmsg_type = SCM_RIGHTS;
        only->cmsg_len = CMSG_LEN(length);
        memcpy(CMSG_DATA(only), descriptors + 1, length);
    }
    ssize_t sent;
    do {
        sent = sendmsg(arg_int(env, argv[0]), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return number(env, sent < 0 ? -errno : sent);
}

static napi_value relay_end_writing(napi_env env, napi_callback_info info) {
    ARGS(1);
    return result_of(env, shutdown(arg_int(env, argv[0]), SHUT_WR));
}

static napi_value relay_is_gone(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct pollfd one = {.fd = arg_int(env, argv[0])};
    napi_value result;
    napi_get_boolean(env, poll(&one, 1, 0) > 0 && (one.revents & (POLLHUP | POLLERR)) != 0, &result);
    return result;
}

static napi_value relay_close(napi_env env, napi_callback_info info) {
    ARGS(1);
    return result_of(env, close(arg_int(env, argv[0])));
}

/* ---- polling -------------------------------------------------------------------------------------------------- */

struct watch {
    uv_poll_t handle;
    napi_env env;
    napi_ref callback;
};

static void on_events(uv_poll_t *handle, int status, int events) {
    struct watch *watch = (struct watch *)handle;
    /* The next read or write reports an error. */
    int32_t seen = status < 0 ? UV_READABLE | UV_WRITABLE : events;
    call_back(watch->env, watch->callback, 1, &seen);
}

static napi_value relay_watch(napi_env env, napi_callback_info info) {
    ARGS(2);
    struct watch *watch = calloc(1, sizeof(*watch));
    uv_loop_t *loop;
    napi_value result;
    watch->env = env;
    napi_create_reference(env, argv[1], 1, &watch->callback);
    napi_get_uv_event_loop(env, &loop);
    uv_poll_init(loop, &watch->handle, arg_int(env, argv[0]));
    napi_create_external(env, watch, NULL, NULL, &result);
    return result;
}

static struct watch *arg_watch(napi_env env, napi_value value) {
    void *watch = NULL;
    napi_get_value_external(env, value, &watch);
    return watch;
}

static napi_value relay_set_events(napi_env env, napi_callback_info info) {
    ARGS(2);
    struct watch *watch = arg_watch(env, argv[0]);
    int events = arg_int(env, argv[1]);
    return number(env, events == 0 ? uv_poll_stop(&watch->handle) : uv_poll_start(&watch->handle, events, on_events));
}

static void on_closed(uv_handle_t *handle) {
    struct watch *watch = (struct watch *)handle;
    napi_delete_reference(watch->env, watch->callback);
    free(watch);
}

static napi_value relay_unwatch(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct watch *watch = arg_watch(env, argv[0]);
    uv_poll_stop(&watch->handle);
    uv_close((uv_handle_t *)&watch->handle, on_closed);
    return NULL;
}

static napi_value init(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("listen", relay_listen),         FUNCTION("isListening", relay_is_listening),
        FUNCTION("accept", relay_accept),         FUNCTION("peerOf", relay_peer_of),
        FUNCTION("connectAs", relay_connect_as),  FUNCTION("receive", relay_receive),
        FUNCTION("send", relay_send),             FUNCTION("endWriting", relay_end_writing),
        FUNCTION("isGone", relay_is_gone),        FUNCTION("close", relay_close),
        FUNCTION("watch", relay_watch),           FUNCTION("setEvents", relay_set_events),
        FUNCTION("unwatch", relay_unwatch),
    };
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
    return exports;
}

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
