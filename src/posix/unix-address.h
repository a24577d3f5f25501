/* Addresses of UNIX sockets from JavaScript strings. */
#ifndef UNIX_ADDRESS_H
#define UNIX_ADDRESS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "napi-helpers.h"

/* The address of a path; a leading '@' or NUL means the abstract namespace. 0 when the path is empty or too long. */
static inline socklen_t unix_address(napi_env env, napi_value value, struct sockaddr_un *address) {
    size_t length = 0;
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    napi_get_value_string_latin1(env, value, NULL, 0, &length);
    if (length == 0 || length >= sizeof(address->sun_path)) return 0;
    napi_get_value_string_latin1(env, value, address->sun_path, sizeof(address->sun_path), &length);
    if (address->sun_path[0] == '@') address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (address->sun_path[0] != '\0'));
}

/* Closes a descriptor after a failed call. Returns that call's -errno. */
static inline int close_failed(int fd) {
    int error = errno;
    close(fd);
    return -error;
}

#endif
