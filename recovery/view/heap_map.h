/*
 * heap_map.h - the data area of a heap in the order of addresses, as at most HEAP_MAP_CELLS cells
 * of one size: what a picture of the heap needs.
 */
#ifndef PHEAP_RECOVERY_VIEW_HEAP_MAP_H
#define PHEAP_RECOVERY_VIEW_HEAP_MAP_H

#include <stdint.h>
#include "recovery/view/blocks.h"
#include "recovery/view/reach.h"

#define HEAP_MAP_CELLS 16384u

struct heap_cell {
    uint64_t used_bytes; /* in blocks that are in use */
    uint64_t lost_bytes; /* of these, in blocks that nothing points to */
    uint32_t class;      /* of the first span with blocks; BLOCK_CLASSES: none */
};

struct heap_map {
    struct heap_cell *cells; /* memory of the view's arena */
    uint32_t count;
    uint64_t start;      /* address of the first */
    uint64_t cell_bytes; /* whole slices, a power of two of them */
};

MUST_CHECK int heap_map_make(struct heap_map *out, const struct block_map *map,
                             const struct reach *reach, struct problem *why);

#endif
