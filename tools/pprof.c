/*
 * pprof.c - see pprof.h. profile.proto is written by hand: a message is a run of fields, each a
 * varint of (number << 3 | kind), then a varint (kind 0) or a length and that many bytes (kind 2).
 *
 *   Profile   1 sample type   2 sample   4 location   5 function   6 string   9 time
 *             11 period type   12 period
 *   ValueType 1 type   2 unit         Sample 1 locations   2 values
 *   Location  1 id   3 address   4 line         Line 1 function   2 line
 *   Function  1 id   2 name   4 file
 *
 * Always true: string 0 is empty. Each distinct (address) is one location with a function of its
 * own: ids are the same number.
 */
#include "tools/pprof.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include "tools/stacks.h"

struct message {
    char *bytes;
    size_t size;
    FILE *out;
};

static void begin(struct message *message)
{
    memset(message, 0, sizeof *message);
    message->out = open_memstream(&message->bytes, &message->size);
}

static void put_varint(FILE *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        putc((int)(value & 0x7f) | 0x80, out);
    putc((int)value, out);
}

static void put_number(FILE *out, unsigned field, uint64_t value)
{
    put_varint(out, field << 3);
    put_varint(out, value);
}

static void put_bytes(FILE *out, unsigned field, const void *bytes, size_t size)
{
    put_varint(out, field << 3 | 2);
    put_varint(out, size);
    fwrite(bytes, 1, size, out);
}

/* Ends a message, as a field of another one. */
static void put_message(FILE *out, unsigned field, struct message *message)
{
    if (!message->out)
        return;
    fclose(message->out);
    put_bytes(out, field, message->bytes, message->size);
    free(message->bytes);
}

struct writing {
    FILE *out;
    json_t *strings;   /* text -> number */
    json_t *locations; /* address as text -> id */
};

static uint64_t string_of(struct writing *writing, const char *text)
{
    json_t *known = json_object_get(writing->strings, text);

    if (!known) {
        put_bytes(writing->out, 6, text, strlen(text));
        known = json_integer((json_int_t)json_object_size(writing->strings));
        json_object_set_new(writing->strings, text, known);
    }
    return (uint64_t)json_integer_value(known);
}

static void put_type(struct writing *writing, unsigned field, const char *type, const char *unit)
{
    uint64_t type_string = string_of(writing, type), unit_string = string_of(writing, unit);
    struct message message;

    begin(&message);
    if (message.out) {
        put_number(message.out, 1, type_string);
        put_number(message.out, 2, unit_string);
    }
    put_message(writing->out, field, &message);
}

static void put_function(struct writing *writing, uint64_t id, const json_t *frame)
{
    const char *file = json_string_value(json_object_get(frame, "file"));
    char text[300];
    uint64_t name = string_of(writing, stacks_function(text, frame));
    uint64_t file_string = string_of(writing, file ? file : "");
    struct message message;

    begin(&message);
    if (message.out) {
        put_number(message.out, 1, id);
        put_number(message.out, 2, name);
        put_number(message.out, 4, file_string);
    }
    put_message(writing->out, 5, &message);
}

static void put_location(struct writing *writing, uint64_t id, const json_t *frame, const char *pc)
{
    struct message location, line;

    begin(&line);
    begin(&location);
    if (line.out && location.out) {
        put_number(line.out, 1, id);
        put_number(line.out, 2, (uint64_t)json_integer_value(json_object_get(frame, "line")));
        put_number(location.out, 1, id);
        put_number(location.out, 3, strtoull(pc, NULL, 16));
        put_message(location.out, 4, &line);
    }
    put_message(writing->out, 4, &location);
}

static uint64_t location_of(struct writing *writing, const json_t *frame)
{
    const char *pc = json_string_value(json_object_get(frame, "pc"));
    json_t *known = json_object_get(writing->locations, pc);
    uint64_t id = json_object_size(writing->locations) + 1;

    if (known)
        return (uint64_t)json_integer_value(known);
    json_object_set_new(writing->locations, pc, json_integer((json_int_t)id));
    put_function(writing, id, frame);
    put_location(writing, id, frame, pc);
    return id;
}

static void put_sample(struct writing *writing, const json_t *row)
{
    const json_t *frame;
    struct message sample;
    size_t i;

    begin(&sample);
    if (!sample.out)
        return;
    json_array_foreach(json_object_get(row, "frames"), i, frame)
    {
        put_number(sample.out, 1, location_of(writing, frame));
    }
    put_number(sample.out, 2, (uint64_t)json_integer_value(json_object_get(row, "blocks")));
    put_number(sample.out, 2, (uint64_t)json_integer_value(json_object_get(row, "bytes")));
    put_message(writing->out, 2, &sample);
}

static void put_profile(FILE *out, const json_t *rows, uint64_t rate_bytes, uint64_t time_ns)
{
    struct writing writing = {out, json_object(), json_object()};
    const json_t *row;
    size_t i;

    (void)string_of(&writing, "");
    put_type(&writing, 1, "inuse_objects", "count");
    put_type(&writing, 1, "inuse_space", "bytes");
    json_array_foreach(rows, i, row)
    {
        put_sample(&writing, row);
    }
    put_number(out, 9, time_ns);
    put_type(&writing, 11, "space", "bytes");
    put_number(out, 12, rate_bytes);
    json_decref(writing.strings);
    json_decref(writing.locations);
}

static int open_new(const char *path, struct problem *why)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    return fd >= 0 ? fd
                   : problem_set(why, -errno, "%s: %s; a profile is written to a new file", path,
                                 strerror(errno));
}

static int failed(const char *path, struct problem *why)
{
    unlink(path);
    return problem_set(why, -EIO, "%s: the profile cannot be written", path);
}

int pprof_write(const char *path, const json_t *rows, uint64_t rate_bytes, uint64_t time_ns,
                struct problem *why)
{
    int fd = open_new(path, why);
    struct message profile;
    gzFile file;
    bool is_written;

    if (fd < 0)
        return fd;
    begin(&profile);
    file = gzdopen(fd, "wb");
    if (!profile.out || !file)
        return failed(path, why);
    put_profile(profile.out, rows, rate_bytes, time_ns);
    fclose(profile.out);
    is_written = profile.size == 0 ||
                 gzwrite(file, profile.bytes, (unsigned)profile.size) == (int)profile.size;
    free(profile.bytes);
    return gzclose(file) == Z_OK && is_written ? 0 : failed(path, why);
}

/* Semicolons and blanks separate. */
static void put_folded(FILE *file, const json_t *frame)
{
    char text[300];

    for (const char *at = stacks_function(text, frame); *at; at++)
        putc(*at == ';' ? ':' : *at == ' ' ? '_' : *at, file);
}

int folded_write(const char *path, const json_t *rows, struct problem *why)
{
    int fd = open_new(path, why);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    const json_t *row;
    bool is_written;
    size_t i;

    if (fd < 0)
        return fd;
    if (!file)
        return failed(path, why);
    json_array_foreach(rows, i, row)
    {
        const json_t *frames = json_object_get(row, "frames");

        for (size_t f = json_array_size(frames); f-- > 0;) {
            put_folded(file, json_array_get(frames, f));
            putc(f ? ';' : ' ', file);
        }
        fprintf(file, "%" PRId64 "\n", (int64_t)json_integer_value(json_object_get(row, "bytes")));
    }
    is_written = !ferror(file);
    return fclose(file) == 0 && is_written ? 0 : failed(path, why);
}
