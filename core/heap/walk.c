/*
 * walk.c - the census: one pass over the span descriptors, first to last. Works on this process's
 * heap and on an image that a tool has mapped at its own address, and takes nothing it reads on
 * trust.
 *
 * Always true: nothing outside [slot base, the header's reserve) is read, and what is read was
 * checked to lie in the part of its area that the header says is committed, that mark itself having
 * been checked against the reserve.
 */
#include <errno.h>
#include <string.h>
#include "core/heap/hardened_slab.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"

struct walk {
    const struct heap *heap;
    uint64_t base;
    struct heap_census *out;
    struct problem *why;
};

static int area_check(const struct walk *walk, const struct area *area, const char *name)
{
    uint64_t end = walk->base + walk->heap->reserve_bytes;
    bool ordered = area->start >= walk->base && area->start % 4096 == 0 &&
                   area->start <= area->committed_end && area->committed_end <= area->limit &&
                   area->limit <= end;

    if (ordered)
        return 0;
    return problem_set(
        walk->why, STATUS_DAMAGED,
        "heap header at 0x%lx: the area of the %s is 0x%lx .. 0x%lx .. 0x%lx, expected to "
        "lie within the slot: take an older generation",
        walk->base, name, area->start, area->committed_end, area->limit);
}

static int header_check(const struct walk *walk)
{
    const struct heap *heap = walk->heap;
    uint64_t described, top_end;
    int status;

    if (heap->magic != HEAP_MAGIC || heap->reserve_bytes > SLOT_BYTES ||
        walk->base != SLOT_BASE(heap->slot))
        return problem_set(walk->why, STATUS_DAMAGED,
                           "no heap header at 0x%lx (magic 0x%lx): take an older generation",
                           walk->base, heap->magic);
    if (heap->version != HEAP_VERSION)
        return problem_set(walk->why, STATUS_NEWER_FORMAT,
                           "the heap at 0x%lx has version %u, this pheap knows %u: use %s",
                           walk->base, heap->version, HEAP_VERSION,
                           heap->version > HEAP_VERSION ? "a later pheap"
                                                        : "the pheap that made it");
    if ((status = area_check(walk, &heap->spans, "spans")) < 0 ||
        (status = area_check(walk, &heap->dirty_bits, "dirty bits")) < 0 ||
        (status = area_check(walk, &heap->thread_heaps, "thread heaps")) < 0 ||
        (status = area_check(walk, &heap->data, "data")) < 0 ||
        (status = area_check(walk, &heap->free_bits, "free bits")) < 0)
        return status;
    described = (heap->spans.committed_end - heap->spans.start) / sizeof(struct span);
    top_end = (uint64_t)heap->top << SLICE_SHIFT;
    if (heap->top == heap->data_slice)
        described = heap->top; /* no span yet: nothing need be described */
    if (heap->spans.start != walk->base + SPANS_OFFSET ||
        heap->dirty_bits.start != heap->spans.limit ||
        heap->thread_heaps.start != heap->dirty_bits.limit ||
        heap->free_bits.start != heap->data.limit || heap->top < heap->data_slice ||
        heap->top > described || walk->base + top_end > heap->data.committed_end ||
        walk->base + ((uint64_t)heap->data_slice << SLICE_SHIFT) != heap->data.start)
        return problem_set(
            walk->why, STATUS_DAMAGED,
            "heap header at 0x%lx: %u slices used of %lu described, expected data from "
            "slice %u on: take an older generation",
            walk->base, heap->top, described, heap->data_slice);
    return 0;
}

static int span_damaged(const struct walk *walk, uint32_t slice, const struct span *span)
{
    return problem_set(
        walk->why, STATUS_DAMAGED,
        "span at 0x%lx: kind %u, %u slices, class %u, carved %u make no sense: take an older "
        "generation",
        walk->base + ((uint64_t)slice << SLICE_SHIFT), span->kind, span->slices, span->size_class,
        span->carved_bytes);
}

/* The length of the free list, as far as it makes sense. */
static uint64_t free_blocks(const struct walk *walk, uint32_t slice, const struct span *slab)
{
    uint64_t start = walk->base + ((uint64_t)slice << SLICE_SHIFT);
    uint64_t most = slab->carved_bytes / size_class_block_bytes(slab->size_class);
    uint64_t block = slab->free_head, count = 0;

    while (block - start < slab->carved_bytes && block % 16 == 0 && count < most) {
        block = *(const uint64_t *)block ^ slab->key;
        count++;
    }
    return count;
}

