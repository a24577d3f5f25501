/*
 * The native part of src/store (record.ts, store.ts, in-flight.ts): memory behind a descriptor, entries written into it without a system
 * call, messages with descriptors for the service manager, and a queue of descriptors. posix.ts documents each function.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "addon.h"
#include "napi-helpers.h"
#include "unix-address.h"

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* The memory is allocated in full and cannot shrink, so that no write into it can fault. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int create_memory(off_t size) {
    int fd = memfd_create("virtlockd record", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return -errno;
    int status;
    do {
        status = fallocate(fd, 0, 0, size);
    } while (status < 0 && errno == EINTR);
    if (status == 0) status = fcntl(fd, F_ADD_SEALS, SEALS);
    return status == 0 ? fd : close_failed(fd);
}

/* createMemory(size): its descriptor, or -errno. */
static napi_value posix_create_memory(napi_env env, napi_callback_info info) {
    ARGS(1);
    int64_t size = 0;
    napi_get_value_int64(env, argv[0], &size);
    return number(env, create_memory(size));
}

static void unmap(napi_env env, void *data, void *size) {
    (void)env;
    munmap(data, (size_t)size);
}

/* mapMemory(fd): an ArrayBuffer over memory of createMemory, or -errno: -EINVAL for other memory, which might shrink. */
static napi_value posix_map_memory(napi_env env, napi_callback_info info) {
    ARGS(1);
    int fd = arg_int(env, argv[0]);
    struct statx st;
    napi_value buffer;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0) return number(env, -errno);
    if ((seals & SEALS) != SEALS) return number(env, -EINVAL);
    /* Not fstat, which is a symbol of glibc 2.33: see addon.c. */
    if (statx(fd, "", AT_EMPTY_PATH, STATX_SIZE | STATX_BLOCKS, &st) < 0) return number(env, -errno);
    size_t size = (size_t)st.stx_size;
    /* Holes would be allocated at the first write, which faults if there is no memory. */
    if (size == 0 || st.stx_blocks * 512 < size) return number(env, -EINVAL);
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) return number(env, -errno);
    if (napi_create_external_arraybuffer(env, data, size, unmap, (void *)size, &buffer) == napi_ok) return buffer;
    munmap(data, size);
    return number(env, -ENOTSUP);
}

/* ---- entries -------------------------------------------------------------------------------------------------- */

/* CRC-32 as zlib's, eight bytes at a time. */
static uint32_t crc_tables[8][256];

static void fill_crc_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
        crc_tables[0][byte] = crc;
    }
    for (int table = 1; table < 8; table++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = crc_tables[table - 1][byte];
            crc_tables[table][byte] = crc >> 8 ^ crc_tables[0][crc & 0xff];
        }
    }
}

