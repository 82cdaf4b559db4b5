/*
 * profile.c - the tables of a profiled heap: header, stacks, samples, the chains that lead to them.
 *
 * A program that is resumed follows these chains under a lock: one that leads in a circle stops
 * it. All of it is guarded by the profile's lock and looked at only if nobody held it.
 *
 * Work is bounded by the pages that the generation has: each that holds places holds one that is
 * not zero, so there are no more places than those pages have room for.
 */
#include <errno.h>
#include <stdlib.h>
#include "core/base/sys.h"
#include "core/heap/profile_format.h"
#include "recovery/check/heap_view.h"

struct links { /* of the stacks, or of the samples; [0] is nobody's */
    uint32_t *next, *bucket;
    uint32_t count;
};

#define BUCKET_FREE UINT32_MAX /* in the list of free places */

static int make_links(struct links *links, uint32_t count)
{
    links->count = count;
    links->next = calloc(count + 1ull, sizeof *links->next);
    links->bucket = calloc(count + 1ull, sizeof *links->bucket);
    return links->next && links->bucket ? 0 : -ENOMEM;
}

static void free_links(struct links *links)
{
    free(links->next);
    free(links->bucket);
}

/* --- header --- */

static bool is_table(const struct heap_view *view, const struct area *area, uint64_t start,
                     uint64_t limit, uint64_t count, uint64_t entry_bytes)
{
    return area->start == start && area->limit == limit && area->start <= area->committed_end &&
           area->committed_end <= area->limit &&
           count * entry_bytes <= area->committed_end - area->start &&
           count <= view->page_count * (PAGE_BYTES / entry_bytes);
}

static bool has_tables(const struct heap_view *view, const struct profile *profile)
{
    const struct area *area = &view->heap.profile;
    uint64_t start = (area->start + sizeof *profile + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1ull);
    uint64_t middle = profile->samples.start;

    return start <= middle && middle <= area->limit && middle % PAGE_BYTES == 0 &&
           is_table(view, &profile->stacks, start, middle, profile->stack_count,
                    sizeof(struct profile_stack)) &&
           is_table(view, &profile->samples, middle, area->limit, profile->sample_count,
                    sizeof(struct profile_sample));
}

static bool has_slabs(struct heap_view *view, const struct profile *profile)
{
    const struct heap *heap = &view->heap;
    uint64_t address = (uint64_t)(uintptr_t)profile->slabs;
    struct thread_heap thread;

    if (address - heap->thread_heaps.start >=
            (uint64_t)heap->thread_heap_count * THREAD_HEAP_STRIDE ||
        (address - heap->thread_heaps.start) % THREAD_HEAP_STRIDE != 0)
        return false;
    heap_view_read(view, &thread, sizeof thread, address);
    return thread.state == THREAD_HEAP_SHARED;
}

static bool check_profile_area(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    const struct area *area = &heap->profile;
    bool is_right = area->start >= heap->data.limit && area->start % PAGE_BYTES == 0 &&
                    area->start <= area->committed_end && area->committed_end <= area->limit &&
                    area->limit <= view->base + heap->reserve_bytes &&
                    area->committed_end - area->start >= sizeof(struct profile);

    if (!is_right)
        heap_tell(view, HP_AREA, view->base + __builtin_offsetof(struct heap, profile),
                  "an area behind the data, in the slot", "0x%lx .. 0x%lx .. 0x%lx", area->start,
                  area->committed_end, area->limit);
    return is_right;
}

static bool check_profile_header(struct heap_view *view, const struct profile *profile)
{
    uint64_t at = view->heap.profile.start;
    const char *wrong = NULL;

    if (profile->magic != PROFILE_MAGIC || profile->rate_bytes != view->heap.profile_rate_bytes)
        heap_tell(view, PF_HEADER, at, "the magic, and the heap's rate", "0x%lx, %lu bytes",
                  profile->magic, profile->rate_bytes);
    else if (!has_tables(view, profile))
        wrong = "tables one behind the other, with room for their places";
    else if (!has_slabs(view, profile))
        wrong = "a thread heap that is no thread's";
    else if (profile->live > profile->sample_count)
        wrong = "no more live samples than places";
    else
        return true;
    if (wrong)
        heap_tell(view, PF_HEADER, at, wrong, "%u stacks, %u samples, %u live, slabs 0x%lx",
                  profile->stack_count, profile->sample_count, profile->live,
                  (uint64_t)(uintptr_t)profile->slabs);
    return false;
}

/* --- places --- */

static bool read_stacks(struct heap_view *view, const struct profile *profile, struct links *links)
{
    for (uint32_t number = 1; number <= links->count; number++) {
        uint64_t at = profile->stacks.start + (number - 1ull) * sizeof(struct profile_stack);
        struct profile_stack stack;

        heap_view_read(view, &stack, sizeof stack, at);
        if (stack.frame_count > PROFILE_FRAMES_MAX ||
            stack.hash != profile_stack_hash(stack.frames, stack.frame_count)) {
            heap_tell(view, PF_STACK, at, "at most 60 frames, and their hash",
                      "stack %u: %u frames, hash 0x%lx", number, stack.frame_count, stack.hash);
            return false;
        }
        links->next[number] = stack.next;
        links->bucket[number] = profile_stack_bucket(stack.hash);
    }
    return true;
}

