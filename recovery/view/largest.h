/*
 * largest.h - the largest blocks in use of a heap.
 */
#ifndef PHEAP_RECOVERY_VIEW_LARGEST_H
#define PHEAP_RECOVERY_VIEW_LARGEST_H

#include "recovery/view/blocks.h"

struct largest {
    struct block *blocks; /* most bytes first, then ascending addresses; memory of the arena */
    uint32_t count;
};

/* At most `most` of them. */
MUST_CHECK int largest_find(struct largest *out, const struct block_map *map, uint32_t most,
                            struct problem *why);

#endif
