/*
 * ages.c - see ages.h.
 *
 * True always: one heap is mapped at a time, for all lie at the same address. Of the generation
 * before only the map is looked at, whose notes and bits outlive the mapping; its view stays open
 * as long, since they are in its arena.
 */
#include "recovery/view/ages.h"

#include <errno.h>
#include <string.h>
#include "recovery/view/profile.h"

/* --- which generations --- */

static bool is_compared(const struct view *view, const struct generation_entry *entry)
{
    const struct generation_entry *shown = &view->generation;
    uint64_t run_first = view->pool.super.run_first_generation;

    return entry->number < shown->number && entry->kind != GENERATION_CRASH &&
           entry->slot == shown->slot && (entry->number >= run_first || shown->number < run_first);
}

static bool is_listed(const struct ages *ages, uint64_t number)
{
    for (uint32_t i = 0; i < ages->count; i++)
        if (ages->kept[i]->number == number)
            return true;
    return number == 0;
}

static int not_compared(const struct view *view, uint64_t number, struct problem *why)
{
    return problem_set(why, STATUS_NO_GENERATION,
                       "%s: ages are told by the kept generations of the same run that lie before "
                       "generation %lu and are no crash images; %lu is none of them; pheap inspect "
                       "POOL generations lists all",
                       view->pool.path, (unsigned long)view->generation.number,
                       (unsigned long)number);
}

static int list(struct ages *ages, const struct view *view, uint64_t from, uint64_t named,
                struct problem *why)
{
    const struct superblock *super = &view->pool.super;

    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++)
        if (super->generations[i].number >= from && is_compared(view, &super->generations[i]))
            ages->kept[ages->count++] = &super->generations[i];
    if (!is_listed(ages, from))
        return not_compared(view, from, why);
    return is_listed(ages, named) ? 0 : not_compared(view, named, why);
}

/* --- comparing --- */

struct comparison {
    const struct ages *ages;
    const struct block_map *map;
    uint8_t *first;
    uint8_t now; /* index of the generation that is looked at */
};

/* The number that the block had in the generation before, or BLOCK_NONE. */
static uint64_t number_before(const struct comparison *comparison, uint64_t number,
                              uint64_t address)
{
    const struct block_map *map = comparison->map, *was = &comparison->ages->before->map;
    uint64_t slice = (address - (uint64_t)(uintptr_t)map->heap) >> SLICE_SHIFT;
    const struct span_note *note = &map->notes[slice], *old;
    uint64_t old_number = block_map_number(was, address);

    if (old_number == BLOCK_NONE || !block_bit(was->used, old_number))
        return BLOCK_NONE;
    old = &was->notes[slice];
    if (old->slice != note->slice || old->class != note->class || old->start != note->start)
        return BLOCK_NONE;
    return old_number - old->number == number - note->number ? old_number : BLOCK_NONE;
}

static bool compare_block(void *context, const struct block *block)
{
    const struct comparison *comparison = context;
    uint64_t was = number_before(comparison, block->number, block->address);

    comparison->first[block->number] =
        was == BLOCK_NONE ? comparison->now : comparison->ages->before->first[was];
    return true;
}

/* A sample that was taken after the generation before is of a block that is younger. */
static int correct_sampled(struct comparison *comparison, uint64_t *taken, struct problem *why)
{
    const uint64_t taken_before =
        comparison->ages->before ? comparison->ages->before->samples_taken : 0;
    struct profile_reading reading;
    int status = profile_read(&reading, comparison->map, why);

    *taken = 0;
    if (status == STATUS_DAMAGED)
        return 0; /* without it */
    if (status < 0)
        return status;
    *taken = reading.taken;
    for (uint32_t i = 0; taken_before && i < reading.sample_count; i++)
        if (reading.samples[i].order >= taken_before)
            comparison->first[block_map_number(comparison->map, reading.samples[i].address)] =
                comparison->now;
    return 0;
}

/* first: one byte a number, in the arena of the map's view. */
static int compare(const struct ages *ages, const struct block_map *map, uint8_t now,
                   uint8_t **first, uint64_t *taken, struct problem *why)
{
    struct comparison comparison = {ages, map, arena_alloc(&map->view->arena, map->count + 1, 8),
                                    now};

    *first = comparison.first;
    if (!comparison.first)
        return problem_set(why, -ENOMEM, "no memory for the ages of %lu blocks",
                           (unsigned long)map->count);
    if (ages->before)
        block_map_each(map, map->used, compare_block, &comparison);
    return correct_sampled(&comparison, taken, why);
}

/* --- one generation after the other --- */

static int look_at(struct ages *ages, struct aged_heap *heap, const char *path, uint8_t now,
                   struct problem *why)
{
    int status = view_open(&heap->view, path, ages->kept[now]->number, why);

    if (status == 0)
        status = block_map_build(&heap->map, &heap->view, why);
    if (status == 0)
        status = compare(ages, &heap->map, now, &heap->first, &heap->samples_taken, why);
    view_unmap_heap(&heap->view);
    return status;
}

/* Takes kept[at] out, which cannot be read. */
static void leave_out(struct ages *ages, uint32_t at)
{
    ages->left_out++;
    ages->count--;
    for (uint32_t i = at; i < ages->count; i++)
        ages->kept[i] = ages->kept[i + 1];
}

int ages_begin(struct ages *ages, const struct view *view, uint64_t from, uint64_t named,
               struct problem *why)
{
    int status = list(ages, view, from, named, why);

    for (uint32_t at = 0; status == 0 && at < ages->count;) {
        struct aged_heap *heap = &ages->heaps[ages->before == &ages->heaps[0]];
        uint64_t number = ages->kept[at]->number;

        view_close(&heap->view);
        status = look_at(ages, heap, view->pool.path, (uint8_t)at, why);
        if (status == 0) {
            ages->damaged_pages += heap->view.damaged_heap_pages;
            ages->before = heap;
            at++;
        } else if (status != -ENOMEM && number != from && number != named) {
            leave_out(ages, at);
            status = 0;
        }
    }
    if (status == 0)
        ages->kept[ages->count++] = &view->generation;
    return status;
}

int ages_end(struct ages *ages, const struct block_map *map, struct problem *why)
{
    uint64_t taken;

    return compare(ages, map, (uint8_t)(ages->count - 1), &ages->first, &taken, why);
}

void ages_close(struct ages *ages)
{
    for (int i = 0; i < 2; i++)
        view_close(&ages->heaps[i].view);
    memset(ages, 0, sizeof *ages);
}

/* --- what was found --- */

const struct generation_entry *ages_first(const struct ages *ages, const struct block *block)
{
    return ages->kept[ages->first[block->number]];
}

const struct generation_entry *ages_not_yet(const struct ages *ages, const struct block *block)
{
    uint8_t first = ages->first[block->number];

    return first > 0 ? ages->kept[first - 1] : NULL;
}
