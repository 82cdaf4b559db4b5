/*
 * large.c - see large.h.
 *
 * Invariant: 0 < large_bytes <= slices * 64 KiB, a multiple of a page; the block starts where its
 * span starts.
 */
#include "core/heap/large.h"

#include "core/base/sys.h"
#include "core/heap/epoch.h"
#include "core/heap/kept.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"

static uint64_t large_slices(size_t bytes)
{
    return bytes == 0 ? 1 : ((uint64_t)bytes + SLICE_BYTES - 1) >> SLICE_SHIFT;
}

static uint64_t large_round(size_t bytes)
{
    return bytes == 0 ? PAGE_BYTES
                      : ((uint64_t)bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
}

static struct span *large_span(struct heap *heap, const struct span_request *request, bool *is_zero)
{
    struct span *kept = request->align_slices == 1 ? kept_take(heap, request->slices) : NULL;

    *is_zero = false;
    return kept ? kept : spans_alloc(heap, request, is_zero);
}

static void *large_make(struct heap *heap, size_t bytes, uint64_t slices, size_t align,
                        bool *is_zero)
{
    struct span_request request = {.align_slices = 1, .kind = SPAN_LARGE};
    struct span *span;

    if (bytes > heap->reserve_bytes || slices > heap->slice_count ||
        align > (uint64_t)RUN_ALIGN_MAX_BYTES)
        return NULL;
    request.slices = (uint32_t)slices;
    if (align > SLICE_BYTES)
        request.align_slices = (uint32_t)(align >> SLICE_SHIFT);
    (void)thread_heap_attach(heap); /* what it frees it may keep */
    epoch_tick(heap);
    span = large_span(heap, &request, is_zero);
    if (span == NULL)
        return NULL;
    __atomic_store_n(&span->large_bytes, large_round(bytes), __ATOMIC_RELAXED);
    return (void *)heap_span_address(heap, span);
}

void *large_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero)
{
    bool unasked;

    return large_make(heap, bytes, large_slices(bytes), align, is_zero ? is_zero : &unasked);
}

void *large_alloc_to_grow(struct heap *heap, size_t bytes)
{
    uint64_t slices = large_slices(bytes);
    bool unasked;
    void *block = large_make(heap, bytes, slices + slices / 8, 1, &unasked);

    return block ? block : large_make(heap, bytes, slices, 1, &unasked);
}

void large_free(struct heap *heap, struct span *span)
{
    epoch_tick(heap);
    if (!kept_put(heap, span))
        spans_free(heap, span, span->slices);
}

bool large_resize(struct heap *heap, struct span *span, size_t bytes)
{
    uint64_t slices = large_slices(bytes);

    if (slices > heap->slice_count || bytes > heap->reserve_bytes)
        return false;
    if (slices > span->slices && !spans_grow(heap, span, (uint32_t)slices))
        return false;
    /* Room that was left to grow into is kept until a quarter of the span is unused. */
    if (slices < span->slices - span->slices / 4)
        spans_shrink(heap, span, (uint32_t)slices);
    span->large_bytes = large_round(bytes);
    return true;
}