static uint64_t blocks_in_use(const struct walk *walk, uint32_t slice, const struct span *slab)
{
    uint64_t remote = slab_remote_count(slab), used = slab_used(slab);

    if (slab->flags & SLAB_CURRENT)
        used = slab->carved_bytes / size_class_block_bytes(slab->size_class) -
               free_blocks(walk, slice, slab);

    return remote < used ? used - remote : 0;
}

static int count_slab(const struct walk *walk, uint32_t slice, const struct span *slab)
{
    struct heap_class_totals *totals;
    uint64_t block_bytes, bytes = (uint64_t)slab->slices << SLICE_SHIFT, used;

    if (slab->size_class >= SIZE_CLASSES || slab->slices > SLAB_SLICES_MAX)
        return span_damaged(walk, slice, slab);
    block_bytes = size_class_block_bytes(slab->size_class);
    if (slab->carved_bytes > bytes || slab->room < -1 || slab->room > ROOM_CURRENT)
        return span_damaged(walk, slice, slab);
    used = blocks_in_use(walk, slice, slab);
    totals = &walk->out->classes[slab->size_class];
    totals->slabs++;
    totals->slab_bytes += bytes;
    totals->blocks_used += used;
    totals->blocks_total += bytes / block_bytes;
    walk->out->totals.live_blocks += used;
    walk->out->totals.live_bytes += used * block_bytes;
    walk->out->totals.span_bytes += bytes;
    return 0;
}

/* Of a hardened slab: its table, at its start, says it. */
static int count_hard_slab(const struct walk *walk, uint32_t slice, const struct span *slab)
{
    const struct hard_table *table =
        (const struct hard_table *)(walk->base + ((uint64_t)slice << SLICE_SHIFT));
    uint64_t bytes = (uint64_t)slab->slices << SLICE_SHIFT, block_bytes, used;
    struct heap_class_totals *totals;

    if (slab->size_class >= SIZE_CLASSES || slab->slices > SLAB_SLICES_MAX)
        return span_damaged(walk, slice, slab);
    block_bytes = size_class_block_bytes(slab->size_class);
    used = table->used;
    if (table->places > bytes / block_bytes || used > table->places)
        return span_damaged(walk, slice, slab);
    totals = &walk->out->classes[slab->size_class];
    totals->slabs++;
    totals->slab_bytes += bytes;
    totals->blocks_used += used;
    totals->blocks_total += table->places;
    walk->out->totals.live_blocks += used;
    walk->out->totals.live_bytes += used * block_bytes;
    walk->out->totals.span_bytes += bytes;
    return 0;
}

static int count_large(const struct walk *walk, uint32_t slice, const struct span *span)
{
    struct heap_class_totals *totals = &walk->out->classes[SIZE_CLASSES];
    uint64_t bytes = (uint64_t)span->slices << SLICE_SHIFT;

    /* The two are changed one after the other. */
    if (span->block_offset >= bytes || span->large_bytes > bytes)
        return span_damaged(walk, slice, span);
    walk->out->totals.span_bytes += bytes;
    if (span->flags & HARD_FREED)
        return 0;
    totals->slabs++;
    totals->slab_bytes += bytes;
    totals->blocks_used++;
    totals->blocks_total++;
    walk->out->large_blocks++;
    walk->out->large_bytes += span->large_bytes;
    walk->out->totals.live_blocks++;
    walk->out->totals.live_bytes += span->large_bytes;
    return 0;
}

_Static_assert(HEAP_RUN_ORDERS == RUN_BINS, "a bin holds the free runs of one order");

void heap_count_run(struct heap_free_runs *counts, uint64_t address, uint32_t slices)
{
    uint64_t bytes = (uint64_t)slices << SLICE_SHIFT;
    struct heap_run_totals *order = &counts->orders[31 - (uint32_t)__builtin_clz(slices)];

    order->runs++;
    order->bytes += bytes;
    counts->all.runs++;
    counts->all.bytes += bytes;
    if (bytes > counts->largest_bytes) {
        counts->largest_bytes = bytes;
        counts->largest_address = address;
    }
}

static int count_free(const struct walk *walk, uint32_t slice, const struct span *span)
{
    struct heap_free_runs *counts = &walk->out->free_runs;
    uint64_t bytes = (uint64_t)span->slices << SLICE_SHIFT;

    walk->out->totals.free_bytes += bytes;
    if (span->kind == SPAN_FREE) {
        heap_count_run(counts, walk->base + ((uint64_t)slice << SLICE_SHIFT), span->slices);
    } else {
        counts->aside.runs++;
        counts->aside.bytes += bytes;
    }
    return 0;
}

