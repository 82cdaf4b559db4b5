/*
 * write_buffer.c - see write_buffer.h.
 */
#include "core/tx/write_buffer.h"

#include <errno.h>
#include <string.h>

#define FIRST_ROOM 32u

/* A line as it was before a nested transaction's write. */
struct line_before {
    struct line_before *older;
    struct line *line;
    uint64_t written;
    uint8_t bytes[LINE_BYTES];
};

void write_buffer_begin(struct write_buffer *buffer, struct arena *arena)
{
    *buffer = (struct write_buffer){.arena = arena, .arena_start = arena_mark(arena)};
}

void write_buffer_empty(struct write_buffer *buffer)
{
    if (!buffer->first)
        return;
    arena_rewind(buffer->arena, buffer->arena_start);
    write_buffer_begin(buffer, buffer->arena);
}

/* --- the table --- */

/* Its place, or the one where it would go. */
static struct line **find(const struct write_buffer *buffer, uintptr_t address)
{
    uint32_t i = (uint32_t)((address / LINE_BYTES * 0x9e3779b97f4a7c15ull) >> 32);

    while (buffer->table[i & (buffer->room - 1)] &&
           buffer->table[i & (buffer->room - 1)]->address != address)
        i++;
    return &buffer->table[i & (buffer->room - 1)];
}

static int grow(struct write_buffer *buffer)
{
    uint32_t room = buffer->room ? buffer->room * 2 : FIRST_ROOM;
    struct line **table = arena_alloc(buffer->arena, room * sizeof(struct line *), 64);

    if (!table)
        return -ENOMEM;
    buffer->table = table;
    buffer->room = room;
    for (struct line *line = buffer->first; line; line = line->next)
        *find(buffer, line->address) = line;
    return 0;
}

static struct line *line_for(struct write_buffer *buffer, uintptr_t address)
{
    struct line **place, *line;

    if (2 * buffer->count >= buffer->room && grow(buffer) < 0)
        return NULL;
    place = find(buffer, address);
    if (*place)
        return *place;
    line = arena_alloc(buffer->arena, sizeof *line, 8);
    if (!line)
        return NULL;
    line->address = address;
    if (buffer->last)
        buffer->last->next = line;
    else
        buffer->first = line;
    buffer->last = line;
    buffer->count++;
    *place = line;
    return line;
}

/* --- writing and reading --- */

static uint64_t mask_of(size_t at, size_t bytes)
{
    return (bytes == LINE_BYTES ? ~0ull : (1ull << bytes) - 1) << at;
}

static int keep(struct write_buffer *buffer, struct line *line)
{
    struct line_before *before = arena_alloc(buffer->arena, sizeof *before, 8);

    if (!before)
        return -ENOMEM;
    before->older = buffer->before;
    before->line = line;
    before->written = line->written;
    memcpy(before->bytes, line->bytes, LINE_BYTES);
    buffer->before = before;
    return 0;
}

int write_buffer_put(struct write_buffer *buffer, uintptr_t to, const void *from, size_t bytes,
                     bool can_undo)
{
    const uint8_t *next = from;

    while (bytes > 0) {
        size_t at = to % LINE_BYTES;
        size_t step = bytes < LINE_BYTES - at ? bytes : LINE_BYTES - at;
        struct line *line = line_for(buffer, to - at);

        if (!line || (can_undo && keep(buffer, line) < 0))
            return -ENOMEM;
        memcpy(line->bytes + at, next, step);
        line->written |= mask_of(at, step);
        to += step;
        next += step;
        bytes -= step;
    }
    return 0;
}

bool write_buffer_get(const struct write_buffer *buffer, void *to, uintptr_t from, size_t bytes)
{
    size_t at = from % LINE_BYTES;
    const struct line *line = buffer->room ? *find(buffer, from - at) : NULL;
    uint64_t mask = mask_of(at, bytes);
    uint8_t *out = to;

    if (!line || !(line->written & mask))
        return false;
    if ((line->written & mask) == mask) {
        memcpy(to, line->bytes + at, bytes);
        return true;
    }
    for (size_t i = 0; i < bytes; i++)
        if (line->written >> (at + i) & 1)
            out[i] = line->bytes[at + i];
    return false;
}

const struct line_before *write_buffer_mark(const struct write_buffer *buffer)
{
    return buffer->before;
}

void write_buffer_undo(struct write_buffer *buffer, const struct line_before *mark)
{
    for (; buffer->before != mark; buffer->before = buffer->before->older) {
        struct line_before *before = buffer->before;

        before->line->written = before->written;
        memcpy(before->line->bytes, before->bytes, LINE_BYTES);
    }
}

/* --- runs --- */

/* How many bytes from `at` on were written. */
static unsigned written_from(const struct line *line, unsigned at)
{
    uint64_t gaps = ~(line->written >> at); /* above the line's end there is one */

    return gaps ? (unsigned)__builtin_ctzll(gaps) : LINE_BYTES;
}

/* To the end of the run that begins at run->start; it may go on in the next line of the list. */
static void extend_run(struct run *run)
{
    while (run->line && run->line->address + run->at == run->start + run->bytes) {
        unsigned count = written_from(run->line, run->at);

        run->bytes += count;
        run->at += count;
        if (run->at < LINE_BYTES)
            break;
        run->line = run->line->next;
        run->at = 0;
    }
}

bool write_buffer_next(const struct write_buffer *buffer, struct run *run)
{
    if (run->bytes == 0)
        run->line = buffer->first;
    for (; run->line; run->line = run->line->next, run->at = 0) {
        uint64_t rest = run->line->written >> run->at;

        if (!rest)
            continue;
        run->at += (unsigned)__builtin_ctzll(rest);
        run->start = run->line->address + run->at;
        run->bytes = 0;
        extend_run(run);
        return true;
    }
    return false;
}

void write_buffer_apply(const struct write_buffer *buffer, const struct run *run)
{
    uintptr_t at = run->start, end = run->start + run->bytes;

    while (at < end) {
        uint64_t step = LINE_BYTES - at % LINE_BYTES;

        if (step > end - at)
            step = end - at;
        (void)write_buffer_get(buffer, (void *)at, at, step);
        at += step;
    }
}
