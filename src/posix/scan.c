/*
 * Finds the resources in the text of a state document. JSON.parse makes dozens of objects and strings of each: with a hundred
 * thousand resources, half of the time that clients wait in a restart. This reports places and numbers of resources in the usual
 * form. Of any other it reports the place alone, for JSON.parse.
 *
 * It reads no byte beyond the given end, and trusts nothing: a text of another form ends the scan.
 */
#define NAPI_VERSION 8
#include <stdbool.h>
#include <string.h>

#include "addon.h"
#include "napi-helpers.h"

/* A resource, in the order of ResourcePlace in posix.ts. */
struct record {
    double begin, end;
    double fd; /* -1: not in the usual form, and nothing below is filled in */
    double name, name_end;
    double path, path_end; /* -1: it is the name */
    double flags, pid;
    double owner, owner_end; /* the owner's members in its hold; -1: as in the last record of the usual form */
    double since, client;
    double start;            /* -2: not known */
    double inode, inode_end; /* -1: as in the last record of the usual form */
    double ofd;              /* 1: a whole OFD lock, 0: a whole POSIX lock */
};
#define FIELDS (sizeof(struct record) / sizeof(double))

struct text {
    const char *start, *at, *end;
};

#define IS(text, literal) is(text, literal, sizeof(literal) - 1)

static bool is(struct text *text, const char *literal, size_t length) {
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, literal, length) != 0) return false;
    text->at += length;
    return true;
}

/* The rest of a string without escapes, with its closing quote. */
static bool plain_string(struct text *text) {
    for (; text->at < text->end; text->at++) {
        unsigned char byte = (unsigned char)*text->at;
        if (byte == '"') {
            text->at++;
            return true;
        }
        if (byte == '\\' || byte < 0x20) return false;
    }
    return false;
}

/* A whole number without a sign. A double holds 15 digits exactly. */
static bool whole(struct text *text, double *number) {
    const char *from = text->at;
    uint64_t sum = 0;
    while (text->at < text->end && text->at - from < 16 && *text->at >= '0' && *text->at <= '9') {
        sum = sum * 10 + (uint64_t)(*text->at++ - '0');
    }
    *number = (double)sum;
    ptrdiff_t digits = text->at - from;
    return digits > 0 && digits < 16 && (digits == 1 || *from != '0');
}

static bool count(struct text *text, double *number) { return whole(text, number) && *number <= INT32_MAX; }

static double place(const struct text *text) { return (double)(text->at - text->start); }

static bool are_equal(const struct text *text, double one, double one_end, double other, double other_end) {
    size_t length = (size_t)(one_end - one);
    if (length != (size_t)(other_end - other)) return false;
    return memcmp(text->start + (size_t)one, text->start + (size_t)other, length) == 0;
}

/* A resource in the usual form: it has one owner, its lock, and one descriptor. */
static bool usual(struct text *text, struct record *record) {
    if (!IS(text, "{\"name\":\"")) return false;
    record->name = place(text);
    if (!plain_string(text)) return false;
    record->name_end = place(text) - 1;
    if (!IS(text, ",\"path\":\"")) return false;
    record->path = place(text);
    if (!plain_string(text)) return false;
    record->path_end = place(text) - 1;
    if (are_equal(text, record->name, record->name_end, record->path, record->path_end)) record->path = -1;

    if (!IS(text, ",\"fd\":") || !count(text, &record->fd)) return false;
    if (!IS(text, ",\"lockHeld\":true,\"flags\":") || !count(text, &record->flags)) return false;
    if (!IS(text, ",\"owners\":[") || !count(text, &record->pid)) return false;
    if (!IS(text, "],\"x-holds\":[{")) return false;
    record->owner = place(text);
    double id;
    if (!IS(text, "\"id\":") || !whole(text, &id)) return false;
    if (!IS(text, ",\"name\":\"") || !plain_string(text)) return false;
    if (!IS(text, ",\"uuid\":\"") || !plain_string(text)) return false;
    record->owner_end = place(text);
    if (!IS(text, ",\"since\":") || !whole(text, &record->since)) return false;
    if (!IS(text, ",\"client\":") || !whole(text, &record->client)) return false;
    record->start = -2;
    if (IS(text, ",\"start\":-1")) record->start = -1;
    else if (IS(text, ",\"start\":") && !whole(text, &record->start)) return false;
    if (!IS(text, "}],\"x-inode\":\"")) return false;
    record->inode = place(text);
    if (!plain_string(text)) return false;
    record->inode_end = place(text) - 1;
    record->ofd = IS(text, ",\"x-lock\":\"ofd\"");
    return IS(text, "}");
}

/* Any object, up to its last brace. */
static bool skip_object(struct text *text) {
    int depth = 0;
    while (text->at < text->end) {
        char byte = *text->at++;
        if (byte == '{') depth++;
        else if (byte == '}' && --depth <= 0) return depth == 0;
        else if (byte == '"') {
            while (text->at < text->end && *text->at != '"') text->at += *text->at == '\\' ? 2 : 1;
            if (text->at++ >= text->end) return false;
        } else if (depth == 0) return false;
    }
    return false;
}

static napi_value scan_resources(napi_env env, napi_callback_info info) {
    ARGS(4);
    char *bytes;
    size_t length = 0, room = 0;
    struct record *records;
    napi_get_buffer_info(env, argv[0], (void **)&bytes, &length);
    napi_get_typedarray_info(env, argv[3], NULL, &room, (void **)&records, NULL, NULL);
    int64_t from = arg_long(env, argv[1]), to = arg_long(env, argv[2]);
    if (from < 0 || to < from || (uint64_t)to > length) return number(env, -1);

    struct text text = {.start = bytes, .at = bytes + from, .end = bytes + to};
    size_t found = 0;
    double owner = 0, owner_end = 0, inode = 0, inode_end = 0;
    while (found < room / FIELDS && text.at < text.end) {
        struct record *record = &records[found];
        struct text whole_record = text;
        if (!usual(&text, record)) {
            record->fd = -1;
            text = whole_record;
            if (!skip_object(&text)) return number(env, -1);
        } else {
            if (are_equal(&text, owner, owner_end, record->owner, record->owner_end)) record->owner = -1;
            else owner = record->owner, owner_end = record->owner_end;
            if (are_equal(&text, inode, inode_end, record->inode, record->inode_end)) record->inode = -1;
            else inode = record->inode, inode_end = record->inode_end;
        }
        record->begin = place(&whole_record);
        record->end = place(&text);
        found++;
        if (text.at == text.end) break;
        if (!IS(&text, ",") || text.at == text.end) return number(env, -1);
    }
    return number(env, (int64_t)found);
}

void define_scan(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {FUNCTION("scanResources", scan_resources)};
    napi_define_properties(env, exports, 1, functions);
}
