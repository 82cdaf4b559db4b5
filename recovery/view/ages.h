/*
 * ages.h - since which of the kept generations each block of a heap is there.
 *
 * malloc notes no times, so an age is what the kept generations tell. A block was there in an
 * earlier generation if the same place was in use there, in the same span and size class; its
 * first generation is the earliest from which on that is so without a gap. What was freed and
 * handed out again between two generations that are next to each other is taken for the same
 * block: it is younger than said then. But a sampled one (PHEAP_PROFILE) is told from the one
 * before it by its sample's number. A large block that realloc has grown where it was stays the
 * same block.
 *
 * Compared are generations of the same run and slot, in the order of their numbers, without crash
 * images, which no later generation went on from. One that cannot be read is left out, and counted.
 *
 * Calling sequence: ages_begin() on a view whose heap is not mapped yet, block_map_build(),
 * ages_end(), then the rest; ages_close() at any time, on a struct that is all zero too. Large: not
 * for a stack.
 */
#ifndef PHEAP_RECOVERY_VIEW_AGES_H
#define PHEAP_RECOVERY_VIEW_AGES_H

#include <stdint.h>
#include "recovery/view/blocks.h"

/* What is known of a generation. */
struct aged_heap {
    struct view view;
    struct block_map map;
    uint8_t *first;         /* by the number of a block: index in struct ages.kept */
    uint64_t samples_taken; /* so far; 0: not profiled */
};

struct ages {
    const struct generation_entry *kept[SUPERBLOCK_GENERATIONS]; /* compared; the last is shown */
    uint32_t count;
    uint32_t left_out;         /* could not be read */
    uint64_t damaged_pages;    /* of those that could */
    struct aged_heap heaps[2]; /* older generations, in turn: one is looked at, one is before it */
    struct aged_heap *before;  /* NULL: none */
    uint8_t *first;            /* of the blocks of what is shown */
};

/* from: the earliest generation to compare, 0: the oldest that is kept. STATUS_NO_GENERATION: it,
 * or `named` (0: none), is none of those that would be compared, or cannot be read. */
MUST_CHECK int ages_begin(struct ages *ages, const struct view *view, uint64_t from, uint64_t named,
                          struct problem *why);
MUST_CHECK int ages_end(struct ages *ages, const struct block_map *map, struct problem *why);
void ages_close(struct ages *ages);

/* The block's first generation. */
const struct generation_entry *ages_first(const struct ages *ages, const struct block *block);
/* The one before that, in which it was not there; NULL: it is in the oldest that was compared. */
const struct generation_entry *ages_not_yet(const struct ages *ages, const struct block *block);

#endif
