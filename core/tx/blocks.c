/*
 * blocks.c - see blocks.h.
 */
#include "core/tx/blocks.h"

#include <errno.h>
#include <string.h>
#include "core/tx/slab_shape.h"

#define BLOCK_ALIGN 16u /* of slabs' blocks */

struct slab_state {
    struct slab_state *next; /* in blocks->listed, if it is */
    struct slab_shape shape;
    uint32_t slice;
    uint32_t size_class;
    uint32_t free;
    uint32_t free_from; /* no block before this one is free */
    bool listed;
    uint64_t taken[]; /* a bit a block; those behind the last block are set */
};

static bool bit_is_set(const uint64_t *bits, uint64_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *bits, uint64_t i)
{
    bits[i / 64] |= 1ull << (i % 64);
}

static void bit_clear(uint64_t *bits, uint64_t i)
{
    bits[i / 64] &= ~(1ull << (i % 64));
}

/* --- what may be handed out --- */

static void take_slices(struct blocks *blocks, uint32_t slice, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        bit_set(blocks->taken, slice + i);
}

static void list_slab(struct blocks *blocks, struct slab_state *slab)
{
    if (slab->listed || slab->free == 0)
        return;
    slab->listed = true;
    slab->next = blocks->listed[slab->size_class];
    blocks->listed[slab->size_class] = slab;
}

static struct slab_state *make_state(struct blocks *blocks, uint32_t slice, uint32_t size_class)
{
    struct slab_shape shape = slab_shape_of(size_class);
    uint64_t words = (shape.count + 63) / 64;
    struct slab_state *slab = arena_alloc(blocks->arena, sizeof *slab + words * 8, 8);

    if (!slab)
        return NULL;
    slab->shape = shape;
    slab->slice = slice;
    slab->size_class = size_class;
    for (uint64_t i = shape.count; i < words * 64; i++)
        bit_set(slab->taken, i);
    return slab;
}

static void watch_slab(struct blocks *blocks, struct slab_state *slab)
{
    const struct tx_note *notes =
        (const struct tx_note *)block_slice_address(blocks->memory, slab->slice);

    for (uint32_t i = 0; i < slab->shape.count; i++)
        if ((notes[i].bytes_and_state & 3) != TX_FREE)
            bit_set(slab->taken, i);
        else
            slab->free++;
    blocks->slabs[slab->slice] = slab;
    take_slices(blocks, slab->slice, slab->shape.slices);
    list_slab(blocks, slab);
}

static bool slab_notes_hold(const struct slot_memory *memory, uint32_t slice,
                            const struct slab_shape *shape)
{
    const struct tx_note *notes = (const struct tx_note *)block_slice_address(memory, slice);

    for (uint32_t i = 0; i < shape->count; i++)
        if ((notes[i].bytes_and_state & 3) > TX_USED ||
            notes[i].bytes_and_state >> 2 > shape->block_bytes)
            return false;
    return true;
}

/* A slab as it was found; returns its slices. */
static int derive_slab(struct blocks *blocks, uint32_t slice)
{
    const struct slot_memory *memory = blocks->memory;
    const struct tx_span *span = block_span(memory, slice);
    struct slab_state *slab;
    struct slab_shape shape;

    if (span->size_class >= SIZE_CLASSES)
        return STATUS_DAMAGED;
    shape = slab_shape_of(span->size_class);
    if (!block_slices_exist(memory, slice, shape.slices) || !slab_notes_hold(memory, slice, &shape))
        return STATUS_DAMAGED;
    for (uint32_t i = 1; i < shape.slices; i++)
        if (span[i].kind != TX_INSIDE || span[i].slices != i)
            return STATUS_DAMAGED;
    slab = make_state(blocks, slice, span->size_class);
    if (!slab)
        return -ENOMEM;
    watch_slab(blocks, slab);
    return (int)shape.slices;
}

/* The same of a large block. */
static int derive_large(struct blocks *blocks, uint32_t slice)
{
    const struct slot_memory *memory = blocks->memory;
    const struct tx_span *span = block_span(memory, slice);
    uint32_t count = span->slices;

    if (span->bytes == 0 || span->bytes > memory->reserve_bytes || span->state != TX_USED ||
        count != block_large_slices(span->bytes) || !block_slices_exist(memory, slice, count) ||
        !block_slices_are_bare(memory, slice + 1, count - 1))
        return STATUS_DAMAGED;
    take_slices(blocks, slice, count);
    return (int)count;
}

