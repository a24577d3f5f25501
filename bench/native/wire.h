/* The lock program's messages for the load generator, deliberately independent of the daemon's code. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOCK_PROGRAM 0x0EA7BEEFu
#define REPLY_SIZE 28
#define SERIAL_OFFSET 20
#define REQUEST_SIZE 1024

enum procedure { REGISTER = 1, CREATE = 4, DELETE = 5, ACQUIRE = 6, RELEASE = 7, CREATE_LOCKSPACE = 8 };
enum { SHARED = 1, AUTOCREATE = 2 };

struct request {
    enum procedure procedure;
    size_t length;
    uint8_t bytes[REQUEST_SIZE];
};

uint32_t get32(const uint8_t *from);
void put32(uint8_t *to, uint32_t value);

struct request register_request(uint32_t pid);
struct request lockspace_request(const char *path);
/* CREATE, DELETE, ACQUIRE or RELEASE. */
struct request resource_request(enum procedure procedure, const char *path, const char *name, uint32_t flags);

/* Ends the program with a message unless these 28 bytes are the successful reply to that procedure and serial. */
void check_reply(const uint8_t *reply, enum procedure procedure, uint32_t serial);

/* A connected socket, or -1 and errno. */
int try_dial(const char *socket_path);
/* A connected socket; ends the program when that fails. */
int dial(const char *socket_path);

/* Writes or reads all of it on a blocking socket. False at end of file, or when a receive timeout passed. */
bool write_all(int fd, const void *bytes, size_t length);
bool read_all(int fd, void *bytes, size_t length);

/* One request and its reply, on a blocking socket. */
void call(int fd, struct request *request, uint32_t serial);

/* Raises the limit of open descriptors as far as this user may. */
void raise_descriptors(void);

/* Prints {"error": …} to standard output, and exits 1. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
