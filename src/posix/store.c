/*
 * The native part of src/store (record.ts, store.ts): memory behind a descriptor, entries written into it without a system call, and
 * messages with descriptors for the service manager. posix.ts documents each function.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "addon.h"
#include "napi-helpers.h"

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
    if (status == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
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
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = 0;
    napi_get_value_string_latin1(env, argv[0], address.sun_path, sizeof(address.sun_path), &length);
    if (length == 0 || length + 1 >= sizeof(address.sun_path)) return number(env, -ENAMETOOLONG);
    if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (address.sun_path[0] != '\0'));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return number(env, -errno);
    if (connect(fd, (struct sockaddr *)&address, size) == 0) return number(env, fd);
    int error = errno;
    close(fd);
    return number(env, -error);
}

static ssize_t send_with(int socket, const char *text, size_t length, int fd) {
    struct iovec data = {.iov_base = (char *)text, .iov_len = length};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.room;
        message.msg_controllen = sizeof(control.room);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
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
    ssize_t sent = send_with(socket, text, length, fd);
    if (sent == -EAGAIN && patience > 0) {
        struct pollfd wait = {.fd = socket, .events = POLLOUT};
        if (poll(&wait, 1, patience) > 0) sent = send_with(socket, text, length, fd);
    }
    return number(env, sent < 0 ? sent : 0);
}

void define_store(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("createMemory", posix_create_memory),   FUNCTION("mapMemory", posix_map_memory),
        FUNCTION("writeEntry", posix_write_entry),       FUNCTION("readEntry", posix_read_entry),
        FUNCTION("crc32", posix_crc32),                  FUNCTION("connectManager", posix_connect_manager),
        FUNCTION("sendManager", posix_send_manager),
    };
    fill_crc_tables();
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
}
