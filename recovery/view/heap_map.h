/*
 * heap_map.h - the data area of a heap in the order of addresses, as at most HEAP_MAP_CELLS cells
 * of one size: what a picture of the heap needs. So a picture of 10 GiB is as large as one of 1
 * GiB.
 *
 * Each byte of a cell is in a block that is in use, or in a span all the same (cached: the
 * allocator hands it out again without asking for more), or in neither (free).
 */
#ifndef PHEAP_RECOVERY_VIEW_HEAP_MAP_H
#define PHEAP_RECOVERY_VIEW_HEAP_MAP_H

#include <stdint.h>
#include "recovery/view/blocks.h"
#include "recovery/view/reach.h"

#define HEAP_MAP_CELLS 65536u

struct heap_cell {
    uint64_t used_bytes; /* in blocks that are in use */
    uint64_t lost_bytes; /* of these, in blocks that nothing points to */
    uint64_t span_bytes; /* used and cached */
    uint32_t class;      /* of the first block in use; BLOCK_CLASSES: none */
    uint32_t pages;      /* that the generation holds */
};

struct heap_map {
    struct heap_cell *cells; /* memory of the view's arena */
    uint32_t count;
    uint64_t start; /* address of the first */
    uint64_t end;   /* where the heap ends: in the last */
    unsigned int cell_shift;
};

MUST_CHECK int heap_map_make(struct heap_map *out, const struct block_map *map,
                             const struct reach *reach, struct problem *why);

/* pages[i]: pages of cell i that `view` has and `old`, an earlier generation, has not or with
 * another content. heap->count of them, zero before the call. */
MUST_CHECK int heap_map_changes(const struct heap_map *heap, struct view *view, struct view *old,
                                uint32_t *pages, struct problem *why);

static inline uint64_t heap_map_cell_bytes(const struct heap_map *map)
{
    return 1ull << map->cell_shift;
}

#endif
