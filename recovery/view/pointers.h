/*
 * pointers.h - which block points to which: all of them, as one list in the order of the blocks'
 * numbers, made by one walk through the heap from its start to its end. Whoever follows pointers in
 * another order then does it in a few dozen bytes a block that lie close together, and not all over
 * the heap, where each step would wait for memory.
 *
 * Pointers are recognised as by reach.h; those to free blocks and to the block itself are left out.
 *
 * Memory: 8 bytes a block and 4 a pointer, in arenas of its own.
 */
#ifndef PHEAP_RECOVERY_VIEW_POINTERS_H
#define PHEAP_RECOVERY_VIEW_POINTERS_H

#include <stdint.h>
#include "core/base/arena.h"
#include "recovery/view/blocks.h"

struct pointers {
    struct arena arena, list;
    const struct block_map *map;
    uint64_t *first; /* by number: where its pointers begin in `to`, and the block's class */
    uint32_t *to;    /* numbers */
    uint64_t count, room;
};

#define POINTERS_CLASS_SHIFT 56

/* Blocks have numbers below 2^32. 0 or -ENOMEM; to be freed in any case. */
MUST_CHECK int pointers_find(struct pointers *out, const struct block_map *map);
void pointers_free(struct pointers *pointers);

/* The pointers of block `number` are to[pointers_begin(number)] .. to[pointers_begin(number + 1) -
 * 1]. */
static inline uint64_t pointers_begin(const struct pointers *pointers, uint64_t number)
{
    return pointers->first[number] & ((1ull << POINTERS_CLASS_SHIFT) - 1);
}

/* Usable bytes of a block in use. */
uint64_t pointers_block_bytes(const struct pointers *pointers, uint64_t number);

#endif
