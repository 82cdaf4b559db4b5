/*
 * reach.c - see reach.h.
 *
 * One bit a block says "in use and not reached yet"; a word that leads to such a block clears it
 * and puts the block on a stack, so every block is looked through once. Between the stack and the
 * looking lies a short queue: the block's memory is on its way to the cache meanwhile.
 *
 * The stack's entry is the block's offset in the slot, 40 bits, and its class. It holds each block
 * at most once, so there is room for all.
 */
#include "recovery/view/reach.h"

#include <errno.h>
#include <string.h>
#include "recovery/view/thread_state.h"

#define CLASS_SHIFT 40
#define OFFSET_MASK ((1ull << CLASS_SHIFT) - 1)
#define QUEUE       16u

_Static_assert(SLOT_BYTES == 1ull << CLASS_SHIFT, "an offset in the slot fits below the class");

struct marker {
    const struct block_map *map;
    struct reach *reach;
    uint64_t low, bytes; /* of the data area */
    uint64_t *stack;
    uint64_t depth;
    uint64_t skip_start, skip_end; /* below the stack pointer in [stack] */
};

/* The block with this number starts at address; it is reached now. */
static void push(struct marker *marker, uint64_t address, uint64_t number)
{
    const struct span_note *note =
        &marker->map->notes[(address - view_slot_base(marker->map->view)) >> SLICE_SHIFT];
    uint64_t base = view_slot_base(marker->map->view);
    uint64_t start = ((uint64_t)note->slice << SLICE_SHIFT) + ((uint64_t)note->start << 8);

    if (note->class != BLOCK_CLASS_LARGE)
        start += (number - note->number) * size_class_block_bytes(note->class);
    marker->reach->unreached[number / 64] &= ~(1ull << number % 64);
    marker->stack[marker->depth++] = start | (uint64_t)note->class << CLASS_SHIFT;
    __builtin_prefetch((const void *)(base + start));
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
        return size_class_block_bytes((uint32_t) class);
    return block_map_find(marker->map, view_slot_base(marker->map->view) + offset, &block)
               ? block.bytes
               : 0;
}

static void mark_through(struct marker *marker)
{
    uint64_t queue[QUEUE], base = view_slot_base(marker->map->view);
    unsigned first = 0, count = 0;

    while (marker->depth > 0 || count > 0) {
        uint64_t entry;

        while (marker->depth > 0 && count < QUEUE)
            queue[(first + count++) % QUEUE] = marker->stack[--marker->depth];
        entry = queue[first];
        first = (first + 1) % QUEUE;
        count--;
        look_through(marker, (const uint64_t *)(base + (entry & OFFSET_MASK)),
                     entry_bytes(marker, entry));
    }
}

/* --- roots --- */

static void root_words(struct marker *marker, const void *data, size_t bytes)
{
    uint64_t before = marker->depth;

    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        uint64_t word;

        memcpy(&word, (const uint8_t *)data + i, 8);
        look_at(marker, word);
    }
    marker->reach->root_words += marker->depth - before;
}

static int root_page(void *context, uint64_t address, const uint8_t *page)
{
    struct marker *marker = context;
    uint64_t first = 0;

    if (address >= marker->skip_start && address < marker->skip_end)
        first = marker->skip_end - address < PAGE_BYTES ? marker->skip_end - address : PAGE_BYTES;
    root_words(marker, page + first, PAGE_BYTES - first);
    mark_through(marker);
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
    mark_through(marker);
}

static int start(struct marker *marker, struct problem *why)
{
    const struct block_map *map = marker->map;
    struct arena *arena = &map->view->arena;
    uint64_t words = map->count / 64 + 1;

    marker->low = view_slot_base(map->view) + ((uint64_t)map->first_slice << SLICE_SHIFT);
    marker->bytes = (uint64_t)(map->top - map->first_slice) << SLICE_SHIFT;
    marker->reach->unreached = arena_alloc(arena, words * 8, 64);
    marker->stack = arena_alloc(arena, (map->used_count + 1) * 8, 64);
    if (!marker->reach->unreached || !marker->stack)
        return problem_set(why, -ENOMEM, "no memory to mark %lu blocks",
                           (unsigned long)map->used_count);
    memcpy(marker->reach->unreached, map->used, words * 8);
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
    for (uint64_t i = 0; i < map->count / 64 + 1; i++)
        reach->unreached_count += (uint64_t)__builtin_popcountll(reach->unreached[i]);
    return status;
}
