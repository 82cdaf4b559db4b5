/*
 * block.h - spans and blocks of an opened heap as they lie in the slot (tx_format.h): found,
 * described, and written by replay. What may be handed out is not known here: blocks.h.
 *
 * block_find() and the replay believe nothing of what the slot or an entry says. Thread safety:
 * none; for one block one caller at a time.
 */
#ifndef PHEAP_TX_BLOCK_H
#define PHEAP_TX_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/heap/size_class.h"
#include "core/tx/log_format.h"
#include "core/tx/slot_memory.h"
#include "core/tx/tx_format.h"

static inline struct tx_span *block_span(const struct slot_memory *memory, uint32_t slice)
{
    return (struct tx_span *)(memory->base + TX_SPANS_OFFSET) + slice;
}

static inline uintptr_t block_slice_address(const struct slot_memory *memory, uint32_t slice)
{
    return memory->base + (uint64_t)slice * SLICE_BYTES;
}

static inline uint32_t block_large_slices(uint64_t bytes)
{
    return (uint32_t)((bytes + SLICE_BYTES - 1) >> SLICE_SHIFT);
}

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

/* Are these slices of the data, and accessible? Has none of them a span? */
bool block_slices_exist(const struct slot_memory *memory, uint32_t slice, uint64_t count);
bool block_slices_are_bare(const struct slot_memory *memory, uint32_t slice, uint32_t count);

/* Each word at once: others look at notes without a lock. */
static inline void block_write_note(struct tx_note *note, uint32_t type, uint32_t bytes_and_state)
{
    __atomic_store_n(&note->type, type, __ATOMIC_RELAXED);
    __atomic_store_n(&note->bytes_and_state, bytes_and_state, __ATOMIC_RELEASE);
}

/* Spans where there are none; slices are accessible. The large one's block is in use. */
void block_define_slab(const struct slot_memory *memory, uint32_t slice, uint32_t size_class);
void block_define_large(const struct slot_memory *memory, uint32_t slice, uint64_t bytes,
                        uint32_t type);

/* Replay. STATUS_DAMAGED: the entry says what cannot be. */
MUST_CHECK int block_replay_alloc(struct slot_memory *memory, const struct log_entry *entry);
MUST_CHECK int block_replay_free(struct slot_memory *memory, const struct log_entry *entry);

#endif
