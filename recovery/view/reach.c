/*
 * reach.c - see reach.h.
 *
 * One bit a block says "in use and not reached yet"; a word that leads to such a block clears it
 * and puts the block on a stack, so every block is looked through once.
 *
 * There is a stack for each region of 2 MiB, and a queue of the regions whose stacks are not empty.
 * One region is worked through until its stack stays empty: its pages are in the TLB by then. With
 * one stack for all, more than half of the time in a heap that points about at random is page walks
 * (10 M blocks of 112 bytes: 1.2 s; with regions 0.6 s).
 *
 * An entry is the block's offset in the slot, 40 bits, and its class. Each block is on a stack at
 * most once, and a stack's place is that of its blocks' numbers in an array of all: there is room
 * for every one.
 */
#include "recovery/view/reach.h"

#include <errno.h>
#include <string.h>
#include "recovery/view/thread_state.h"

#define CLASS_SHIFT 40
#define OFFSET_MASK ((1ull << CLASS_SHIFT) - 1)
#define AHEAD       8u /* blocks that are on their way to the cache */

#define REGION_SHIFT 5 /* of slices: 2 MiB */

_Static_assert(SLOT_BYTES == 1ull << CLASS_SHIFT, "an offset in the slot fits below the class");

struct region {
    uint64_t base; /* of its stack: the number of its first block */
    uint64_t depth;
    bool is_queued;
};

struct marker {
    const struct block_map *map;
    struct reach *reach;
    uint64_t slot;
    uint64_t low, bytes; /* of the data area */
    uint32_t block_bytes[SIZE_CLASSES];
    uint64_t *stacks;
    struct region *regions;
    uint32_t region_count;
    uint32_t *queue; /* a ring of region_count */
    uint32_t queue_first, queue_count;
    uint64_t skip_start, skip_end; /* below the stack pointer in [stack] */
};

static void enter_queue(struct marker *marker, uint32_t region)
{
    marker->regions[region].is_queued = true;
    marker->queue[(marker->queue_first + marker->queue_count++) % marker->region_count] = region;
}

/* The block with this number, which holds address, is reached now. */
static inline void push(struct marker *marker, uint64_t address, uint64_t number)
{
    const struct span_note *note = &marker->map->notes[(address - marker->slot) >> SLICE_SHIFT];
    uint64_t start = ((uint64_t)note->slice << SLICE_SHIFT) + ((uint64_t)note->start << 8);
    uint32_t index = note->slice >> REGION_SHIFT;
    struct region *region = &marker->regions[index];

    if (note->class != BLOCK_CLASS_LARGE)
        start += (number - note->number) * marker->block_bytes[note->class];
    marker->reach->unreached[number / 64] &= ~(1ull << number % 64);
    marker->stacks[region->base + region->depth++] = start | (uint64_t)note->class << CLASS_SHIFT;
    if (!region->is_queued)
        enter_queue(marker, index);
}

static inline void look_at(struct marker *marker, uint64_t word)
{
    uint64_t number;

    if (word - marker->low >= marker->bytes)
        return;
    number = block_map_number(marker->map, word);
    if (number != BLOCK_NONE && block_bit(marker->reach->unreached, number))
        push(marker, word, number);
}

static void look_through(struct marker *marker, const uint64_t *words, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes / 8; i++)
        look_at(marker, words[i]);
}

/* Usable bytes of the block of a stack's entry, none beyond its span. */
static uint64_t entry_bytes(const struct marker *marker, uint64_t entry)
{
    uint64_t offset = entry & OFFSET_MASK, class = entry >> CLASS_SHIFT;
    struct block block;

    if (class < SIZE_CLASSES)
        return marker->block_bytes[class];
    return block_map_find(marker->map, marker->slot + offset, &block) ? block.bytes : 0;
}

/* Most blocks begin and end within two cache lines; of longer ones the processor sees the rest
 * coming. */
static inline void fetch(const char *block)
{
    __builtin_prefetch(block);
    __builtin_prefetch(block + 64);
}

static void work_through(struct marker *marker, struct region *region)
{
    uint64_t ahead[AHEAD], *stack = marker->stacks + region->base;
    unsigned first = 0, count = 0;

    while (region->depth > 0 || count > 0) {
        uint64_t entry;

        while (region->depth > 0 && count < AHEAD) {
            entry = stack[--region->depth];
            ahead[(first + count++) % AHEAD] = entry;
            fetch((const char *)marker->slot + (entry & OFFSET_MASK));
        }
        entry = ahead[first];
        first = (first + 1) % AHEAD;
        count--;
        look_through(marker, (const uint64_t *)(marker->slot + (entry & OFFSET_MASK)),
                     entry_bytes(marker, entry));
    }
}

static void mark_through(struct marker *marker)
{
    while (marker->queue_count > 0) {
        struct region *region = &marker->regions[marker->queue[marker->queue_first]];

        marker->queue_first = (marker->queue_first + 1) % marker->region_count;
        marker->queue_count--;
        work_through(marker, region);
        region->is_queued = false;
    }
}

