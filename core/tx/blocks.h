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
 * Two users: transactions (take, state changes, next) on a heap that is open, and replay
 * (blocks_replay_*) before blocks_derive(), which checks all that it is told. Thread safety: one
 * caller at a time.
 */
#ifndef PHEAP_TX_BLOCKS_H
#define PHEAP_TX_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/heap/size_class.h"
#include "core/tx/log_format.h"
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

/* A block as it lies in the slot. */
struct block {
    uintptr_t address;
    uint32_t slice; /* where its span begins */
    uint32_t index; /* in a slab */
    struct tx_span *span;
    struct tx_note *note; /* NULL: a large block */
};

/* The block that starts at address, whatever its state; false: there is none such. Believes nothing
 * of what the slot says. */
bool block_find(const struct slot_memory *memory, uintptr_t address, struct block *block);
enum tx_block_state block_state(const struct block *block);
uint64_t block_bytes(const struct block *block); /* as asked for */
uint32_t block_type(const struct block *block);

/* From what lies in the slot. STATUS_DAMAGED: that contradicts itself. */
MUST_CHECK int blocks_derive(struct blocks *blocks, struct slot_memory *memory,
                             struct arena *arena);

/* A block of zeroes, in state TX_USED. -ENOMEM. */
MUST_CHECK int blocks_take(struct blocks *blocks, uint64_t bytes, uint32_t type,
                           struct block *block);

/* TX_FREE: it may be handed out again. */
void blocks_set_state(struct blocks *blocks, const struct block *block, enum tx_block_state state);

/* The first used block behind `after` (0: the first of all) of this type. False: none. */
bool blocks_next(const struct blocks *blocks, uintptr_t after, uint32_t type, struct block *block);

/* Replay. STATUS_DAMAGED: the entry says what cannot be. */
MUST_CHECK int blocks_replay_alloc(struct slot_memory *memory, const struct log_entry *entry);
MUST_CHECK int blocks_replay_free(struct slot_memory *memory, const struct log_entry *entry);

/* Expensive: for tests. */
bool blocks_are_valid(const struct blocks *blocks);

#endif
