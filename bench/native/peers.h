/* Connections, and locks acquired through them. */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

/* The daemon under test: its socket, a directory of its own for lock files, its pid. */
struct target {
    const char *socket;
    const char *directory;
    pid_t daemon;
};
extern struct target target;

/*
 * Above every pid of the kernel, so that no peer is its own lock owner: the end of its connection releases no lock and kills no
 * process.
 */
#define NOBODY 5000000u

/* A resource's name as of libvirt: 64 hexadecimal digits. */
struct name {
    char text[65];
};
struct name name_of(unsigned kind, unsigned index);
/* The path of that resource's file. */
const char *path_of(struct name name);

int connect_registered(uint32_t pid);

/* Connects and registers many at once. Reads replies after it has sent all requests of a batch. */
void connect_many(int *fds, unsigned count);

/* Grows or shrinks the set of connections that are registered and then idle. */
void set_idle(unsigned count);

/* Acquires or releases that many resources of a kind for an owner, through one connection, a window of requests at a time. */
void exchange_many(enum procedure procedure, unsigned kind, unsigned count, uint32_t owner, uint32_t flags);

/* Kinds of resources, so that no two loads share a file. */
enum kind { KIND_LOAD, KIND_HELD, KIND_OWNED, KIND_SHARED, KIND_HELD_NAMES, KIND_OWNED_NAMES };

/* Makes that many resources of a kind as names of few files: shared locks of theirs need few descriptors. */
void make_names(unsigned kind, unsigned count);
