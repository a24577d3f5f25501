/*
 * A FUSE file system in memory, spoken by hand over /dev/fuse, that leaves requests unanswered until it is told: whoever made
 * one can be killed by nothing, and is in state D.
 *
 *   hung-fs DIRECTORY
 *
 * Mounts itself there and obeys lines of standard input:
 *   hang NAME write|fsync   leaves each such request for that file unanswered from now on
 *   answer NAME             answers all of them, and those to come
 * Prints lines of JSON: "ready" when it serves, and "hung" with the name whenever a request for it begins to hang.
 * It unmounts and exits with its standard input; whatever is unanswered fails then, and who waited for it can die.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILES 8192
#define FILE_SIZE 4096
#define MAX_HANGING 64
#define ROOT FUSE_ROOT_ID
/* Large enough for any request: the kernel wants room for a write of at least 8 KiB. */
#define REQUEST_SIZE (256 * 1024)

struct file {
    char name[64];
    bool is_linked;
    /* FUSE_WRITE or FUSE_FSYNC; 0: none. */
    uint32_t hangs;
    uint64_t size;
    uint8_t data[FILE_SIZE];
};

struct hanging {
    uint64_t unique, node;
    /* The answer that is owed: how much was written. */
    uint32_t opcode, written;
};

static struct file *files[MAX_FILES];
static size_t file_count;
static struct hanging hanging[MAX_HANGING];
static size_t hanging_count;
static int device;

static _Noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static void report(const char *what, const char *name) {
    printf("{\"is\": \"%s\", \"name\": \"%s\"}\n", what, name);
    fflush(stdout);
}

/* Node 1 is the root, file i has node i + 2. */
static struct file *file_of(uint64_t node) {
    return node >= 2 && node - 2 < file_count ? files[node - 2] : NULL;
}

static uint64_t node_named(const char *name) {
    for (size_t i = file_count; i-- > 0;) {
        if (files[i]->is_linked && strcmp(files[i]->name, name) == 0) return i + 2;
    }
    return 0;
}

static uint64_t make_file(const char *name) {
    if (file_count == MAX_FILES || strlen(name) >= sizeof files[0]->name) return 0;
    struct file *file = calloc(1, sizeof *file);
    if (file == NULL) return 0;
    strcpy(file->name, name);
    file->is_linked = true;
    files[file_count++] = file;
    return file_count + 1;
}

static void reply(uint64_t unique, int error, const void *body, size_t length) {
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + length), .error = -error, .unique = unique};
    struct iovec parts[] = {{&header, sizeof header}, {(void *)(uintptr_t)body, length}};
    // ENOENT: the request was given up.
    (void)!writev(device, parts, length == 0 ? 1 : 2);
}

static void refuse(const struct fuse_in_header *request, int error) {
    reply(request->unique, error, NULL, 0);
}

static void done(const struct fuse_in_header *request) {
    reply(request->unique, 0, NULL, 0);
}

static struct fuse_attr attributes(uint64_t node) {
    const struct file *file = file_of(node);
    if (file == NULL) return (struct fuse_attr){.ino = ROOT, .mode = S_IFDIR | 0755, .nlink = 2, .blksize = FILE_SIZE};
    return (struct fuse_attr){
        .ino = node, .size = file->size, .mode = S_IFREG | 0666, .nlink = file->is_linked, .blksize = FILE_SIZE};
}

/* Nothing may be cached: no time to live. */
static struct fuse_entry_out entry_of(uint64_t node) {
    return (struct fuse_entry_out){.nodeid = node, .attr = attributes(node)};
}

/* Straight to us, and no FLUSH on close: the kernel would wait there for a write that hangs. */
static const struct fuse_open_out opened = {.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH};

static void initialize(const struct fuse_in_header *request, const struct fuse_init_in *in) {
    // Without FUSE_POSIX_LOCKS the kernel keeps the locks, as on a local file system.
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = in->max_readahead,
        .max_background = 16,
        .congestion_threshold = 12,
        .max_write = FILE_SIZE * 4,
        .time_gran = 1,
    };
    reply(request->unique, 0, &out, sizeof out);
}

static void look_up(const struct fuse_in_header *request, const char *name) {
    uint64_t node = node_named(name);
    if (node == 0) {
        refuse(request, ENOENT);
        return;
    }
    struct fuse_entry_out out = entry_of(node);
    reply(request->unique, 0, &out, sizeof out);
}

static void get_attributes(const struct fuse_in_header *request) {
    struct fuse_attr_out out = {.attr = attributes(request->nodeid)};
    reply(request->unique, 0, &out, sizeof out);
}

static void create(const struct fuse_in_header *request, const char *name) {
    uint64_t node = make_file(name);
    if (node == 0) {
        refuse(request, ENOSPC);
        return;
    }
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {entry_of(node), opened};
    reply(request->unique, 0, &out, sizeof out);
}

