/*
 * block.c - see block.h.
 */
#include "core/tx/block.h"

#include <string.h>
#include "core/tx/slab_shape.h"

bool block_slices_exist(const struct slot_memory *memory, uint32_t slice, uint64_t count)
{
    return slice >= TX_DATA_SLICE && slice < memory->slices && count <= memory->slices - slice;
}

static bool find_in_slab(const struct slot_memory *memory, uintptr_t address, struct block *block)
{
    uintptr_t slab = block_slice_address(memory, block->slice);
    struct slab_shape shape;
    uint64_t offset = address - slab;

    if (block->span->size_class >= TX_CLASSES)
        return false;
    shape = slab_shape_of(block->span->size_class);
    if (offset < shape.blocks_offset || !block_slices_exist(memory, block->slice, shape.slices))
        return false;
    offset -= shape.blocks_offset;
    block->index = (uint32_t)(offset / shape.block_bytes);
    block->note = (struct tx_note *)slab + block->index;
    return offset % shape.block_bytes == 0 && block->index < shape.count;
}

bool block_find(const struct slot_memory *memory, uintptr_t address, struct block *block)
{
    uint64_t slice = (address - memory->base) >> SLICE_SHIFT;
    struct tx_span *span;

    if (address < memory->base || slice < TX_DATA_SLICE || slice >= memory->slices)
        return false;
    span = block_span(memory, (uint32_t)slice);
    if (span->kind == TX_INSIDE) {
        if (span->slices > slice - TX_DATA_SLICE)
            return false;
        slice -= span->slices;
        span = block_span(memory, (uint32_t)slice);
    }
    *block = (struct block){.address = address, .slice = (uint32_t)slice, .span = span};
    if (span->kind == TX_SLAB)
        return find_in_slab(memory, address, block);
    return span->kind == TX_LARGE && address == block_slice_address(memory, (uint32_t)slice) &&
           span->bytes <= memory->reserve_bytes &&
           block_slices_exist(memory, (uint32_t)slice, block_large_slices(span->bytes));
}

static uint32_t word_of(const struct block *block)
{
    return __atomic_load_n(&block->note->bytes_and_state, __ATOMIC_ACQUIRE);
}

enum tx_block_state block_state(const struct block *block)
{
    return block->note ? word_of(block) & 3 : block->span->state;
}

uint64_t block_bytes(const struct block *block)
{
    return block->note ? word_of(block) >> 2 : block->span->bytes;
}

uint32_t block_type(const struct block *block)
{
    return block->note ? __atomic_load_n(&block->note->type, __ATOMIC_RELAXED) : block->span->type;
}

void block_define_slab(const struct slot_memory *memory, uint32_t slice, uint32_t size_class)
{
    struct slab_shape shape = slab_shape_of(size_class);

    memset((void *)block_slice_address(memory, slice), 0, shape.blocks_offset);
    *block_span(memory, slice) =
        (struct tx_span){.kind = TX_SLAB, .slices = shape.slices, .size_class = size_class};
    for (uint32_t i = 1; i < shape.slices; i++)
        *block_span(memory, slice + i) = (struct tx_span){.kind = TX_INSIDE, .slices = i};
}

void block_define_large(const struct slot_memory *memory, uint32_t slice, uint64_t bytes,
                        uint32_t type)
{
    *block_span(memory, slice) = (struct tx_span){.kind = TX_LARGE,
                                                  .slices = block_large_slices(bytes),
                                                  .size_class = TX_CLASSES,
                                                  .type = type,
                                                  .bytes = bytes,
                                                  .state = TX_USED};
}

/* --- replay --- */

bool block_slices_are_bare(const struct slot_memory *memory, uint32_t slice, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (block_span(memory, slice + i)->kind != TX_NONE)
            return false;
    return true;
}

static int replay_slab_block(struct slot_memory *memory, const struct log_entry *entry)
{
    struct slab_shape shape = slab_shape_of(entry->size_class);
    struct block block;

    if (block_slices_are_bare(memory, entry->slice, shape.slices))
        block_define_slab(memory, entry->slice, entry->size_class);
    if (!block_find(memory, entry->address, &block) || block.slice != entry->slice ||
        block.note == NULL || block.span->size_class != entry->size_class ||
        entry->bytes > shape.block_bytes)
        return STATUS_DAMAGED;
    block_write_note(block.note, entry->type, (uint32_t)entry->bytes << 2 | TX_USED);
    return 0;
}

static int replay_large_block(struct slot_memory *memory, const struct log_entry *entry)
{
    if (entry->address != block_slice_address(memory, entry->slice) ||
        !block_slices_are_bare(memory, entry->slice, block_large_slices(entry->bytes)))
        return STATUS_DAMAGED;
    block_define_large(memory, entry->slice, entry->bytes, entry->type);
    return 0;
}

int block_replay_alloc(struct slot_memory *memory, const struct log_entry *entry)
{
    uint64_t slices;
    int status;

    if (entry->slice < TX_DATA_SLICE || entry->size_class > TX_CLASSES || entry->bytes == 0 ||
        entry->bytes > memory->reserve_bytes)
        return STATUS_DAMAGED;
    slices = entry->size_class < TX_CLASSES ? slab_shape_of(entry->size_class).slices
                                            : block_large_slices(entry->bytes);
    status = slot_memory_extend(memory, entry->slice + slices);
    if (status < 0)
        return status;
    return entry->size_class < TX_CLASSES ? replay_slab_block(memory, entry)
                                          : replay_large_block(memory, entry);
}

int block_replay_free(struct slot_memory *memory, const struct log_entry *entry)
{
    struct block block;

    if (!block_find(memory, entry->address, &block) || block_state(&block) != TX_USED)
        return STATUS_DAMAGED;
    if (block.note)
        block_write_note(block.note, 0, TX_FREE);
    else
        *block.span = (struct tx_span){.kind = TX_NONE};
    return 0;
}