static int count_span(const struct walk *walk, uint32_t slice, const struct span *span)
{
    switch (span->kind) {
    case SPAN_SLAB:
        return count_slab(walk, slice, span);
    case SPAN_HARD_SLAB:
        return count_hard_slab(walk, slice, span);
    case SPAN_LARGE:
    case SPAN_HARD_LARGE:
        return count_large(walk, slice, span);
    case SPAN_FREE:
    case SPAN_ASIDE:
        return count_free(walk, slice, span);
    default:
        return span_damaged(walk, slice, span);
    }
}

static int count_spans(const struct walk *walk)
{
    uint32_t slice = walk->heap->data_slice, top = walk->heap->top;

    while (slice < top) {
        /* A copy: in a live heap it may change under our eyes. */
        const struct span span = *heap_span(walk->heap, slice);
        int status;

        if (span.slices == 0 || span.slices > top - slice)
            return span_damaged(walk, slice, &span);
        status = count_span(walk, slice, &span);
        if (status < 0)
            return status;
        slice += span.slices;
    }
    return 0;
}

/* A block that has been freed and that its slab's owner, which counts it, does not know of yet. */
static void uncount_block(const struct walk *walk, uint64_t block)
{
    uint64_t slice = (block - walk->base) >> SLICE_SHIFT;
    const struct span *slab;
    struct heap_class_totals *totals;

    if (slice < walk->heap->data_slice || slice >= walk->heap->top)
        return;
    slab = heap_span(walk->heap, (uint32_t)slice);
    if (slab->kind != SPAN_SLAB || slab->size_class >= SIZE_CLASSES)
        return;
    totals = &walk->out->classes[slab->size_class];
    if (totals->blocks_used == 0)
        return;
    totals->blocks_used--;
    walk->out->totals.live_blocks--;
    walk->out->totals.live_bytes -= size_class_block_bytes(slab->size_class);
}

static void uncount_on_their_way(const struct walk *walk, const struct thread_heap *some)
{
    uint64_t waiting = inbox_waiting(some);

    for (int i = 0; i < REMOTE_BATCHES; i++)
        for (uint64_t j = 0; j < some->batches[i].count && j < REMOTE_BATCH_BLOCKS; j++)
            uncount_block(walk, some->batches[i].blocks[j]);
    for (uint64_t i = 0; i < waiting && i < INBOX_BLOCKS; i++)
        uncount_block(walk, some->inbox[(some->inbox_taken + i) % INBOX_BLOCKS]);
}

static void count_thread_heaps(const struct walk *walk)
{
    const struct heap *heap = walk->heap;
    uint64_t committed = heap->thread_heaps.committed_end - heap->thread_heaps.start;

    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        const struct thread_heap *some = heap_thread_heap(heap, i);

        if ((i + 1ull) * THREAD_HEAP_STRIDE > committed)
            break;
        if (some->state == THREAD_HEAP_LIVE)
            walk->out->thread_heaps++;
        uncount_on_their_way(walk, some);
    }
}

int heap_census(uint32_t slot, struct heap_census *out, struct problem *why)
{
    struct walk walk = {.base = SLOT_BASE(slot), .out = out, .why = why};
    int status;

    walk.heap = (const struct heap *)walk.base;
    memset(out, 0, sizeof *out);
    status = header_check(&walk);
    if (status < 0)
        return status;
    out->class_count = SIZE_CLASSES + 1;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        out->classes[i].block_bytes = size_class_block_bytes(i);
    out->totals.committed_bytes = walk.heap->data.committed_end - walk.heap->data.start;
    out->free_runs.untouched_bytes =
        walk.heap->data.limit - walk.base - ((uint64_t)walk.heap->top << SLICE_SHIFT);
    status = count_spans(&walk);
    count_thread_heaps(&walk);
    return status;
}

int heap_census_live(struct heap_census *out)
{
    struct heap *heap = heap_here();
    int status;

    if (heap == NULL || lock_held_by(&heap->spans_lock, heap_holder()))
        return -EBUSY;
    heap_lock(heap, &heap->spans_lock);
    status = heap_census(heap->slot, out, NULL);
    heap_unlock(heap, &heap->spans_lock);
    return status;
}
