/*
 * spans.c - see spans.h.
 *
 * Invariants, under spans_lock:
 *   - two free runs are never neighbours (a run aside counts as in use);
 *   - a free run is in the bin of its order, and bins_used has that bin's bit;
 *   - the dirty bit of a slice of a free run is set unless the slice reads as zero. Of a slice in
 *     use it says what the slice was when it was handed out;
 *   - from top on every slice reads as zero and its descriptor is zero.
 */
#include "core/heap/spans.h"

#include <string.h>
#include "core/base/sys.h"
#include "core/heap/dirty_bits.h"
#include "core/heap/kept.h"
#include "core/heap/slot.h"

/* How many runs of one bin are looked at: bounds the time of a request. */
#define FIT_TRIES   32
#define PURGE_BATCH 32
/* From here on it is cheaper to let the kernel zero what will be touched than to touch all. */
#define ZERO_BY_DROP_BYTES (8ull << 20)
#define COMMIT_STEP_MIN    (1ull << 20)
#define COMMIT_STEP_MAX    (64ull << 20)

/* Counted without the lock. */
static uint64_t epoch_now(const struct heap *heap)
{
    return __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED);
}

static uint32_t run_bin(uint32_t slices)
{
    return 31 - (uint32_t)__builtin_clz(slices);
}

static uint32_t align_up_slices(uint32_t slice, uint32_t align)
{
    return (slice + align - 1) & ~(align - 1);
}

static void run_clear(struct span *span)
{
    memset(span, 0, sizeof *span);
}

static void run_insert(struct heap *heap, uint32_t slice, uint32_t slices, uint64_t epoch)
{
    struct span *run = heap_span(heap, slice);
    uint32_t bin = run_bin(slices);

    if (slices > 1) {
        struct span *last = run + slices - 1;

        last->kind = SPAN_FREE_END;
        last->slices = slices;
    }
    run->kind = SPAN_FREE;
    run->slices = slices;
    run->freed_epoch = epoch;
    run->prev = 0;
    run->next = heap->bins[bin];
    if (run->next)
        heap_span(heap, run->next)->prev = slice;
    heap->bins[bin] = slice;
    heap->bins_used |= 1u << bin;
    heap->free_slices += slices;
}

/* Takes the run out of its bin and wipes its tags; says its length. */
static uint32_t run_remove(struct heap *heap, uint32_t slice)
{
    struct span *run = heap_span(heap, slice);
    uint32_t slices = run->slices;
    uint32_t bin = run_bin(slices);

    if (run->prev)
        heap_span(heap, run->prev)->next = run->next;
    else
        heap->bins[bin] = run->next;
    if (run->next)
        heap_span(heap, run->next)->prev = run->prev;
    if (heap->bins[bin] == 0)
        heap->bins_used &= ~(1u << bin);
    run_clear(run + slices - 1);
    run_clear(run);
    heap->free_slices -= slices;
    return slices;
}

/* A neighbour may be a large span on its way to or from ASIDE, without the lock. */
static uint8_t neighbour_kind(const struct span *span)
{
    return __atomic_load_n(&span->kind, __ATOMIC_RELAXED);
}

/* The first slice of the free run that ends before `slice`; 0 if that is not free. */
static uint32_t run_before(const struct heap *heap, uint32_t slice)
{
    const struct span *last = heap_span(heap, slice - 1);

    if (neighbour_kind(last) == SPAN_FREE_END)
        return slice - last->slices;
    return neighbour_kind(last) == SPAN_FREE ? slice - 1 : 0;
}

/* A merged run is as old as its largest part: a program that goes on allocating and freeing next
 * to much free memory must not keep that memory young, and so from the kernel, for ever. */
struct merging {
    uint32_t largest_slices;
    uint64_t epoch;
};

static void merge_age(struct merging *merging, const struct span *part)
{
    if (part->slices <= merging->largest_slices)
        return;
    merging->largest_slices = part->slices;
    merging->epoch = part->freed_epoch;
}

