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
#include "core/tx/slab_shape.h"
#include "recovery/view/opened_heap.h"

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

static const struct span *span_at(const struct block_map *map, uint32_t slice)
{
    return heap_span(map->heap, slice);
}

/* As a descriptor says. */
static uint32_t described_slices(const struct block_map *map, uint32_t slice)
{
    const struct tx_span *span;

    if (!map->is_opened)
        return span_at(map, slice)->slices;
    span = opened_span(map->view, slice);
    if (span->kind == TX_SLAB)
        return size_class_slab_slices(span->size_class);
    return span->kind == TX_LARGE ? span->slices : 1;
}

bool block_map_is_free(const struct block_map *map, uint32_t slice)
{
    return map->is_opened ? !map->notes[slice].is_used : span_at(map, slice)->kind == SPAN_FREE;
}

/* As the notes say, which are the same in all slices of a span and in no other: so a map can be
 * gone through while its spans are freed. Steps double, then halve. */
uint32_t block_map_span_slices(const struct block_map *map, uint32_t slice)
{
    const uint32_t first = map->notes[slice].slice, left = map->top - slice;
    uint32_t step = 1, in = 0;

    while (step < left && map->notes[slice + step].slice == first) {
        in = step;
        step *= 2;
    }
    for (step /= 2; step > 0; step /= 2)
        if (in + step < left && map->notes[slice + in + step].slice == first)
            in += step;
    return in + 1;
}

static uint64_t span_bytes(const struct block_map *map, uint32_t slice)
{
    return (uint64_t)block_map_span_slices(map, slice) << SLICE_SHIFT;
}

/* Those after the last block have numbers too, so that every address of a slab leads to one of its
 * own. */
uint64_t block_map_span_numbers(const struct block_map *map, uint32_t slice)
{
    const struct span_note *note = &map->notes[slice];

    if (!note->is_used)
        return 0;
    return note->class == BLOCK_CLASS_LARGE
               ? 1
               : span_bytes(map, slice) / size_class_block_bytes(note->class) + 1;
}

uint64_t block_map_large_bytes(const struct block_map *map, uint32_t slice)
{
    uint64_t bytes =
        map->is_opened ? opened_span(map->view, slice)->bytes : span_at(map, slice)->large_bytes;
    uint64_t most = span_bytes(map, slice) - (uint64_t)map->notes[slice].start * BLOCK_UNIT;

    return bytes < most ? bytes : most;
}

/* From the start of the span to its first block; the span's length when that makes no sense. */
static uint64_t blocks_offset(const struct block_map *map, uint32_t slice, const struct span *span)
{
    uint64_t bytes = slab_bytes(span), offset = 0;

    if (span->kind == SPAN_HARD_SLAB)
        offset = hard_slab_blocks(map->heap, span) - span_start(map, slice);
    else if (!is_slab(span))
        offset = heap_large_block(map->heap, span) - span_start(map, slice);
    return offset < bytes && offset % BLOCK_UNIT == 0 && offset / BLOCK_UNIT < 1u << 24 ? offset
                                                                                        : bytes;
}

static struct span_note note_of_span(const struct block_map *map, uint32_t slice)
{
    const struct span *span = span_at(map, slice);
    uint64_t offset = blocks_offset(map, slice, span);
    bool is_used = has_blocks(span) && offset < slab_bytes(span);

    return (struct span_note){.number = map->count,
                              .slice = slice,
                              .start = is_used ? (uint32_t)(offset / BLOCK_UNIT) & 0xffffff : 0,
                              .is_used = is_used,
                              .class =
                                  (is_slab(span) ? span->size_class : BLOCK_CLASS_LARGE) & 127};
}

static struct span_note note_of_opened(const struct block_map *map, uint32_t slice)
{
    const struct tx_span *span = opened_span(map->view, slice);
    struct span_note note = {
        .number = map->count, .slice = slice, .is_used = 1, .class = BLOCK_CLASS_LARGE};

    if (span->kind == TX_SLAB) {
        note.start = (slab_shape_of(span->size_class).blocks_offset / BLOCK_UNIT) & 0xffffff;
        note.class = span->size_class & 127;
    } else if (span->kind != TX_LARGE) {
        note.is_used = 0;
    }
    return note;
}

