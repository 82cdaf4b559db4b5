/*
 * blocks.c - see blocks.h.
 *
 * Always true: the census has checked every descriptor's kind, length and class before; whatever
 * else a descriptor or a free block says is checked here against its slab before it is used, and
 * a list is followed no further than to a block that was seen free before.
 *
 * Worked example of a number: a slab of 48-byte blocks at slice 20, whose first block has number
 * 1000. The address 100 bytes into it is in block 100 * (2^40 / 48 + 1) >> 40 = 2: number 1002.
 */
#include "recovery/view/blocks.h"

#include <errno.h>
#include <string.h>
#include "core/heap/hardened_large.h"
#include "core/heap/hardened_slab.h"
#include "core/heap/slab.h"

#define NUMBERS_MAX (1ull << 37) /* blocks of 16 bytes in a slot: 2^36 */

static uint64_t base_of(const struct block_map *map)
{
    return (uint64_t)(uintptr_t)map->heap;
}

static uint64_t span_start(const struct block_map *map, uint32_t slice)
{
    return base_of(map) + ((uint64_t)slice << SLICE_SHIFT);
}

static bool is_slab(const struct span *span)
{
    return span->kind == SPAN_SLAB || span->kind == SPAN_HARD_SLAB;
}

static bool has_blocks(const struct span *span)
{
    return is_slab(span) || span->kind == SPAN_LARGE ||
           (span->kind == SPAN_HARD_LARGE && !(span->flags & HARD_FREED));
}

/* --- what lies where --- */

/* From the start of the span to its first block; the span's length when that makes no sense. */
static uint64_t blocks_offset(const struct block_map *map, uint32_t slice, const struct span *span)
{
    uint64_t bytes = slab_bytes(span), offset = 0;

    if (span->kind == SPAN_HARD_SLAB)
        offset = hard_slab_blocks(map->heap, span) - span_start(map, slice);
    else if (span->kind == SPAN_HARD_LARGE)
        offset = hard_large_block(map->heap, span) - span_start(map, slice);
    return offset < bytes && offset % 256 == 0 && offset >> 8 <= UINT16_MAX ? offset : bytes;
}

/* How many blocks have numbers in it: those after the last carved one too, so that every address of
 * a slab leads to a number of its own. */
static uint64_t numbers_of(const struct span *span)
{
    return is_slab(span) ? slab_bytes(span) / size_class_block_bytes(span->size_class) + 1 : 1;
}

static void note_span(struct block_map *map, uint32_t slice, const struct span *span)
{
    uint64_t offset = blocks_offset(map, slice, span);
    struct span_note note = {.number = map->count,
                             .slice = slice,
                             .start = (uint16_t)(offset >> 8),
                             .is_used = has_blocks(span) && offset < slab_bytes(span),
                             .class = is_slab(span) ? span->size_class : BLOCK_CLASS_LARGE};

    for (uint32_t i = 0; i < span->slices; i++)
        map->notes[slice + i] = note;
    if (note.is_used)
        map->count += numbers_of(span);
}

static const struct span *span_at(const struct block_map *map, uint32_t slice)
{
    return heap_span(map->heap, slice);
}

/* The census has seen that lengths are not 0 and end at top. */
static int note_spans(struct block_map *map)
{
    map->notes = arena_alloc(&map->view->arena, ((uint64_t)map->top + 1) * sizeof *map->notes, 64);
    if (!map->notes)
        return -ENOMEM;
    for (uint32_t slice = map->first_slice; slice < map->top; slice += span_at(map, slice)->slices)
        note_span(map, slice, span_at(map, slice));
    map->used =
        map->count < NUMBERS_MAX ? arena_alloc(&map->view->arena, map->count / 8 + 64, 64) : NULL;
    return map->used ? 0 : -ENOMEM;
}

/* --- which are in use --- */

static void set_bit(struct block_map *map, uint64_t number)
{
    map->used[number / 64] |= 1ull << number % 64;
}

/* False: it was clear before. */
static bool clear_bit(struct block_map *map, uint64_t number)
{
    uint64_t bit = 1ull << number % 64;
    bool was_set = map->used[number / 64] & bit;

    map->used[number / 64] &= ~bit;
    return was_set;
}

/* A list of free blocks of one slab, from `block` to the one that leads out of it. */
static void clear_list(struct block_map *map, uint32_t slice, const struct span *slab,
                       uint64_t block, uint64_t most)
{
    uint64_t start = span_start(map, slice);
    uint64_t bytes = size_class_block_bytes(slab->size_class);

    while (most-- > 0 && block - start < slab->carved_bytes && block % 16 == 0) {
        uint64_t index = (block - start) * map->reciprocals[slab->size_class] >> 40;

        if (index * bytes != block - start || !clear_bit(map, map->notes[slice].number + index))
            return;
        block = *(const uint64_t *)block ^ slab->key;
    }
}

static void mark_slab(struct block_map *map, uint32_t slice, const struct span *slab)
{
    uint64_t carved = slab->carved_bytes / size_class_block_bytes(slab->size_class);
    uint64_t first = map->notes[slice].number;

    for (uint64_t i = 0; i < carved; i++)
        set_bit(map, first + i);
    clear_list(map, slice, slab, slab->free_head, carved);
    clear_list(map, slice, slab, slab_remote_head(slab), slab_remote_count(slab));
}

static void mark_hard_slab(struct block_map *map, uint32_t slice, const struct span *slab)
{
    const struct hard_table *table = (const struct hard_table *)span_start(map, slice);
    uint64_t room = slab_bytes(slab) - ((uint64_t)map->notes[slice].start << 8);
    uint64_t places = room / size_class_block_bytes(slab->size_class);

    if (table->places < places)
        places = table->places;
    for (uint64_t i = 0; i < places; i++)
        if (table->words[i] >= PLACE_USED)
            set_bit(map, map->notes[slice].number + i);
}

