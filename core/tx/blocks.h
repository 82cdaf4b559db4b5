/*
 * blocks.h - the blocks of an opened heap: handed out, freed, found.
 *
 * Stored in the slot (tx_format.h) is what spans there are and the state of each block. What may be
 * handed out is kept outside, in an arena, and derived when a heap is opened: `taken` has a bit for
 * each slice, and slab_state.h says what there is for each slab.
 *
 * Each transaction has a hand: slabs that are its alone, which it takes blocks of and puts them
 * back to without a lock. So transactions of several threads, each with objects of its own, share
 * nothing here. A hand gets slabs with free blocks that are nobody's, or new ones:
 *
 *     nobody's -> a hand's    [blocks_take], when the hand has no block left of that size
 *     a hand's -> nobody's    [blocks_free], when all of its blocks are free and the hand has
 * others
 *
 * Who frees a block of another hand's slab gives it to that hand, under the lock; it looks there
 * before it takes another slab. After opening all slabs are nobody's. A slab's memory is never
 * given up; a large block's span is, when it is freed. Who frees much, and much of it stays in
 * slabs that are partly used, keeps the room for itself.
 *
 * Thread safety: any thread, each hand and each block one at a time; blocks_derive() and
 * blocks_are_valid() nobody else.
 */
#ifndef PHEAP_TX_BLOCKS_H
#define PHEAP_TX_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/lock.h"
#include "core/base/status.h"
#include "core/heap/size_class.h"
#include "core/tx/block.h"
#include "core/tx/slot_memory.h"
#include "core/tx/tx_format.h"

struct slab_state;

/* Begins as zeroes; stays where it is while the heap is open. */
struct blocks_hand {
    struct slab_state *listed[TX_CLASSES]; /* its slabs with a free block */
    struct slab_state *returned;           /* those with blocks that others freed: under the lock */
};

struct blocks {
    struct slot_memory *memory;
    struct arena *arena;
    struct slab_state **slabs; /* by their first slice */

    _Alignas(64) struct lock lock;         /* of the rest, and of spans that are made or given up */
    uint64_t *taken;                       /* by slice; NULL: not derived yet */
    uint32_t free_from;                    /* no slice before this one is free */
    struct slab_state *listed[TX_CLASSES]; /* nobody's, with a free block */
};

/* From what lies in the slot. STATUS_DAMAGED: that contradicts itself. */
MUST_CHECK int blocks_derive(struct blocks *blocks, struct slot_memory *memory,
                             struct arena *arena);

/* A block of zeroes, in state TX_USED, at a multiple of alignment, a power of two up to
 * SLICE_BYTES. For more than 16 it has slices of its own. -ENOMEM. */
MUST_CHECK int blocks_take(struct blocks *blocks, struct blocks_hand *hand, uint64_t bytes,
                           uint32_t alignment, uint32_t type, struct block *block);

/* TX_USED -> TX_FREEING of the block at block->address, which is looked for anew; false: there is
 * none in use. */
bool blocks_mark_freed(struct blocks *blocks, struct block *block);
void blocks_unmark(struct blocks *blocks, const struct block *block);

/* It may be handed out again. */
void blocks_free(struct blocks *blocks, struct blocks_hand *hand, const struct block *block);

/* What starts at address, whatever its state, beside transactions that make and give up spans. */
bool blocks_find(struct blocks *blocks, uintptr_t address, struct block *block,
                 enum tx_block_state *state, uint64_t *bytes);

/* The first used block behind `after` (0: the first of all) of this type. False: none. */
bool blocks_next(const struct blocks *blocks, uintptr_t after, uint32_t type, struct block *block);

/* Expensive: for tests. */
bool blocks_are_valid(const struct blocks *blocks);

#endif
