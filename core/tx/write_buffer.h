/*
 * write_buffer.h - what an optimistic transaction has written and nobody else sees yet: lines of 64
 * bytes, of each byte whether it was written.
 *
 * Invariant: each line is in the table (open addressing, at most half full) and in the list, in
 * the order of their first write; a byte that was not written is 0.
 *
 * A nested transaction that may be undone keeps what its lines were: write_buffer_mark() before it,
 * write_buffer_undo() to go back. Nothing is freed before write_buffer_empty().
 */
#ifndef PHEAP_TX_WRITE_BUFFER_H
#define PHEAP_TX_WRITE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

#define LINE_BYTES 64u

struct line {
    uintptr_t address;
    uint64_t written; /* a bit a byte */
    struct line *next;
    uint8_t bytes[LINE_BYTES];
};

struct line_before; /* write_buffer.c */

struct write_buffer {
    struct arena *arena;
    uintptr_t arena_start;
    struct line **table;
    uint32_t room, count;
    struct line *first, *last;
    struct line_before *before; /* the newest; NULL: none */
};

/* All of the arena from here on is the buffer's. */
void write_buffer_begin(struct write_buffer *buffer, struct arena *arena);
void write_buffer_empty(struct write_buffer *buffer);

/* -ENOMEM: some of it may have been put. can_undo: inside a nested transaction. */
MUST_CHECK int write_buffer_put(struct write_buffer *buffer, uintptr_t to, const void *from,
                                size_t bytes, bool can_undo);

/* Of bytes that lie in one line: those that were written, into `to`; true if that is all of them.
 */
bool write_buffer_get(const struct write_buffer *buffer, void *to, uintptr_t from, size_t bytes);

const struct line_before *write_buffer_mark(const struct write_buffer *buffer);
void write_buffer_undo(struct write_buffer *buffer, const struct line_before *mark);

/* Written bytes that follow each other, in the order of their lines' first writes. */
struct run {
    const struct line *line; /* where the next one is looked for; NULL before the first */
    unsigned at;
    uintptr_t start;
    uint64_t bytes;
};

/* Beginning with a run of zeroes; false: there are no more. */
bool write_buffer_next(const struct write_buffer *buffer, struct run *run);

/* Stores a run to where it belongs. */
void write_buffer_apply(const struct write_buffer *buffer, const struct run *run);

#endif