/* --- roots --- */

static void root_words(struct marker *marker, const void *data, size_t bytes)
{
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;

        memcpy(&word, (const uint8_t *)data + i, 8);
        look_at(marker, word);
    }
}

static int root_page(void *context, uint64_t address, const uint8_t *page)
{
    struct marker *marker = context;
    uint64_t first = 0;

    if (address >= marker->skip_start && address < marker->skip_end)
        first = marker->skip_end - address < PAGE_BYTES ? marker->skip_end - address : PAGE_BYTES;
    root_words(marker, page + first, PAGE_BYTES - first);
    return 0;
}

/* Nothing is kept below the red zone of the one thread that runs on [stack]. */
static void find_dead_stack(struct marker *marker)
{
    const struct process_image *process = &marker->map->view->process;

    for (uint32_t i = 0; i < process->thread_count; i++) {
        uint64_t rsp = process->threads[i].record->registers[REG_RSP];
        const struct image_mapping *mapping = view_mapping(marker->map->view, rsp);

        if (!mapping || !(mapping->record->flags & RECORD_MAPPING_GROWS_DOWN) ||
            rsp - 128 < mapping->record->start)
            continue;
        marker->skip_start = mapping->record->start;
        marker->skip_end = (rsp - 128) & ~7ull;
    }
}

static void mark_records(struct marker *marker)
{
    const struct process_image *process = &marker->map->view->process;

    for (uint32_t i = 0; i < process->thread_count; i++) {
        root_words(marker, process->threads[i].record, sizeof *process->threads[i].record);
        root_words(marker, process->threads[i].xstate, process->threads[i].record->xstate_bytes);
    }
    for (uint32_t i = 0; i < process->watch_count; i++)
        root_words(marker, &process->watches[i]->data, sizeof process->watches[i]->data);
    for (uint32_t i = 0; i < process->posix_timer_count; i++)
        root_words(marker, &process->posix_timers[i]->value, 8);
    for (uint32_t i = 0; i < process->pending_count; i++)
        root_words(marker, process->pending[i]->siginfo, RECORD_SIGINFO_BYTES);
    for (uint32_t i = 0; i < process->pipe_count; i++)
        root_words(marker, process->pipes[i].content, process->pipes[i].record->content_bytes);
}

/* Spans belong to the region that they begin in. */
static void place_stacks(struct marker *marker)
{
    const struct block_map *map = marker->map;
    uint32_t next = 0;

    for (uint32_t slice = map->first_slice; slice < map->top; slice++)
        for (; map->notes[slice].slice == slice && next <= slice >> REGION_SHIFT; next++)
            marker->regions[next].base = map->notes[slice].number;
    for (; next < marker->region_count; next++)
        marker->regions[next].base = map->count;
}

static int start(struct marker *marker, struct problem *why)
{
    const struct block_map *map = marker->map;
    struct arena *arena = &map->view->arena;
    uint64_t words = map->count / 64 + 1;

    marker->slot = view_slot_base(map->view);
    marker->low = marker->slot + ((uint64_t)map->first_slice << SLICE_SHIFT);
    marker->bytes = (uint64_t)(map->top - map->first_slice) << SLICE_SHIFT;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        marker->block_bytes[i] = size_class_block_bytes(i);
    marker->region_count = (map->top >> REGION_SHIFT) + 1;
    marker->reach->unreached = arena_alloc(arena, words * 8, 64);
    marker->stacks = arena_alloc(arena, (map->count + 1) * 8, 64);
    marker->regions = arena_alloc(arena, marker->region_count * sizeof *marker->regions, 64);
    marker->queue = arena_alloc(arena, marker->region_count * sizeof *marker->queue, 64);
    if (!marker->reach->unreached || !marker->stacks || !marker->regions || !marker->queue)
        return problem_set(why, -ENOMEM, "no memory to mark %lu blocks",
                           (unsigned long)map->used_count);
    memcpy(marker->reach->unreached, map->used, words * 8);
    place_stacks(marker);
    find_dead_stack(marker);
    return 0;
}

int reach_mark(struct reach *reach, const struct block_map *map, struct problem *why)
{
    struct marker marker = {.map = map, .reach = reach};
    uint64_t slot = view_slot_base(map->view);
    int status;

    memset(reach, 0, sizeof *reach);
    status = start(&marker, why);
    if (status < 0)
        return status;
    mark_records(&marker);
    status = view_each_page(map->view, 0, slot, root_page, &marker, why);
    if (status == 0)
        status = view_each_page(map->view, slot + SLOT_BYTES, PROCESS_ADDRESS_LIMIT, root_page,
                                &marker, why);
    mark_through(&marker);
    for (uint64_t i = 0; i < map->count / 64 + 1; i++)
        reach->unreached_count += (uint64_t)__builtin_popcountll(reach->unreached[i]);
    return status;
}