static bool is_sample(const struct heap_view *view, const struct profile *profile,
                      const struct profile_sample *sample)
{
    const struct heap *heap = &view->heap;

    return sample->stack - 1u < profile->stack_count && sample->address >= heap->data.start &&
           sample->address < view_slice_address(view, heap->top);
}

static bool read_samples(struct heap_view *view, const struct profile *profile, struct links *links)
{
    for (uint32_t number = 1; number <= links->count; number++) {
        uint64_t at = profile->samples.start + (number - 1ull) * sizeof(struct profile_sample);
        struct profile_sample sample;

        heap_view_read(view, &sample, sizeof sample, at);
        if (sample.address && !is_sample(view, profile, &sample)) {
            heap_tell(view, PF_SAMPLE, at, "a block of the heap, and a stack",
                      "sample %u: 0x%lx, stack %u of %u", number, sample.address, sample.stack,
                      profile->stack_count);
            return false;
        }
        links->next[number] = sample.next;
        links->bucket[number] =
            sample.address ? profile_sample_bucket(sample.address) : BUCKET_FREE;
    }
    return true;
}

/* --- chains --- */

/* How many a chain leads to; each has its bucket and none is met twice, or it is told. A chain that
 * goes on for longer than there are places goes in a circle. */
static bool follow(struct heap_view *view, const struct links *links, uint64_t at, uint32_t number,
                   uint32_t bucket, uint32_t *met)
{
    for (; number != 0; number = links->next[number])
        if (number > links->count || links->bucket[number] != bucket || (*met)++ == links->count) {
            heap_tell(view, PF_CHAIN, at, "a place that belongs there, once",
                      "number %u of %u, after %u", number, links->count, *met);
            return false;
        }
    return true;
}

static bool follow_all(struct heap_view *view, const struct links *links, uint64_t at,
                       uint32_t buckets, uint32_t wanted)
{
    uint32_t met = 0;

    for (uint32_t i = 0; i < buckets; i++) {
        uint64_t from = at + i * sizeof(uint32_t);
        uint32_t number;

        heap_view_read(view, &number, sizeof number, from);
        if (!follow(view, links, from, number, i, &met))
            return false;
    }
    if (met != wanted)
        heap_tell(view, PF_CHAIN, at, "chains that lead to all", "%u of %u", met, wanted);
    return met == wanted;
}

static void check_free_samples(struct heap_view *view, const struct profile *profile,
                               const struct links *links)
{
    uint64_t at = view->heap.profile.start + __builtin_offsetof(struct profile, free_sample);
    uint32_t met = 0, wanted = profile->sample_count - profile->live;

    if (follow(view, links, at, profile->free_sample, BUCKET_FREE, &met) && met != wanted)
        heap_tell(view, PF_CHAIN, at, "a list of all free places", "%u of %u", met, wanted);
}

static void check_tables(struct heap_view *view, const struct profile *profile,
                         struct links *stacks, struct links *samples)
{
    uint64_t at = view->heap.profile.start;

    if (!read_stacks(view, profile, stacks) ||
        !follow_all(view, stacks, at + __builtin_offsetof(struct profile, stack_buckets),
                    PROFILE_STACK_BUCKETS, profile->stack_count) ||
        !read_samples(view, profile, samples) ||
        !follow_all(view, samples, at + __builtin_offsetof(struct profile, sample_buckets),
                    PROFILE_SAMPLE_BUCKETS, profile->live))
        return;
    check_free_samples(view, profile, samples);
}

static int check_content(struct heap_view *view, const struct profile *profile)
{
    struct links stacks = {0}, samples = {0};
    int status = make_links(&stacks, profile->stack_count);

    if (status == 0)
        status = make_links(&samples, profile->sample_count);
    if (status == 0)
        check_tables(view, profile, &stacks, &samples);
    free_links(&stacks);
    free_links(&samples);
    return status;
}

/* The heap's rate is set last, so a profile that nothing is in may be without. */
static bool has_profile(const struct heap_view *view, const struct profile *profile)
{
    return view->heap.profile_rate_bytes != 0 ||
           (profile->magic == PROFILE_MAGIC && profile->taken != 0);
}

int check_profile(struct heap_view *view)
{
    const struct area *area = &view->heap.profile;
    struct profile *profile;
    uint64_t lock;
    int status = 0;

    if (view->heap.profile_rate_bytes == 0 && area->committed_end == area->start)
        return 0;
    if (!check_profile_area(view))
        return 0;
    lock = area->start + __builtin_offsetof(struct profile, lock);
    check_holder(view, lock);
    if (view_is_locked(view, lock))
        return 0;
    profile = malloc(sizeof *profile);
    if (profile == NULL)
        return -ENOMEM;
    heap_view_read(view, profile, sizeof *profile, area->start);
    if (has_profile(view, profile) && check_profile_header(view, profile))
        status = check_content(view, profile);
    free(profile);
    return status;
}
