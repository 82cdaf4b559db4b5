/*
 * reach.h - which blocks nothing points to.
 *
 * Roots are those of roots.h. From there conservatively: any aligned word that has the value of an
 * address inside a block, its end apart, keeps the block; and so does a word in a block that, read
 * as a self-relative pointer, leads there. Of objects whose layout is known (layouts.h) only the
 * pointers count that it tells of.
 *
 * So what is reported as unreachable has no pointer to it in memory that the image holds. A program
 * that disguises its pointers (xor, other offsets, in a shared file mapping) has blocks reported
 * that it does use; and a stale word may hide a leak.
 *
 * All processors work at it. Memory: two bits a block, beside the one of the map; of 2 MiB, 8
 * bytes, and 4 for each processor.
 */
#ifndef PHEAP_RECOVERY_VIEW_REACH_H
#define PHEAP_RECOVERY_VIEW_REACH_H

#include <stdint.h>
#include "recovery/view/blocks.h"

struct reach {
    uint64_t *unreached; /* a bit a block number; memory of the view's arena */
    uint64_t unreached_count;
    uint64_t *none; /* as many bits, all clear between two calls */
};

MUST_CHECK int reach_mark(struct reach *reach, const struct block_map *map, struct problem *why);

/* The same with one bit less a block: map->used is what is unreached from then on. */
MUST_CHECK int reach_mark_in_place(struct reach *reach, const struct block_map *map,
                                   struct problem *why);

/*
 * After reach_mark(): chosen is a part of what is unreached, a bit a block number. Those are taken
 * out of it that one of the others leads to, directly or through others: what is left can go
 * without leaving a pointer to it in what stays.
 */
MUST_CHECK int reach_keep_apart(struct reach *reach, const struct block_map *map, uint64_t *chosen,
                                struct problem *why);

#endif