/* Gives [slice, slice + slices) back: merges it with both neighbours. */
static void run_give(struct heap *heap, uint32_t slice, uint32_t slices, uint64_t epoch)
{
    struct merging merging = {slices, epoch};
    uint32_t end = slice + slices;
    uint32_t before;

    if (slices == 0)
        return;
    before = run_before(heap, slice);
    if (before) {
        merge_age(&merging, heap_span(heap, before));
        run_remove(heap, before);
        slice = before;
    }
    if (end < heap->top && neighbour_kind(heap_span(heap, end)) == SPAN_FREE) {
        merge_age(&merging, heap_span(heap, end));
        end += run_remove(heap, end);
    }
    run_insert(heap, slice, end - slice, merging.epoch);
}

static bool run_fits(const struct span *run, uint32_t slice, const struct span_request *request)
{
    uint64_t start = align_up_slices(slice, request->align_slices);

    return start + request->slices <= (uint64_t)slice + run->slices;
}

/* The smallest fitting run among the first ones of the bin, of equals the one lowest in memory. */
static uint32_t bin_best_fit(const struct heap *heap, uint32_t bin,
                             const struct span_request *request)
{
    uint32_t best = 0, best_slices = UINT32_MAX;
    uint32_t slice = heap->bins[bin];

    for (int tries = 0; slice && tries < FIT_TRIES; tries++) {
        const struct span *run = heap_span(heap, slice);
        bool better = run->slices < best_slices || (run->slices == best_slices && slice < best);

        if (better && run_fits(run, slice, request)) {
            best = slice;
            best_slices = run->slices;
        }
        slice = run->next;
    }
    return best;
}

static uint32_t bins_best_fit(const struct heap *heap, const struct span_request *request)
{
    uint32_t bins = heap->bins_used & ~((1u << run_bin(request->slices)) - 1);
    uint32_t found = 0;

    for (; bins && !found; bins &= bins - 1)
        found = bin_best_fit(heap, (uint32_t)__builtin_ctz(bins), request);
    return found;
}

/* Moves top up to end: commits the data and what describes it. */
static bool top_raise(struct heap *heap, uint64_t end)
{
    uint64_t committed = heap->data.committed_end - heap->data.start;
    uint64_t step = committed / 8 & ~(uint64_t)(SLICE_BYTES - 1);

    if (end > heap->slice_count)
        return false;
    if (step < COMMIT_STEP_MIN)
        step = COMMIT_STEP_MIN;
    if (step > COMMIT_STEP_MAX)
        step = COMMIT_STEP_MAX;
    if (!slot_commit(&heap->data, heap_slice_address(heap, (uint32_t)end), step) ||
        !slot_commit(&heap->dirty_bits, heap->dirty_bits.start + (end + 7) / 8, PAGE_BYTES) ||
        (end > heap_place.slice_count && !slot_describe(heap, end)))
        return false;
    heap->top = (uint32_t)end;
    return true;
}

/* Takes the span from the end of the used part, joined with a free run that ends there. */
static uint32_t take_at_top(struct heap *heap, const struct span_request *request)
{
    uint32_t before = heap->top > heap->data_slice ? run_before(heap, heap->top) : 0;
    uint32_t first = before ? before : heap->top;
    uint64_t start =
        ((uint64_t)first + request->align_slices - 1) & ~(request->align_slices - 1ull);
    uint64_t epoch;

    if (!top_raise(heap, start + request->slices))
        return 0;
    epoch = before ? heap_span(heap, before)->freed_epoch : epoch_now(heap);
    if (before)
        run_remove(heap, before);
    run_give(heap, first, (uint32_t)start - first, epoch);
    return (uint32_t)start;
}

static uint32_t take_from_run(struct heap *heap, uint32_t run, const struct span_request *request)
{
    uint32_t start = align_up_slices(run, request->align_slices);
    uint64_t epoch = heap_span(heap, run)->freed_epoch;
    uint32_t run_end = run + run_remove(heap, run);
    uint32_t end = start + request->slices;

    if (start > run)
        run_insert(heap, run, start - run, epoch);
    if (run_end > end)
        run_insert(heap, end, run_end - end, epoch);
    return start;
}