static int derive_span(struct blocks *blocks, uint32_t slice)
{
    switch (block_span(blocks->memory, slice)->kind) {
    case TX_NONE:
        return 1;
    case TX_SLAB:
        return derive_slab(blocks, slice);
    case TX_LARGE:
        return derive_large(blocks, slice);
    default:
        return STATUS_DAMAGED;
    }
}

int blocks_derive(struct blocks *blocks, struct slot_memory *memory, struct arena *arena)
{
    int passed = 0;

    *blocks = (struct blocks){.memory = memory, .arena = arena, .free_from = TX_DATA_SLICE};
    blocks->taken = arena_alloc(arena, memory->slices_max / 8, 8);
    blocks->slabs = arena_alloc(arena, memory->slices_max * sizeof blocks->slabs[0], 8);
    if (!blocks->taken || !blocks->slabs)
        return -ENOMEM;
    for (uint32_t slice = TX_DATA_SLICE; slice < memory->slices; slice += (uint32_t)passed) {
        passed = derive_span(blocks, slice);
        if (passed < 0)
            return passed;
    }
    return 0;
}

/* --- taking --- */

/* The lowest run of so many free slices, which may reach beyond what is accessible. */
static uint32_t find_slices(const struct blocks *blocks, uint32_t count)
{
    uint32_t end = blocks->memory->slices, run = 0, slice = blocks->free_from;

    for (; slice < end && run < count; slice++) {
        if (slice % 64 == 0 && blocks->taken[slice / 64] == ~0ull) {
            run = 0;
            slice += 63;
        } else {
            run = bit_is_set(blocks->taken, slice) ? 0 : run + 1;
        }
    }
    return slice - run;
}

/* 0: there is no room. */
static uint32_t grab_slices(struct blocks *blocks, uint32_t count)
{
    uint32_t first = find_slices(blocks, count);

    if (slot_memory_extend(blocks->memory, (uint64_t)first + count) < 0)
        return 0;
    take_slices(blocks, first, count);
    if (count == 1)
        blocks->free_from = first + 1;
    return first;
}

static void return_slices(struct blocks *blocks, uint32_t slice, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        bit_clear(blocks->taken, slice + i);
    if (slice < blocks->free_from)
        blocks->free_from = slice;
}

/* The span says that it is a slab only when there is a state that goes with it. */
static struct slab_state *make_slab(struct blocks *blocks, uint32_t size_class)
{
    uint32_t slices = size_class_slab_slices(size_class);
    uint32_t first = grab_slices(blocks, slices);
    struct slab_state *slab = first ? make_state(blocks, first, size_class) : NULL;

    if (!slab && first)
        return_slices(blocks, first, slices);
    if (!slab)
        return NULL;
    block_define_slab(blocks->memory, first, size_class);
    watch_slab(blocks, slab);
    return slab;
}

static uint32_t take_index(struct blocks *blocks, struct slab_state *slab)
{
    uint32_t word = slab->free_from / 64, index;

    while (slab->taken[word] == ~0ull)
        word++;
    index = word * 64 + (uint32_t)__builtin_ctzll(~slab->taken[word]);
    bit_set(slab->taken, index);
    slab->free_from = index + 1;
    if (--slab->free == 0) {
        slab->listed = false;
        blocks->listed[slab->size_class] = slab->next;
    }
    return index;
}

static int take_from_slab(struct blocks *blocks, uint64_t bytes, uint32_t type, struct block *block)
{
    uint32_t size_class = size_class_of(bytes);
    struct slab_state *slab = blocks->listed[size_class];
    uintptr_t start;

    if (!slab)
        slab = make_slab(blocks, size_class);
    if (!slab)
        return -ENOMEM;
    start = block_slice_address(blocks->memory, slab->slice);
    *block = (struct block){.slice = slab->slice,
                            .span = block_span(blocks->memory, slab->slice),
                            .index = take_index(blocks, slab)};
    block->note = (struct tx_note *)start + block->index;
    block->address =
        start + slab->shape.blocks_offset + (uint64_t)block->index * slab->shape.block_bytes;
    *block->note = (struct tx_note){type, (uint32_t)bytes << 2 | TX_USED};
    return 0;
}

static int take_large(struct blocks *blocks, uint64_t bytes, uint32_t type, struct block *block)
{
    uint32_t slice;

    if (bytes > blocks->memory->reserve_bytes)
        return -ENOMEM;
    slice = grab_slices(blocks, block_large_slices(bytes));
    if (slice == 0)
        return -ENOMEM;
    block_define_large(blocks->memory, slice, bytes, type);
    *block = (struct block){.address = block_slice_address(blocks->memory, slice),
                            .slice = slice,
                            .span = block_span(blocks->memory, slice)};
    return 0;
}

