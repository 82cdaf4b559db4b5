/*
 * record.h - the process record's container: a sequence of typed items, written by the capture,
 * read by restore and inspect. Layouts of the items: record_format.h.
 *
 *     OFFSET SIZE
 *      0      4   kind (enum record_kind)
 *      4      4   payload bytes, without padding
 *      8      n   payload, padded with zeroes to a multiple of 8
 *
 * Reading treats the bytes as hostile: every length is checked before use.
 */
#ifndef PHEAP_PROCESS_RECORD_H
#define PHEAP_PROCESS_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

struct record_writer { /* buffer given by the owner */
    uint8_t *buffer;
    size_t size;
    size_t used;
    int failed; /* STATUS_LIMIT once something did not fit; then nothing more is written */
};

/* A fixed part and a tail (a path, an xstate; may be NULL, 0), in one item. */
void record_put(struct record_writer *writer, uint32_t kind, const void *fixed, size_t fixed_bytes,
                const void *tail, size_t tail_bytes);

/* The same with a tail that the caller writes himself, before the next item: where; NULL if it does
 * not fit. */
void *record_room(struct record_writer *writer, uint32_t kind, const void *fixed,
                  size_t fixed_bytes, size_t tail_bytes);

struct record_item {
    uint32_t kind;
    uint32_t bytes;
    const uint8_t *payload;
};

struct record_reader {
    const uint8_t *buffer;
    size_t size;
    size_t at;
};

/* 1 and the next item, 0 at the end, STATUS_DAMAGED. */
MUST_CHECK int record_next(struct record_reader *reader, struct record_item *item);

/* The payload as a fixed struct of at least fixed_bytes, with its tail NUL-checked when
 * it is a string. NULL if the item is too short. */
const void *record_fixed(const struct record_item *item, size_t fixed_bytes);
/* The tail behind the fixed part as a NUL-terminated string, or NULL. */
const char *record_string(const struct record_item *item, size_t fixed_bytes);

#endif
