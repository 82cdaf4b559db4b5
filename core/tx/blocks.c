/*
 * blocks.c - see blocks.h.
 */
#include "core/tx/blocks.h"

#include <errno.h>
#include <string.h>
#include "core/heap/slot.h"
#include "core/tx/slab_shape.h"
#include "core/tx/slab_state.h"

#define BLOCK_ALIGN 16u /* of slabs' blocks */

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

static void acquire(struct blocks *blocks)
{
    lock_acquire(&blocks->lock, heap_holder());
}

static void release(struct blocks *blocks)
{
    lock_release(&blocks->lock);
}

/* --- what may be handed out --- */

static void take_slices(struct blocks *blocks, uint32_t slice, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        bit_set(blocks->taken, slice + i);
}

/* Its slices and it are known from here on. */
static void enter_slab(struct blocks *blocks, struct slab_state *slab)
{
    blocks->slabs[slab->slice] = slab;
    take_slices(blocks, slab->slice, slab->shape.slices);
}

static void derive_taken(const struct blocks *blocks, struct slab_state *slab)
{
    const struct tx_note *notes =
        (const struct tx_note *)block_slice_address(blocks->memory, slab->slice);

    for (uint32_t i = 0; i < slab->shape.count; i++)
        if ((notes[i].bytes_and_state & 3) != TX_FREE)
            slab_state_use(slab, i);
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

    if (span->size_class >= TX_CLASSES)
        return STATUS_DAMAGED;
    shape = slab_shape_of(span->size_class);
    if (!block_slices_exist(memory, slice, shape.slices) || !slab_notes_hold(memory, slice, &shape))
        return STATUS_DAMAGED;
    for (uint32_t i = 1; i < shape.slices; i++)
        if (span[i].kind != TX_INSIDE || span[i].slices != i)
            return STATUS_DAMAGED;
    slab = slab_state_create(blocks->arena, slice, span->size_class);
    if (!slab)
        return -ENOMEM;
    derive_taken(blocks, slab);
    enter_slab(blocks, slab);
    slab_state_list(slab, &blocks->listed[slab->size_class]);
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
    lock_init(&blocks->lock, LOCK_RANK_OPENED);
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
    uint32_t slices = slab_shape_of(size_class).slices;
    uint32_t first = grab_slices(blocks, slices);
    struct slab_state *slab = first ? slab_state_create(blocks->arena, first, size_class) : NULL;

    if (!slab && first)
        return_slices(blocks, first, slices);
    if (!slab)
        return NULL;
    block_define_slab(blocks->memory, first, size_class);
    enter_slab(blocks, slab);
    return slab;
}

/* --- a hand's slabs --- */

static void collect_returned(struct blocks_hand *hand)
{
    struct slab_state *slab = hand->returned, *next;

    for (; slab; slab = next) {
        next = slab->next_returned;
        slab_state_collect(slab);
        slab_state_list(slab, &hand->listed[slab->size_class]);
    }
    hand->returned = NULL;
}

/* What others have freed, or what is nobody's, or a new one. */
static int find_slab(struct blocks *blocks, struct blocks_hand *hand, uint32_t size_class)
{
    struct slab_state **list = &hand->listed[size_class], *slab;

    collect_returned(hand);
    if (*list)
        return 0;
    slab = blocks->listed[size_class];
    if (slab)
        slab_state_unlist(slab, &blocks->listed[size_class]);
    else
        slab = make_slab(blocks, size_class);
    if (!slab)
        return -ENOMEM;
    __atomic_store_n(&slab->hand, hand, __ATOMIC_RELAXED);
    slab_state_list(slab, list);
    return 0;
}

static int take_from_slab(struct blocks *blocks, struct blocks_hand *hand, uint64_t bytes,
                          uint32_t type, struct block *block)
{
    uint32_t size_class = size_class_of(bytes);
    struct slab_state **list = &hand->listed[size_class], *slab;
    uintptr_t start;
    int status = 0;

    if (!*list) {
        acquire(blocks);
        status = find_slab(blocks, hand, size_class);
        release(blocks);
    }
    if (status < 0)
        return status;
    slab = *list;
    start = block_slice_address(blocks->memory, slab->slice);
    *block = (struct block){.slice = slab->slice,
                            .span = block_span(blocks->memory, slab->slice),
                            .index = slab_state_take(slab, list)};
    block->note = (struct tx_note *)start + block->index;
    block->address =
        start + slab->shape.blocks_offset + (uint64_t)block->index * slab->shape.block_bytes;
    block_write_note(block->note, type, (uint32_t)bytes << 2 | TX_USED);
    return 0;
}

static int take_large(struct blocks *blocks, uint64_t bytes, uint32_t type, struct block *block)
{
    uint32_t slice;

    if (bytes > blocks->memory->reserve_bytes)
        return -ENOMEM;
    acquire(blocks);
    slice = grab_slices(blocks, block_large_slices(bytes));
    if (slice != 0)
        block_define_large(blocks->memory, slice, bytes, type);
    release(blocks);
    *block = (struct block){.address = block_slice_address(blocks->memory, slice),
                            .slice = slice,
                            .span = block_span(blocks->memory, slice)};
    return slice == 0 ? -ENOMEM : 0;
}