static void remove_name(const struct fuse_in_header *request, const char *name) {
    struct file *file = file_of(node_named(name));
    if (file != NULL) file->is_linked = false;
    refuse(request, file == NULL ? ENOENT : 0);
}

static void read_file(const struct fuse_in_header *request, const struct fuse_read_in *in) {
    const struct file *file = file_of(request->nodeid);
    uint64_t size = file == NULL ? 0 : file->size;
    uint64_t from = in->offset < size ? in->offset : size;
    uint64_t length = size - from < in->size ? size - from : in->size;
    reply(request->unique, 0, file == NULL ? NULL : file->data + from, length);
}

static void answer_write(uint64_t unique, uint32_t written) {
    struct fuse_write_out out = {.size = written};
    reply(unique, 0, &out, sizeof out);
}

/* Whether the request is left unanswered. */
static bool hangs(const struct fuse_in_header *request, uint32_t written) {
    const struct file *file = file_of(request->nodeid);
    if (file == NULL || file->hangs != request->opcode || hanging_count == MAX_HANGING) return false;
    report("hung", file->name);
    hanging[hanging_count++] = (struct hanging){request->unique, request->nodeid, request->opcode, written};
    return true;
}

static void write_file(const struct fuse_in_header *request, const struct fuse_write_in *in) {
    struct file *file = file_of(request->nodeid);
    if (file == NULL || in->offset + in->size > FILE_SIZE) {
        refuse(request, ENOSPC);
        return;
    }
    memcpy(file->data + in->offset, in + 1, in->size);
    if (in->offset + in->size > file->size) file->size = in->offset + in->size;
    if (!hangs(request, in->size)) answer_write(request->unique, in->size);
}

static void serve(const struct fuse_in_header *request) {
    const void *body = request + 1;
    switch (request->opcode) {
    case FUSE_INIT: initialize(request, body); break;
    case FUSE_LOOKUP: look_up(request, body); break;
    case FUSE_GETATTR:
    case FUSE_SETATTR: get_attributes(request); break;
    case FUSE_CREATE: create(request, (const char *)body + sizeof(struct fuse_create_in)); break;
    case FUSE_UNLINK: remove_name(request, body); break;
    case FUSE_OPEN: reply(request->unique, 0, &opened, sizeof opened); break;
    case FUSE_READ: read_file(request, body); break;
    case FUSE_WRITE: write_file(request, body); break;
    case FUSE_FSYNC:
        if (!hangs(request, 0)) done(request);
        break;
    case FUSE_RELEASE: done(request); break;
    // These have no answer. An interrupt changes nothing: that is what hanging means.
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break;
    default: refuse(request, ENOSYS);
    }
}

static void answer_all(uint64_t node) {
    size_t left = 0;
    for (size_t i = 0; i < hanging_count; i++) {
        struct hanging one = hanging[i];
        if (one.node != node) hanging[left++] = one;
        else if (one.opcode == FUSE_WRITE) answer_write(one.unique, one.written);
        else reply(one.unique, 0, NULL, 0);
    }
    hanging_count = left;
}

static void obey(char *line) {
    char verb[16], name[64], operation[16] = "";
    if (sscanf(line, "%15s %63s %15s", verb, name, operation) < 2) fail("no command: %s", line);
    uint64_t node = node_named(name);
    struct file *file = file_of(node);
    if (file == NULL) fail("no file %s", name);
    file->hangs = strcmp(operation, "write") == 0 ? FUSE_WRITE : strcmp(operation, "fsync") == 0 ? FUSE_FSYNC : 0;
    if (strcmp(verb, "answer") == 0) answer_all(node);
}

int main(int argc, char **argv) {
    if (argc != 2) fail("usage: hung-fs DIRECTORY");
    // An interrupt from the terminal is for the test; what is mounted must not stay.
    signal(SIGINT, SIG_IGN);
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (device < 0) fail("/dev/fuse: %s", strerror(errno));
    char options[128];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (mount("hung-fs", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) != 0) fail("mount: %s", strerror(errno));
    static uint8_t request[REQUEST_SIZE] __attribute__((aligned(8)));
    setvbuf(stdin, NULL, _IONBF, 0);
    bool is_ready = false;
    for (;;) {
        struct pollfd ready[] = {{.fd = device, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0) continue;
        if (ready[0].revents != 0) {
            ssize_t length = read(device, request, sizeof request);
            if (length < 0 && errno != ENOENT && errno != EINTR && errno != EAGAIN) break; // ENODEV: unmounted
            if (length > 0) serve((const struct fuse_in_header *)request);
            // After INIT.
            if (!is_ready && length > 0) {
                report("ready", "");
                is_ready = true;
            }
        }
        if (ready[1].revents != 0) {
            char line[256];
            if (fgets(line, sizeof line, stdin) == NULL) break;
            obey(line);
        }
    }
    umount2(argv[1], MNT_DETACH);
    return 0;
}
