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
 * All processors work at it. Memory: two bits a block.
 */
#ifndef PHEAP_RECOVERY_VIEW_REACH_H
#define PHEAP_RECOVERY_VIEW_REACH_H

#include <stdint.h>
#include "recovery/view/blocks.h"

struct reach {
    uint64_t *unreached; /* a bit a block number; memory of the view's arena */
    uint64_t unreached_count;
};

MUST_CHECK int reach_mark(struct reach *reach, const struct block_map *map, struct problem *why);

#endif
