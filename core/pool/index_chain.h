/*
 * index_chain.h - the chain of deltas of an index, read and checked, and gone through by pages.
 * Internal to the index: index_delta.c applies it to a tree in memory, index_scan.c to leaves that
 * pass by.
 *
 * Thread safety: a chain that was read may be used by many; a cursor has one user.
 */
#ifndef PHEAP_POOL_INDEX_CHAIN_H
#define PHEAP_POOL_INDEX_CHAIN_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/format.h"

struct delta_chain {
    struct delta_place places[DELTAS_MAX];        /* oldest first */
    const struct index_delta *deltas[DELTAS_MAX]; /* in an arena */
    unsigned count;
    uint64_t damaged_frame; /* of STATUS_DAMAGED */
};

/* Reads the chain that ends with newest. What was read is as the format says: checksums, pages
 * ascending and below INDEX_PAGE_LIMIT, ranges of FRAME_NONE alone. STATUS_DAMAGED otherwise. */
MUST_CHECK int delta_chain_read(struct delta_chain *chain, struct arena *arena, int fd,
                                struct delta_place newest);

uint64_t delta_chain_entries(const struct delta_chain *chain);

/* How far a delta has been gone through. */
struct delta_cursor {
    const struct index_delta *delta;
    uint64_t at;   /* the entry */
    uint64_t page; /* the first one that it is still to be applied to */
};

/* What a delta says of pages [page, end). */
struct delta_piece {
    uint64_t page, end;
    struct index_entry entry;
};

/* A cursor for what the delta says of `page` and pages beyond it. */
struct delta_cursor delta_cursor_at(const struct index_delta *delta, uint64_t page);

/* The next page that the delta says something of; INDEX_PAGE_LIMIT: none. */
static inline uint64_t delta_cursor_page(const struct delta_cursor *cursor)
{
    return cursor->at < cursor->delta->entry_count ? cursor->page : INDEX_PAGE_LIMIT;
}

/* Takes what it says next of pages below limit, cut off there; false: nothing. */
bool delta_cursor_take(struct delta_cursor *cursor, uint64_t limit, struct delta_piece *out);

/* Entries that begin below limit and are still to be applied, counted up to `most`. */
unsigned delta_cursor_count(const struct delta_cursor *cursor, uint64_t limit, unsigned most);

#endif