static void mark_used(struct block_map *map)
{
    for (uint32_t slice = map->first_slice; slice < map->top;
         slice += span_at(map, slice)->slices) {
        const struct span *span = span_at(map, slice);

        if (!map->notes[slice].is_used)
            continue;
        if (span->kind == SPAN_SLAB)
            mark_slab(map, slice, span);
        else if (span->kind == SPAN_HARD_SLAB)
            mark_hard_slab(map, slice, span);
        else
            set_bit(map, map->notes[slice].number);
    }
}

/* Blocks that a thread has freed and not handed back yet. */
static void clear_batches(struct block_map *map, const struct thread_heap *owner)
{
    for (int i = 0; i < REMOTE_BATCHES; i++) {
        const struct remote_batch *batch = &owner->batches[i];

        if (batch->count && batch->slice >= map->first_slice && batch->slice < map->top &&
            map->notes[batch->slice].slice == batch->slice &&
            span_at(map, batch->slice)->kind == SPAN_SLAB)
            clear_list(map, batch->slice, span_at(map, batch->slice),
                       (uint64_t)(uintptr_t)batch->first, batch->count);
    }
}

static void clear_all_batches(struct block_map *map)
{
    uint64_t room = map->heap->thread_heaps.committed_end - map->heap->thread_heaps.start;

    for (uint32_t i = 0;
         i < map->heap->thread_heap_count && (i + 1ull) * THREAD_HEAP_STRIDE <= room; i++)
        clear_batches(map, heap_thread_heap(map->heap, i));
}

void block_map_none(struct block_map *map, struct view *view)
{
    memset(map, 0, sizeof *map);
    map->view = view;
    map->heap = (const struct heap *)view_slot_base(view);
}

int block_map_build(struct block_map *map, struct view *view, struct problem *why)
{
    struct heap_census census;
    int status = view_map_heap(view, &census, why);

    if (status < 0)
        return status;
    block_map_none(map, view);
    map->first_slice = map->heap->data_slice;
    map->top = map->heap->top;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        map->reciprocals[i] = (1ull << 40) / size_class_block_bytes(i) + 1;
    status = note_spans(map);
    if (status < 0)
        return problem_set(why, status, "no memory for a map of %u slices", map->top);
    mark_used(map);
    clear_all_batches(map);
    for (uint64_t i = 0; i < map->count / 64 + 1; i++)
        map->used_count += (uint64_t)__builtin_popcountll(map->used[i]);
    return 0;
}

/* --- looking --- */

/* Block `index` of the span at `slice`. False: it would reach beyond the span's end. */
static bool describe(const struct block_map *map, uint32_t slice, uint64_t index, struct block *out)
{
    const struct span_note *note = &map->notes[slice];
    const struct span *span = span_at(map, note->slice);
    uint64_t start = span_start(map, note->slice) + ((uint64_t)note->start << 8);
    bool is_large = note->class == BLOCK_CLASS_LARGE;

    out->bytes = is_large ? span->large_bytes : size_class_block_bytes(note->class);
    out->address = start + index * out->bytes;
    out->number = note->number + index;
    out->span_start = span_start(map, note->slice);
    out->span_bytes = slab_bytes(span);
    out->class = note->class;
    out->is_used = block_bit(map->used, out->number);
    return out->address + out->bytes <= out->span_start + out->span_bytes;
}

bool block_map_find(const struct block_map *map, uint64_t address, struct block *out)
{
    uint64_t slice = (address - base_of(map)) >> SLICE_SHIFT, number, first;

    number = block_map_number(map, address);
    if (number == BLOCK_NONE)
        return false;
    first = span_start(map, map->notes[slice].slice) + ((uint64_t)map->notes[slice].start << 8);
    return address >= first &&
           describe(map, (uint32_t)slice, number - map->notes[slice].number, out) &&
           address < out->address + out->bytes;
}

void block_map_each(const struct block_map *map, const uint64_t *bits, block_visit *visit,
                    void *context)
{
    for (uint32_t slice = map->first_slice; slice < map->top;
         slice += span_at(map, slice)->slices) {
        const struct span_note *note = &map->notes[slice];
        uint64_t count = note->is_used ? numbers_of(span_at(map, slice)) : 0;
        struct block block;

        for (uint64_t i = 0; i < count; i++)
            if (block_bit(bits, note->number + i) && describe(map, slice, i, &block) &&
                !visit(context, &block))
                return;
    }
}

static void count_span(const struct block_map *map, uint32_t slice, const uint64_t *bits,
                       struct class_table *row)
{
    const struct span *span = span_at(map, slice);
    uint64_t count = numbers_of(span);
    struct block block;

    row->spans++;
    row->span_bytes += slab_bytes(span);
    row->total += is_slab(span) ? count - 1 : 1;
    for (uint64_t i = 0; i < count; i++) {
        if (!block_bit(bits, map->notes[slice].number + i) || !describe(map, slice, i, &block))
            continue;
        row->used++;
        row->used_bytes += block.bytes;
        row->lowest = row->lowest ? row->lowest : block.address;
        row->highest = block.address;
    }
}

void block_map_classes(const struct block_map *map, const uint64_t *bits,
                       struct class_table table[BLOCK_CLASSES])
{
    memset(table, 0, BLOCK_CLASSES * sizeof *table);
    for (uint32_t slice = map->first_slice; slice < map->top; slice += span_at(map, slice)->slices)
        if (map->notes[slice].is_used)
            count_span(map, slice, bits, &table[map->notes[slice].class]);
}