static void note_span(struct block_map *map, uint32_t slice)
{
    struct span_note note = map->is_opened ? note_of_opened(map, slice) : note_of_span(map, slice);
    uint32_t slices = described_slices(map, slice);

    for (uint32_t i = 0; i < slices; i++)
        map->notes[slice + i] = note;
    map->count += block_map_span_numbers(map, slice);
}

/* It has been seen that lengths are not 0 and end at top. */
static int note_spans(struct block_map *map)
{
    map->notes = arena_alloc(&map->view->arena, ((uint64_t)map->top + 1) * sizeof *map->notes, 64);
    if (!map->notes)
        return -ENOMEM;
    for (uint32_t slice = map->first_slice; slice < map->top; slice += described_slices(map, slice))
        note_span(map, slice);
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

/* Those of the carved blocks whose free bit is set. */
static void clear_noted(struct block_map *map, uint32_t slice, uint64_t carved)
{
    const uint64_t *bits = heap_free_bits(map->heap, slice);

    for (uint64_t i = 0; i < carved && i < FREE_BITS_BYTES * 8; i++)
        if (bits[i / 64] >> i % 64 & 1)
            (void)clear_bit(map, map->notes[slice].number + i);
}

static void mark_slab(struct block_map *map, uint32_t slice, const struct span *slab)
{
    uint64_t carved = slab->carved_bytes / size_class_block_bytes(slab->size_class);
    uint64_t first = map->notes[slice].number;

    for (uint64_t i = 0; i < carved; i++)
        set_bit(map, first + i);
    if (slab->flags & SLAB_NOTED && heap_has_free_bits(map->heap, slice))
        clear_noted(map, slice, carved);
    clear_list(map, slice, slab, slab->free_head, carved);
    clear_list(map, slice, slab, slab_remote_head(slab), slab_remote_count(slab));
}

static void mark_hard_slab(struct block_map *map, uint32_t slice, const struct span *slab)
{
    const struct hard_table *table = (const struct hard_table *)span_start(map, slice);
    uint64_t room = slab_bytes(slab) - (uint64_t)map->notes[slice].start * BLOCK_UNIT;
    uint64_t places = room / size_class_block_bytes(slab->size_class);

    if (table->places < places)
        places = table->places;
    for (uint64_t i = 0; i < places; i++)
        if (table->words[i] >= PLACE_USED)
            set_bit(map, map->notes[slice].number + i);
}

static void mark_span(struct block_map *map, uint32_t slice)
{
    const struct span *span = span_at(map, slice);

    if (span->kind == SPAN_SLAB)
        mark_slab(map, slice, span);
    else if (span->kind == SPAN_HARD_SLAB)
        mark_hard_slab(map, slice, span);
    else
        set_bit(map, map->notes[slice].number);
}

static const struct tx_note *opened_notes(const struct block_map *map, uint32_t slice)
{
    return (const struct tx_note *)span_start(map, slice);
}

static void mark_opened(struct block_map *map, uint32_t slice)
{
    const struct tx_span *span = opened_span(map->view, slice);
    const struct tx_note *notes = opened_notes(map, slice);
    uint64_t first = map->notes[slice].number;
    uint32_t count = span->kind == TX_SLAB ? slab_shape_of(span->size_class).count : 0;

    if (span->kind == TX_LARGE && span->state != TX_FREE)
        set_bit(map, first);
    for (uint32_t i = 0; i < count; i++)
        if ((notes[i].bytes_and_state & 3) != TX_FREE)
            set_bit(map, first + i);
}

static void mark_used(struct block_map *map)
{
    for (uint32_t slice = map->first_slice; slice < map->top;
         slice += block_map_span_slices(map, slice))
        if (map->notes[slice].is_used && map->is_opened)
            mark_opened(map, slice);
        else if (map->notes[slice].is_used)
            mark_span(map, slice);
}

/* A block that has been freed and that its slab's owner does not know of yet. */
static void clear_one(struct block_map *map, uint64_t block)
{
    uint64_t slice = (block - base_of(map)) >> SLICE_SHIFT;
    uint32_t first;

    if (slice < map->first_slice || slice >= map->top)
        return;
    first = map->notes[slice].slice;
    if (span_at(map, first)->kind == SPAN_SLAB)
        clear_list(map, first, span_at(map, first), block, 1);
}

/* What a thread has freed of others' blocks, and they of its. */
static void clear_on_their_way(struct block_map *map, const struct thread_heap *some)
{
    for (int i = 0; i < REMOTE_BATCHES; i++)
        for (uint64_t j = 0; j < some->batches[i].count && j < REMOTE_BATCH_BLOCKS; j++)
            clear_one(map, some->batches[i].blocks[j]);
    for (int i = 0; i < INBOX_BLOCKS; i++)
        if (some->inbox[i] != 0)
            clear_one(map, some->inbox[i]);
}

static void clear_all_on_their_way(struct block_map *map)
{
    uint64_t room = map->heap->thread_heaps.committed_end - map->heap->thread_heaps.start;

    for (uint32_t i = 0;
         i < map->heap->thread_heap_count && (i + 1ull) * THREAD_HEAP_STRIDE <= room; i++)
        clear_on_their_way(map, heap_thread_heap(map->heap, i));
}

void block_map_none(struct block_map *map, struct view *view)
{
    memset(map, 0, sizeof *map);
    map->view = view;
    map->heap = (const struct heap *)view_slot_base(view);
}

static int take_census(struct block_map *map, struct problem *why)
{
    struct heap_census census;
    int status = heap_census(map->view->generation.slot, &census, why);

    map->first_slice = map->heap->data_slice;
    map->top = map->heap->top;
    return status;
}

/* The same for an opened heap. */
static int judge_spans(struct block_map *map, struct problem *why)
{
    uint32_t slices;

    map->is_opened = true;
    map->first_slice = TX_DATA_SLICE;
    map->top = opened_top(map->view);
    for (uint32_t slice = map->first_slice; slice < map->top; slice += slices) {
        slices = opened_span_slices(map->view, slice, map->top);
        if (slices == 0)
            return problem_set(why, STATUS_DAMAGED,
                               "%s: generation %lu: the span at 0x%lx makes no sense; `pheap "
                               "recover --check` says more",
                               map->view->pool.path, (unsigned long)map->view->generation.number,
                               (unsigned long)span_start(map, slice));
    }
    return 0;
}

int block_map_build(struct block_map *map, struct view *view, struct problem *why)
{
    int status = view_map_heap(view, why);

    if (status < 0)
        return status;
    block_map_none(map, view);
    status = view->is_opened ? judge_spans(map, why) : take_census(map, why);
    if (status < 0)
        return status;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        map->reciprocals[i] = (1ull << 40) / size_class_block_bytes(i) + 1;
    status = note_spans(map);
    if (status < 0)
        return problem_set(why, status, "no memory for a map of %u slices", map->top);
    mark_used(map);
    if (!map->is_opened)
        clear_all_on_their_way(map);
    for (uint64_t i = 0; i < map->count / 64 + 1; i++)
        map->used_count += (uint64_t)__builtin_popcountll(map->used[i]);
    return 0;
}

int block_map_build_whole(struct block_map *map, struct view *view, const char *not_done,
                          struct problem *why)
{
    int status = view_map_heap(view, why);

    if (status == 0)
        status = opened_judge(view, not_done, why);
    return status == 0 ? block_map_build(map, view, why) : status;
}

/* --- looking --- */

static uint64_t first_block(const struct block_map *map, uint32_t slice)
{
    const struct span_note *note = &map->notes[slice];

    return span_start(map, note->slice) + (uint64_t)note->start * BLOCK_UNIT;
}

static void describe_opened(const struct block_map *map, uint32_t slice, uint64_t index,
                            struct block *out)
{
    const struct tx_span *span = opened_span(map->view, slice);
    bool has_note = span->kind == TX_SLAB && index < slab_shape_of(span->size_class).count;
    const struct tx_note note =
        has_note ? opened_notes(map, slice)[index] : (struct tx_note){span->type, 0};

    out->has_type = true;
    out->type = note.type;
    out->asked = has_note ? note.bytes_and_state >> 2 : span->kind == TX_LARGE ? span->bytes : 0;
}

/* Block `index` of the span at `slice`. False: it would reach beyond the span's end. */
static bool describe(const struct block_map *map, uint32_t slice, uint64_t index, struct block *out)
{
    const struct span_note *note = &map->notes[slice];
    bool is_large = note->class == BLOCK_CLASS_LARGE;

    *out = (struct block){.number = note->number + index,
                          .class = note->class,
                          .span_start = span_start(map, note->slice),
                          .span_bytes = span_bytes(map, note->slice)};
    out->bytes =
        is_large ? block_map_large_bytes(map, note->slice) : size_class_block_bytes(note->class);
    out->address = first_block(map, slice) + index * out->bytes;
    out->is_used = block_bit(map->used, out->number);
    if (map->is_opened)
        describe_opened(map, note->slice, index, out);
    return out->address + out->bytes <= out->span_start + out->span_bytes;
}

bool block_map_find(const struct block_map *map, uint64_t address, struct block *out)
{
    uint64_t slice = (address - base_of(map)) >> SLICE_SHIFT, number;

    number = block_map_number(map, address);
    if (number == BLOCK_NONE)
        return false;
    return address >= first_block(map, (uint32_t)slice) &&
           describe(map, (uint32_t)slice, number - map->notes[slice].number, out) &&
           address < out->address + out->bytes;
}

/* Numbers ascend with the slices. */
bool block_map_by_number(const struct block_map *map, uint64_t number, struct block *out)
{
    uint32_t low = map->first_slice, high = map->top;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (map->notes[middle].number <= number)
            low = middle;
        else
            high = middle;
    }
    if (low >= map->top)
        return false;
    low = map->notes[low].slice;
    return number - map->notes[low].number < block_map_span_numbers(map, low) &&
           describe(map, low, number - map->notes[low].number, out);
}

