/*
 * profile_table.c - see profile_table.h, and profile_format.h for what is true under the lock.
 */
#include "core/heap/profile_table.h"

#include <string.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/profile.h"
#include "core/heap/slot.h"

#define COMMIT_STEP (256u << 10)

static struct profile_stack *stack_at(const struct profile *profile, uint32_t number)
{
    return (struct profile_stack *)profile->stacks.start + (number - 1);
}

static struct profile_sample *sample_at(const struct profile *profile, uint32_t number)
{
    return (struct profile_sample *)profile->samples.start + (number - 1);
}

static struct area area_of(uint64_t start, uint64_t end)
{
    return (struct area){start, start, end};
}

bool profile_table_create(struct heap *heap, struct thread_heap *slabs, uint64_t rate_bytes)
{
    struct profile *profile = (struct profile *)heap->profile.start;
    uint64_t start =
        (heap->profile.start + sizeof *profile + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    uint64_t middle = start + (heap->profile.limit - start) / 2 / PAGE_BYTES * PAGE_BYTES;

    if (!slot_commit(&heap->profile, start, 0))
        return false;
    profile->rate_bytes = rate_bytes;
    lock_init(&profile->lock, LOCK_RANK_PROFILE);
    profile->slabs = slabs;
    profile->stacks = area_of(start, middle);
    profile->samples = area_of(middle, heap->profile.limit);
    profile->magic = PROFILE_MAGIC;
    return true;
}

/* One more place at the end of an array; 0: no memory. */
static uint32_t grow(struct area *area, uint32_t *count, uint64_t entry_bytes)
{
    if (!slot_commit(area, area->start + (*count + 1ull) * entry_bytes, COMMIT_STEP))
        return 0;
    return ++*count;
}

static uint32_t find_stack(const struct profile *profile, uint64_t hash, const uint64_t *frames,
                           uint32_t count)
{
    uint32_t number = profile->stack_buckets[profile_stack_bucket(hash)];

    for (; number; number = stack_at(profile, number)->next) {
        const struct profile_stack *stack = stack_at(profile, number);

        if (stack->hash == hash && stack->frame_count == count &&
            memcmp(stack->frames, frames, count * sizeof *frames) == 0)
            break;
    }
    return number;
}

static uint32_t take_stack(struct profile *profile, const uint64_t *frames, uint32_t count)
{
    uint64_t hash = profile_stack_hash(frames, count);
    uint32_t number = find_stack(profile, hash, frames, count);
    uint32_t *bucket = &profile->stack_buckets[profile_stack_bucket(hash)];
    struct profile_stack *stack;

    if (number)
        return number;
    number = grow(&profile->stacks, &profile->stack_count, sizeof *stack);
    if (number == 0)
        return 0;
    stack = stack_at(profile, number);
    stack->hash = hash;
    stack->frame_count = count;
    memcpy(stack->frames, frames, count * sizeof *frames);
    stack->next = *bucket;
    *bucket = number;
    return number;
}

static uint32_t *sample_bucket(struct profile *profile, uint64_t address)
{
    return &profile->sample_buckets[profile_sample_bucket(address)];
}

/* The link that leads to the block's sample, or to 0. */
static uint32_t *find_sample(struct profile *profile, uint64_t address)
{
    uint32_t *link = sample_bucket(profile, address);

    while (*link && sample_at(profile, *link)->address != address)
        link = &sample_at(profile, *link)->next;
    return link;
}

static uint32_t take_sample(struct profile *profile)
{
    uint32_t number = profile->free_sample;

    if (number == 0)
        return grow(&profile->samples, &profile->sample_count, sizeof(struct profile_sample));
    profile->free_sample = sample_at(profile, number)->next;
    return number;
}

static void drop_sample(struct profile *profile, uint32_t *link)
{
    uint32_t number = *link;
    struct profile_sample *sample = sample_at(profile, number);

    *link = sample->next;
    sample->address = 0;
    sample->next = profile->free_sample;
    profile->free_sample = number;
    profile->live--;
}

static void add(struct profile *profile, uint64_t address, uint64_t bytes, uint32_t stack)
{
    uint32_t *link = find_sample(profile, address);
    uint32_t number;

    if (*link)
        drop_sample(profile, link);
    number = stack ? take_sample(profile) : 0;
    if (number == 0) {
        profile->lost++;
        return;
    }
    link = sample_bucket(profile, address);
    *sample_at(profile, number) =
        (struct profile_sample){address, bytes, profile->taken, stack, *link};
    *link = number;
    profile->live++;
    stack_at(profile, stack)->taken++;
    stack_at(profile, stack)->taken_bytes += bytes;
}

void profile_table_add(struct heap *heap, const void *block, uint64_t bytes, const uint64_t *frames,
                       uint32_t count)
{
    struct profile *profile = heap_profile(heap);

    heap_lock(heap, &profile->lock);
    add(profile, (uint64_t)block, bytes, take_stack(profile, frames, count));
    profile->taken++;
    heap_unlock(heap, &profile->lock);
}

void profile_table_remove(struct heap *heap, const void *block)
{
    struct profile *profile = heap_profile(heap);
    uint32_t *link;

    heap_lock(heap, &profile->lock);
    link = find_sample(profile, (uint64_t)block);
    if (*link)
        drop_sample(profile, link);
    heap_unlock(heap, &profile->lock);
}

void profile_table_resize(struct heap *heap, const void *block, uint64_t bytes)
{
    struct profile *profile = heap_profile(heap);
    uint32_t *link;

    heap_lock(heap, &profile->lock);
    link = find_sample(profile, (uint64_t)block);
    if (*link)
        sample_at(profile, *link)->bytes = bytes;
    heap_unlock(heap, &profile->lock);
}

static bool area_is_valid(const struct heap *heap, const struct area *area, uint64_t bytes)
{
    uint64_t base = (uintptr_t)heap;

    return area->start % PAGE_BYTES == 0 && area->start - base < SLOT_BYTES &&
           area->start <= area->committed_end && area->committed_end - base <= SLOT_BYTES &&
           bytes <= area->committed_end - area->start;
}

/* Takes the samples of a list from those that are left; false: there are more, or one is none. */
static bool take_list(const struct profile *profile, uint32_t number, uint32_t *left)
{
    for (; number; number = sample_at(profile, number)->next)
        if (number > profile->sample_count || (*left)-- == 0)
            return false;
    return true;
}

bool profile_table_is_valid(const struct heap *heap)
{
    const struct profile *profile = heap_profile(heap);
    uint32_t left;

    if (!area_is_valid(heap, &heap->profile, sizeof *profile) || profile->magic != PROFILE_MAGIC ||
        !area_is_valid(heap, &profile->samples,
                       (uint64_t)profile->sample_count * sizeof(struct profile_sample)) ||
        !area_is_valid(heap, &profile->stacks,
                       (uint64_t)profile->stack_count * sizeof(struct profile_stack)))
        return false;
    left = profile->sample_count;
    for (uint32_t i = 0; i < PROFILE_SAMPLE_BUCKETS; i++)
        if (!take_list(profile, profile->sample_buckets[i], &left))
            return false;
    return take_list(profile, profile->free_sample, &left);
}