int blocks_take(struct blocks *blocks, struct blocks_hand *hand, uint64_t bytes, uint32_t alignment,
                uint32_t type, struct block *block)
{
    int status;

    if (bytes == 0)
        bytes = 1;
    if (bytes <= BLOCK_MAX_BYTES && alignment <= BLOCK_ALIGN)
        status = take_from_slab(blocks, hand, bytes, type, block);
    else
        status = take_large(blocks, bytes, type, block);
    if (status == 0)
        memset((void *)block->address, 0, bytes);
    return status;
}

/* --- giving back --- */

/* All of it is free, and there is another: others may have it. */
static void give_up(struct blocks *blocks, struct blocks_hand *hand, struct slab_state *slab)
{
    acquire(blocks);
    slab_state_unlist(slab, &hand->listed[slab->size_class]);
    __atomic_store_n(&slab->hand, NULL, __ATOMIC_RELAXED);
    slab_state_list(slab, &blocks->listed[slab->size_class]);
    release(blocks);
}

static void return_to_hand(struct slab_state *slab, uint32_t index)
{
    if (slab->returned_count == 0) {
        slab->next_returned = slab->hand->returned;
        slab->hand->returned = slab;
    }
    slab_state_return(slab, index);
}

/* Who has the hand finds it in the slab; nobody else makes a slab that hand's, or takes it away. */
static void put_back(struct blocks *blocks, struct blocks_hand *hand, const struct block *block)
{
    struct slab_state *slab = blocks->slabs[block->slice];
    struct slab_state **list = &hand->listed[slab->size_class];

    if (__atomic_load_n(&slab->hand, __ATOMIC_RELAXED) == hand) {
        slab_state_put_back(slab, block->index, list);
        if (slab->free == slab->shape.count && (slab->next || slab->before))
            give_up(blocks, hand, slab);
        return;
    }
    acquire(blocks);
    if (slab->hand)
        return_to_hand(slab, block->index);
    else
        slab_state_put_back(slab, block->index, &blocks->listed[slab->size_class]);
    release(blocks);
}

void blocks_free(struct blocks *blocks, struct blocks_hand *hand, const struct block *block)
{
    if (block->note) {
        block_write_note(block->note, 0, TX_FREE);
        put_back(blocks, hand, block);
        return;
    }
    acquire(blocks);
    return_slices(blocks, block->slice, block->span->slices);
    *block->span = (struct tx_span){.kind = TX_NONE};
    release(blocks);
}

/* --- states --- */

/* Of two that free one block at the same time one finds it in use. */
static bool mark_in_slab(const struct block *block)
{
    uint32_t used = __atomic_load_n(&block->note->bytes_and_state, __ATOMIC_RELAXED);

    return (used & 3) == TX_USED &&
           __atomic_compare_exchange_n(&block->note->bytes_and_state, &used,
                                       (used & ~3u) | TX_FREEING, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

static bool mark_large(struct blocks *blocks, struct block *block)
{
    bool used;

    acquire(blocks);
    used = block_find(blocks->memory, block->address, block) && !block->note &&
           block_state(block) == TX_USED;
    if (used)
        block->span->state = TX_FREEING;
    release(blocks);
    return used;
}

bool blocks_mark_freed(struct blocks *blocks, struct block *block)
{
    if (!block_find(blocks->memory, block->address, block))
        return false;
    return block->note ? mark_in_slab(block) : mark_large(blocks, block);
}

void blocks_unmark(struct blocks *blocks, const struct block *block)
{
    if (block->note) {
        block_write_note(block->note, block->note->type,
                         (block->note->bytes_and_state & ~3u) | TX_USED);
        return;
    }
    acquire(blocks);
    block->span->state = TX_USED;
    release(blocks);
}

bool blocks_find(struct blocks *blocks, uintptr_t address, struct block *block,
                 enum tx_block_state *state, uint64_t *bytes)
{
    bool found;

    acquire(blocks);
    found = block_find(blocks->memory, address, block);
    *state = found ? block_state(block) : TX_FREE;
    *bytes = found ? block_bytes(block) : 0;
    release(blocks);
    return found && *state != TX_FREE;
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
    uint32_t free = 0, returned = 0;

    for (uint32_t i = 0; i < slab->shape.count; i++) {
        bool is_free = (notes[i].bytes_and_state & 3) == TX_FREE;
        bool is_returned = slab_state_is_returned(slab, i);

        if (slab_state_is_taken(slab, i) != (!is_free || is_returned) || (is_returned && !is_free))
            return false;
        if (!slab_state_is_taken(slab, i) && i < slab->free_from)
            return false;
        free += !slab_state_is_taken(slab, i);
        returned += is_returned;
    }
    return free == slab->free && slab->listed == (free > 0) && returned == slab->returned_count &&
           (slab->hand || returned == 0);
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