static uint32_t crc32_of(const uint8_t *bytes, size_t length) {
    uint32_t crc = UINT32_MAX;
    for (; length >= 8; length -= 8, bytes += 8) {
        crc ^= (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
        crc = crc_tables[7][crc & 0xff] ^ crc_tables[6][crc >> 8 & 0xff] ^ crc_tables[5][crc >> 16 & 0xff] ^
              crc_tables[4][crc >> 24] ^ crc_tables[3][bytes[4]] ^ crc_tables[2][bytes[5]] ^ crc_tables[1][bytes[6]] ^
              crc_tables[0][bytes[7]];
    }
    for (; length > 0; length--, bytes++) crc = crc >> 8 ^ crc_tables[0][(crc ^ *bytes) & 0xff];
    return ~crc;
}

/* Two words: the CRC-32 of the length and the text, and the length of the text, which follows. Entries begin at multiples of four. */
#define ENTRY_HEAD 8

static uint32_t crc32_of_entry(const uint8_t *entry, size_t length) {
    return crc32_of(entry + 4, ENTRY_HEAD - 4 + length);
}

/* writeEntry(memory, at, text): the offset of the next entry, or -ENOSPC. */
static napi_value posix_write_entry(napi_env env, napi_callback_info info) {
    ARGS(3);
    uint8_t *data;
    size_t size = 0, length = 0;
    int64_t at = 0;
    napi_get_typedarray_info(env, argv[0], NULL, &size, (void **)&data, NULL, NULL);
    napi_get_value_int64(env, argv[1], &at);
    if (at < 0 || (uint64_t)at + ENTRY_HEAD >= size) return number(env, -ENOSPC);
    size_t room = size - (size_t)at - ENTRY_HEAD;
    uint8_t *entry = data + at;
    /* One byte of the room is for the terminating zero. */
    napi_get_value_string_latin1(env, argv[2], (char *)entry + ENTRY_HEAD, room, &length);
    size_t next = ((size_t)at + ENTRY_HEAD + length + 3) & ~(size_t)3;
    if (length + 1 >= room || next > size) return number(env, -ENOSPC);
    uint32_t head[2] = {0, (uint32_t)length};
    memcpy(entry + 4, head + 1, 4);
    head[0] = crc32_of_entry(entry, length);
    memcpy(entry, head, 4);
    /* An old entry behind this one must not be read as its successor. */
    if (size - next >= ENTRY_HEAD) memset(data + next, 0, ENTRY_HEAD);
    return number(env, (int64_t)next);
}

/* readEntry(memory, at, end): the end of the entry at `at`, or -EBADMSG when the entry is damaged. */
static napi_value posix_read_entry(napi_env env, napi_callback_info info) {
    ARGS(3);
    uint8_t *data;
    size_t size = 0;
    int64_t at = 0, end = 0;
    napi_get_typedarray_info(env, argv[0], NULL, &size, (void **)&data, NULL, NULL);
    napi_get_value_int64(env, argv[1], &at);
    napi_get_value_int64(env, argv[2], &end);
    if (at < 0 || end > (int64_t)size || at + ENTRY_HEAD > end) return number(env, -EBADMSG);
    uint32_t length, crc;
    memcpy(&crc, data + at, sizeof(crc));
    memcpy(&length, data + at + 4, sizeof(length));
    if (length > end - at - ENTRY_HEAD || crc != crc32_of_entry(data + at, length)) return number(env, -EBADMSG);
    return number(env, at + ENTRY_HEAD + length);
}

/* crc32(memory, from, to) */
static napi_value posix_crc32(napi_env env, napi_callback_info info) {
    ARGS(3);
    uint8_t *data;
    size_t size = 0;
    uint32_t from = (uint32_t)arg_int(env, argv[1]), to = (uint32_t)arg_int(env, argv[2]);
    napi_get_typedarray_info(env, argv[0], NULL, &size, (void **)&data, NULL, NULL);
    if (from > to || to > size) return number(env, -EINVAL);
    return number(env, crc32_of(data + from, to - from));
}

/* ---- the service manager -------------------------------------------------------------------------------------- */

/* connectManager(path): a socket for sendManager, or -errno; a leading '@' means the abstract namespace. */
static napi_value posix_connect_manager(napi_env env, napi_callback_info info) {
    ARGS(1);
    struct sockaddr_un address;
    socklen_t size = unix_address(env, argv[0], &address);
    if (size == 0) return number(env, -ENAMETOOLONG);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return number(env, -errno);
    if (connect(fd, (struct sockaddr *)&address, size) == 0) return number(env, fd);
    return number(env, close_failed(fd));
}

/* The kernel takes no more descriptors in a message. */
#define MAX_PASSED 253

union control {
    char room[CMSG_SPACE(MAX_PASSED * sizeof(int))];
    struct cmsghdr align;
};

static ssize_t send_with(int socket, const void *bytes, size_t length, const int *fds, size_t count) {
    struct iovec data = {.iov_base = (void *)bytes, .iov_len = length};
    union control control;
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        memset(control.room, 0, message.msg_controllen);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* sendManager(socket, text, fd, milliseconds): see posix.ts. */
static napi_value posix_send_manager(napi_env env, napi_callback_info info) {
    ARGS(4);
    char text[256];
    size_t length = 0;
    int socket = arg_int(env, argv[0]), fd = arg_int(env, argv[2]), patience = arg_int(env, argv[3]);
    napi_get_value_string_latin1(env, argv[1], text, sizeof(text), &length);
    ssize_t sent = send_with(socket, text, length, &fd, fd >= 0);
    if (sent == -EAGAIN && patience > 0) {
        struct pollfd wait = {.fd = socket, .events = POLLOUT};
        if (poll(&wait, 1, patience) > 0) sent = send_with(socket, text, length, &fd, fd >= 0);
    }
    return number(env, sent < 0 ? sent : 0);
}

/* ---- a queue of descriptors ----------------------------------------------------------------------------------- */

/* The send buffer, before the kernel doubles it: its default, so that all systems have it. It holds about 500 messages with one
 * descriptor each, or 180 with MAX_PASSED. The reserve is for a message that takes the place of others. */
#define QUEUE_SIZE (200 * 1024)
#define QUEUE_RESERVE (8 * 1024)

static void limit_queue(int queue, int size) {
    setsockopt(queue, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* createQueue(): see posix.ts. */
static napi_value posix_create_queue(napi_env env, napi_callback_info info) {
    (void)info;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(address);
    int queue = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (queue < 0) return number(env, -errno);
    /* Of this length it has the kernel choose an abstract name. */
    if (bind(queue, (struct sockaddr *)&address, sizeof(address.sun_family)) < 0 ||
        getsockname(queue, (struct sockaddr *)&address, &size) < 0 ||
        connect(queue, (struct sockaddr *)&address, size) < 0)
        return number(env, close_failed(queue));
    /* Now that it has a peer, only that can send to it. Another process may have done so before. */
    while (recv(queue, NULL, 0, 0) >= 0) continue;
    limit_queue(queue, QUEUE_SIZE);
    return number(env, queue);
}

/* sendFiles(queue, names, fds, count, isReplacement): see posix.ts. */
static napi_value posix_send_files(napi_env env, napi_callback_info info) {
    ARGS(5);
    uint32_t *names;
    int *fds;
    size_t names_length = 0, fds_length = 0, count = (size_t)arg_int(env, argv[3]);
    int queue = arg_int(env, argv[0]);
    bool is_replacement = false;
    napi_get_typedarray_info(env, argv[1], NULL, &names_length, (void **)&names, NULL, NULL);
    napi_get_typedarray_info(env, argv[2], NULL, &fds_length, (void **)&fds, NULL, NULL);
    napi_get_value_bool(env, argv[4], &is_replacement);
    if (count == 0 || count > MAX_PASSED || count > names_length || count > fds_length) return number(env, -EINVAL);
    ssize_t sent = send_with(queue, names, count * sizeof(*names), fds, count);
    if (sent == -EAGAIN && is_replacement) {
        limit_queue(queue, QUEUE_SIZE + QUEUE_RESERVE);
        sent = send_with(queue, names, count * sizeof(*names), fds, count);
        limit_queue(queue, QUEUE_SIZE);
    }
    return number(env, sent < 0 ? sent : 0);
}

/* peekFiles(queue, isFirst, names, fds): see posix.ts. */
static napi_value posix_peek_files(napi_env env, napi_callback_info info) {
    ARGS(4);
    uint32_t *names;
    int *fds = NULL;
    size_t names_length = 0, fds_length = 0, passed = 0;
    int queue = arg_int(env, argv[0]), start = 0;
    bool is_first = false;
    union control control;
    napi_get_value_bool(env, argv[1], &is_first);
    napi_get_typedarray_info(env, argv[2], NULL, &names_length, (void **)&names, NULL, NULL);
    /* Fails for null. */
    if (napi_get_typedarray_info(env, argv[3], NULL, &fds_length, (void **)&fds, NULL, NULL) != napi_ok) fds = NULL;
    struct iovec data = {.iov_base = names, .iov_len = names_length * sizeof(*names)};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (fds != NULL) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
    }
    if (is_first && setsockopt(queue, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)) < 0) return number(env, -errno);
    ssize_t received = recvmsg(queue, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (received < 0) return number(env, -errno);
    size_t count = (size_t)received / sizeof(*names);
    for (struct cmsghdr *header = fds == NULL ? NULL : CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, (char *)header + at, sizeof(fd));
            if (passed < count && passed < fds_length) fds[passed++] = fd;
            else close(fd);
        }
    }
    while (fds != NULL && passed < count && passed < fds_length) fds[passed++] = -1;
    return number(env, (int64_t)count);
}

/* popFiles(queue): see posix.ts. */
static napi_value posix_pop_files(napi_env env, napi_callback_info info) {
    ARGS(1);
    ssize_t received = recv(arg_int(env, argv[0]), NULL, 0, MSG_DONTWAIT);
    return number(env, received < 0 ? -errno : 0);
}

void define_store(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("createMemory", posix_create_memory),   FUNCTION("mapMemory", posix_map_memory),
        FUNCTION("writeEntry", posix_write_entry),       FUNCTION("readEntry", posix_read_entry),
        FUNCTION("crc32", posix_crc32),                  FUNCTION("connectManager", posix_connect_manager),
        FUNCTION("sendManager", posix_send_manager),     FUNCTION("createQueue", posix_create_queue),
        FUNCTION("sendFiles", posix_send_files),         FUNCTION("peekFiles", posix_peek_files),
        FUNCTION("popFiles", posix_pop_files),
    };
    fill_crc_tables();
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
}