int blocks_take(struct blocks *blocks, uint64_t bytes, uint32_t alignment, uint32_t type,
                struct block *block)
{
    int status;

    if (bytes == 0)
        bytes = 1;
    if (bytes <= BLOCK_MAX_BYTES && alignment <= BLOCK_ALIGN)
        status = take_from_slab(blocks, bytes, type, block);
    else
        status = take_large(blocks, bytes, type, block);
    if (status == 0)
        memset((void *)block->address, 0, bytes);
    return status;
}

static void give_back(struct blocks *blocks, const struct block *block)
{
    struct slab_state *slab = blocks->slabs[block->slice];

    if (block->note) {
        bit_clear(slab->taken, block->index);
        slab->free++;
        if (block->index < slab->free_from)
            slab->free_from = block->index;
        list_slab(blocks, slab);
        return;
    }
    return_slices(blocks, block->slice, block->span->slices);
}

void blocks_set_state(struct blocks *blocks, const struct block *block, enum tx_block_state state)
{
    if (state == TX_FREE)
        give_back(blocks, block);
    block_write_state(block, state);
}

/* --- walking --- */

static bool is_wanted(const struct block *block, uintptr_t after, uint32_t type)
{
    return block->address > after && block_state(block) == TX_USED && block_type(block) == type;
}

static bool next_in_slab(const struct blocks *blocks, uint32_t slice, uintptr_t after,
                         uint32_t type, struct block *block)
{
    const struct slab_state *slab = blocks->slabs[slice];
    uintptr_t start = block_slice_address(blocks->memory, slice);
    uintptr_t first = start + slab->shape.blocks_offset;
    uint32_t index = after < first ? 0 : (uint32_t)((after - first) / slab->shape.block_bytes);

    for (; index < slab->shape.count; index++) {
        *block = (struct block){.address = first + (uint64_t)index * slab->shape.block_bytes,
                                .slice = slice,
                                .index = index,
                                .span = block_span(blocks->memory, slice),
                                .note = (struct tx_note *)start + index};
        if (is_wanted(block, after, type))
            return true;
    }
    return false;
}

bool blocks_next(const struct blocks *blocks, uintptr_t after, uint32_t type, struct block *block)
{
    const struct slot_memory *memory = blocks->memory;
    uint64_t slice = after ? (after - memory->base) >> SLICE_SHIFT : TX_DATA_SLICE;

    if (slice < TX_DATA_SLICE)
        return false;
    if (slice < memory->slices && block_span(memory, (uint32_t)slice)->kind == TX_INSIDE)
        slice -= block_span(memory, (uint32_t)slice)->slices;
    while (slice < memory->slices) {
        struct tx_span *span = block_span(memory, (uint32_t)slice);

        *block = (struct block){.address = block_slice_address(memory, (uint32_t)slice),
                                .slice = (uint32_t)slice,
                                .span = span};
        if (span->kind == TX_LARGE && is_wanted(block, after, type))
            return true;
        if (span->kind == TX_SLAB && next_in_slab(blocks, (uint32_t)slice, after, type, block))
            return true;
        slice += span->slices ? span->slices : 1;
    }
    return false;
}

/* --- validity --- */

static bool slab_is_valid(const struct blocks *blocks, const struct slab_state *slab)
{
    const struct tx_note *notes =
        (const struct tx_note *)block_slice_address(blocks->memory, slab->slice);
    uint32_t free = 0;

    for (uint32_t i = 0; i < slab->shape.count; i++) {
        bool is_free = (notes[i].bytes_and_state & 3) == TX_FREE;

        if (is_free == bit_is_set(slab->taken, i) || (is_free && i < slab->free_from))
            return false;
        free += is_free;
    }
    return free == slab->free && slab->listed == (free > 0);
}

bool blocks_are_valid(const struct blocks *blocks)
{
    const struct slot_memory *memory = blocks->memory;

    for (uint32_t slice = TX_DATA_SLICE; slice < memory->slices; slice++) {
        const struct tx_span *span = block_span(memory, slice);

        if (span->kind == TX_SLAB && !slab_is_valid(blocks, blocks->slabs[slice]))
            return false;
        if (span->kind == TX_LARGE)
            slice += span->slices - 1;
        else if ((span->kind == TX_NONE) == bit_is_set(blocks->taken, slice))
            return false;
    }
    return true;
}