static bool has_inside(uint8_t kind)
{
    return kind == SPAN_SLAB || kind == SPAN_HARD_SLAB;
}

struct span *spans_alloc(struct heap *heap, const struct span_request *request, bool *is_zero)
{
    struct span *span = NULL;
    uint32_t run, start;

    if (lock_held_by(&heap->spans_lock, heap_holder()))
        return NULL; /* a signal handler over an interrupted call of ours */
    heap_lock(heap, &heap->spans_lock);
    run = bins_best_fit(heap, request);
    start = run ? take_from_run(heap, run, request) : take_at_top(heap, request);
    if (start) {
        uint32_t end = start + request->slices;

        *is_zero = dirty_find(heap, start, end, true) == end;
        span = heap_span(heap, start);
        span->slices = request->slices;
        span->kind = request->kind;
        for (uint32_t i = 1; has_inside(request->kind) && i < request->slices; i++) {
            span[i].kind = SPAN_INSIDE;
            span[i].slices = i;
        }
    }
    heap_unlock(heap, &heap->spans_lock);
    return span;
}

void spans_free(struct heap *heap, struct span *span, uint32_t dirty_slices)
{
    uint32_t slice = heap_slice_of(heap, span);
    uint32_t slices = span->slices;

    if (lock_held_by(&heap->spans_lock, heap_holder()))
        return; /* as above; the span is lost */
    heap_lock(heap, &heap->spans_lock);
    for (uint32_t i = 1; has_inside(span->kind) && i < slices; i++)
        run_clear(span + i);
    run_clear(span);
    dirty_set(heap, slice, slice + dirty_slices, true);
    run_give(heap, slice, slices, epoch_now(heap));
    heap_unlock(heap, &heap->spans_lock);
}

bool spans_grow(struct heap *heap, struct span *span, uint32_t slices)
{
    uint32_t start = heap_slice_of(heap, span);
    uint32_t end = start + span->slices, wanted_end = start + slices, free_end = end;
    bool grown = false;

    if (lock_held_by(&heap->spans_lock, heap_holder()))
        return false;
    heap_lock(heap, &heap->spans_lock);
    if (end < heap->top && neighbour_kind(heap_span(heap, end)) == SPAN_FREE)
        free_end = end + heap_span(heap, end)->slices;
    if (free_end < wanted_end && free_end == heap->top && top_raise(heap, wanted_end)) {
        /* The new slices belong to nobody yet: let them be the end of the run. */
        if (free_end > end)
            run_remove(heap, end);
        run_insert(heap, end, wanted_end - end, epoch_now(heap));
        free_end = wanted_end;
    }
    if (free_end >= wanted_end) {
        uint64_t epoch = heap_span(heap, end)->freed_epoch;

        run_remove(heap, end);
        if (free_end > wanted_end)
            run_insert(heap, wanted_end, free_end - wanted_end, epoch);
        span->slices = slices;
        grown = true;
    }
    heap_unlock(heap, &heap->spans_lock);
    return grown;
}

void spans_shrink(struct heap *heap, struct span *span, uint32_t slices)
{
    uint32_t end = heap_slice_of(heap, span) + span->slices;
    uint32_t wanted_end = heap_slice_of(heap, span) + slices;

    if (lock_held_by(&heap->spans_lock, heap_holder()))
        return;
    heap_lock(heap, &heap->spans_lock);
    span->slices = slices;
    dirty_set(heap, wanted_end, end, true);
    run_give(heap, wanted_end, end - wanted_end, epoch_now(heap));
    heap_unlock(heap, &heap->spans_lock);
}