void block_map_each(const struct block_map *map, const uint64_t *bits, block_visit *visit,
                    void *context)
{
    for (uint32_t slice = map->first_slice; slice < map->top;
         slice += block_map_span_slices(map, slice)) {
        const struct span_note *note = &map->notes[slice];
        uint64_t count = block_map_span_numbers(map, slice);
        struct block block;

        for (uint64_t i = 0; i < count; i++)
            if (block_bit(bits, note->number + i) && describe(map, slice, i, &block) &&
                !visit(context, &block))
                return;
    }
}

void block_map_each_address(const struct block_map *map, const uint64_t *bits,
                            block_address_visit *visit, void *context)
{
    for (uint32_t slice = map->first_slice; slice < map->top;
         slice += block_map_span_slices(map, slice)) {
        const struct span_note *note = &map->notes[slice];
        uint64_t count = block_map_span_numbers(map, slice);
        uint64_t bytes = note->class == BLOCK_CLASS_LARGE ? 0 : size_class_block_bytes(note->class);

        for (uint64_t i = 0; i < count; i++)
            if (block_bit(bits, note->number + i) &&
                !visit(context, first_block(map, slice) + i * bytes))
                return;
    }
}

/* How many blocks a span can hand out. */
static uint64_t places_of(const struct block_map *map, uint32_t slice)
{
    uint64_t numbers = block_map_span_numbers(map, slice);

    if (map->notes[slice].class == BLOCK_CLASS_LARGE)
        return 1;
    return map->is_opened ? slab_shape_of(map->notes[slice].class).count : numbers - 1;
}

static void count_span(const struct block_map *map, uint32_t slice, const uint64_t *bits,
                       struct class_table *row)
{
    uint64_t count = block_map_span_numbers(map, slice), first = map->notes[slice].number, last = 0;
    struct block block;

    row->spans++;
    row->span_bytes += span_bytes(map, slice);
    row->total += places_of(map, slice);
    for (uint64_t i = 0; i < count; i++) {
        if (!block_bit(bits, first + i) || !describe(map, slice, i, &block))
            continue;
        row->used++;
        row->used_bytes += block.bytes;
        row->lowest = row->lowest ? row->lowest : block.address;
        last = block.address;
    }
    row->highest = last ? last : row->highest;
}

void block_map_classes(const struct block_map *map, const uint64_t *bits,
                       struct class_table table[BLOCK_CLASSES])
{
    memset(table, 0, BLOCK_CLASSES * sizeof *table);
    for (uint32_t slice = map->first_slice; slice < map->top;
         slice += block_map_span_slices(map, slice))
        if (map->notes[slice].is_used)
            count_span(map, slice, bits, &table[map->notes[slice].class]);
}
