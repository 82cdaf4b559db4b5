/*
 * profile.c - see profile.h. Always true: what is in `samples` has a stack in `stacks` with at most
 * PROFILE_FRAMES_MAX frames.
 */
#include "recovery/view/profile.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX (1u << 24) /* of stacks, of samples: an arena's worth */

static bool area_is_there(const struct block_map *map, const struct area *area, uint64_t bytes)
{
    uint64_t base = (uint64_t)(uintptr_t)map->heap;

    return area->start - base < SLOT_BYTES && area->start <= area->committed_end &&
           area->committed_end - base <= SLOT_BYTES && bytes <= area->committed_end - area->start;
}

static int damaged(const struct block_map *map, const char *what, struct problem *why)
{
    return problem_set(
        why, STATUS_DAMAGED,
        "%s: generation %lu: the heap's profile has %s that cannot be: take an older "
        "generation",
        map->view->pool.path, (unsigned long)map->view->generation.number, what);
}

static int read_head(const struct block_map *map, struct profile *head, struct problem *why)
{
    const size_t bytes = offsetof(struct profile, stack_buckets);
    const struct heap *heap = map->heap;
    int status;

    if (!area_is_there(map, &heap->profile, sizeof *head))
        return damaged(map, "a place", why);
    status = view_read(map->view, heap->profile.start, head, bytes, why);
    if (status < 0)
        return status;
    if (head->magic != PROFILE_MAGIC || head->rate_bytes == 0 || head->stack_count > ENTRIES_MAX ||
        head->sample_count > ENTRIES_MAX ||
        !area_is_there(map, &head->stacks,
                       (uint64_t)head->stack_count * sizeof(struct profile_stack)) ||
        !area_is_there(map, &head->samples,
                       (uint64_t)head->sample_count * sizeof(struct profile_sample)))
        return damaged(map, "a header", why);
    return 0;
}

static void *read_array(const struct block_map *map, uint64_t start, uint64_t bytes, int *status,
                        struct problem *why)
{
    void *array = arena_alloc(&map->view->arena, bytes + 1, 8);

    if (array == NULL)
        *status =
            problem_set(why, -ENOMEM, "no memory for %lu bytes of a profile", (unsigned long)bytes);
    else if (bytes)
        *status = view_read(map->view, start, array, bytes, why);
    return array;
}

static bool is_live(const struct profile_reading *reading, const struct block_map *map,
                    const struct profile_sample *sample)
{
    struct block block;

    return sample->stack - 1u < reading->stack_count &&
           reading->stacks[sample->stack - 1].frame_count <= PROFILE_FRAMES_MAX &&
           block_map_find(map, sample->address, &block) && block.is_used &&
           block.address == sample->address;
}

static int by_address(const void *a, const void *b)
{
    uint64_t x = ((const struct profile_sample *)a)->address;
    uint64_t y = ((const struct profile_sample *)b)->address;

    return x < y ? -1 : x > y;
}

static void keep_live(struct profile_reading *out, const struct block_map *map, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (is_live(out, map, &out->samples[i]))
            out->samples[out->sample_count++] = out->samples[i];
    qsort(out->samples, out->sample_count, sizeof *out->samples, by_address);
}

int profile_read(struct profile_reading *out, const struct block_map *map, struct problem *why)
{
    static struct profile head;
    int status;

    memset(out, 0, sizeof *out);
    if (map->is_opened || map->heap->profile_rate_bytes == 0)
        return 0;
    status = read_head(map, &head, why);
    if (status < 0)
        return status;
    out->stacks = read_array(map, head.stacks.start,
                             (uint64_t)head.stack_count * sizeof *out->stacks, &status, why);
    if (status == 0)
        out->samples = read_array(map, head.samples.start,
                                  (uint64_t)head.sample_count * sizeof *out->samples, &status, why);
    if (status < 0)
        return status;
    out->rate_bytes = head.rate_bytes;
    out->taken = head.taken;
    out->lost = head.lost;
    out->stack_count = head.stack_count;
    keep_live(out, map, head.sample_count);
    return 0;
}

double profile_weight(const struct profile_reading *reading, const struct profile_sample *sample)
{
    double part = (double)(sample->bytes ? sample->bytes : 1) / (double)reading->rate_bytes;

    return 1 / -expm1(-part);
}

const struct profile_sample *profile_of_block(const struct profile_reading *reading,
                                              uint64_t address)
{
    const struct profile_sample wanted = {.address = address};

    return reading->sample_count ? bsearch(&wanted, reading->samples, reading->sample_count,
                                           sizeof wanted, by_address)
                                 : NULL;
}

void profile_sum(const struct profile_reading *reading, const struct block_map *map,
                 const uint64_t *bits, struct profile_total *totals)
{
    for (uint32_t i = 0; i < reading->sample_count; i++) {
        const struct profile_sample *sample = &reading->samples[i];
        struct profile_total *total = &totals[sample->stack - 1];
        double weight = profile_weight(reading, sample);

        if (!block_bit(bits, block_map_number(map, sample->address)))
            continue;
        total->bytes += weight * (double)sample->bytes;
        total->blocks += weight;
        total->samples++;
    }
}