void spans_zero(struct heap *heap, struct span *span, uintptr_t start, uint64_t bytes)
{
    bool reused = span->flags & LARGE_REUSED;
    uint32_t slice = heap_slice_of(heap, span);
    uintptr_t limit = start + bytes;
    uint32_t end = (uint32_t)((limit - (uintptr_t)heap + SLICE_BYTES - 1) >> SLICE_SHIFT);

    for (;;) {
        uint32_t from = reused ? slice : dirty_find(heap, slice, end, true);
        uint32_t to = reused ? end : dirty_find(heap, from, end, false);
        uintptr_t first = heap_slice_address(heap, from), last = heap_slice_address(heap, to);

        if (from == end)
            break;
        if (last - first < ZERO_BY_DROP_BYTES || !slot_drop(heap, first, last - first)) {
            first = first < start ? start : first;
            memset((void *)first, 0, (last > limit ? limit : last) - first);
        }
        slice = to;
    }
}

/* Moves up to PURGE_BATCH dirty runs that are old enough out of the bins. */
static uint32_t purge_collect(struct heap *heap, uint32_t min_epochs)
{
    uint32_t count = 0;

    for (uint32_t bins = heap->bins_used; bins; bins &= bins - 1) {
        uint32_t slice = heap->bins[__builtin_ctz(bins)], next;

        for (; slice && count < PURGE_BATCH; slice = next) {
            struct span *run = heap_span(heap, slice);
            uint32_t slices = run->slices;

            next = run->next;
            if (epoch_now(heap) - run->freed_epoch < min_epochs ||
                dirty_find(heap, slice, slice + slices, true) == slice + slices)
                continue;
            run_remove(heap, slice);
            run->kind = SPAN_ASIDE;
            run->slices = slices;
            run->next = heap->purge_list;
            heap->purge_list = slice;
            count++;
        }
    }
    return count;
}

/* Only this thread looks at these slices and at the list now: no lock. */
static uint64_t purge_drop(struct heap *heap)
{
    uint64_t dropped_bytes = 0;

    for (uint32_t run = heap->purge_list; run; run = heap_span(heap, run)->next) {
        uint32_t end = run + heap_span(heap, run)->slices;
        uint32_t from = dirty_find(heap, run, end, true);

        while (from < end) {
            uint32_t to = dirty_find(heap, from, end, false);
            uint64_t bytes = (uint64_t)(to - from) << SLICE_SHIFT;

            if (slot_drop(heap, heap_slice_address(heap, from), bytes))
                dropped_bytes += bytes;
            else
                heap_span(heap, run)->kept_dirty++;
            from = dirty_find(heap, to, end, true);
        }
    }
    return dropped_bytes;
}

static void purge_give_back(struct heap *heap, bool dropped)
{
    uint32_t slice = heap->purge_list;

    while (slice) {
        struct span *run = heap_span(heap, slice);
        uint32_t slices = run->slices, next = run->next;

        if (dropped && run->kept_dirty == 0)
            dirty_set(heap, slice, slice + slices, false);
        run_clear(run);
        run_give(heap, slice, slices, epoch_now(heap));
        slice = next;
    }
    heap->purge_list = 0;
}

uint64_t spans_purge(struct heap *heap, uint32_t min_epochs)
{
    uint64_t dropped_bytes = 0, batch_bytes = 1;
    uint64_t idle = 0;

    if (!__atomic_compare_exchange_n(&heap->purge_holder, &idle, (uint64_t)heap_holder(), false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return 0;
    kept_flush(heap, min_epochs);
    while (batch_bytes > 0 && !lock_held_by(&heap->spans_lock, heap_holder())) {
        uint32_t count;

        heap_lock(heap, &heap->spans_lock);
        count = purge_collect(heap, min_epochs);
        heap_unlock(heap, &heap->spans_lock);
        batch_bytes = count ? purge_drop(heap) : 0;
        heap_lock(heap, &heap->spans_lock);
        purge_give_back(heap, true);
        heap_unlock(heap, &heap->spans_lock);
        dropped_bytes += batch_bytes;
    }
    __atomic_store_n(&heap->purge_holder, 0, __ATOMIC_RELEASE);
    return dropped_bytes;
}

void spans_fork_child(struct heap *heap)
{
    if (heap->purge_holder == (uint64_t)heap_holder())
        return; /* interrupted by the handler that forked; it goes on in the child */
    purge_give_back(heap, false);
    heap->purge_holder = 0;
}
