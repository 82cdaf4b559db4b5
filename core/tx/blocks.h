/*
 * blocks.h - the blocks of an opened heap: handed out, freed, found.
 *
 * Stored in the slot (tx_format.h) is what spans there are and the state of each block. What may be
 * handed out is kept outside, in an arena, and derived when a heap is opened: `taken` has a bit for
 * each slice; each slab has a bit for each block, and is listed under its size class while it has a
 * free one. For each block: its bit is set if and only if its state is not TX_FREE.
 *
 * A slab is never given up; a large block's span is, when it is freed.
 *
 * Thread safety: one caller at a time.
 */
#ifndef PHEAP_TX_BLOCKS_H
#define PHEAP_TX_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/heap/size_class.h"
#include "core/tx/block.h"
#include "core/tx/slot_memory.h"
#include "core/tx/tx_format.h"

struct slab_state; /* blocks.c */

struct blocks {
    struct slot_memory *memory;
    struct arena *arena;
    uint64_t *taken;           /* by slice; NULL: not derived yet */
    uint32_t free_from;        /* no slice before this one is free */
    struct slab_state **slabs; /* by their first slice */
    struct slab_state *listed[SIZE_CLASSES];
};

/* From what lies in the slot. STATUS_DAMAGED: that contradicts itself. */
MUST_CHECK int blocks_derive(struct blocks *blocks, struct slot_memory *memory,
                             struct arena *arena);

/* A block of zeroes, in state TX_USED, at a multiple of alignment, a power of two up to
 * SLICE_BYTES. For more than 16 it has slices of its own. -ENOMEM. */
MUST_CHECK int blocks_take(struct blocks *blocks, uint64_t bytes, uint32_t alignment, uint32_t type,
                           struct block *block);

/* TX_FREE: it may be handed out again. */
void blocks_set_state(struct blocks *blocks, const struct block *block, enum tx_block_state state);

/* The first used block behind `after` (0: the first of all) of this type. False: none. */
bool blocks_next(const struct blocks *blocks, uintptr_t after, uint32_t type, struct block *block);

/* Expensive: for tests. */
bool blocks_are_valid(const struct blocks *blocks);

#endif
