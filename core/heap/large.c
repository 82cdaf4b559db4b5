/*
 * large.c - see large.h.
 *
 * Invariant: 0 < large_bytes, a multiple of a page; block_offset + large_bytes <= slices * 64 KiB;
 * block_offset is 0 or the colour of the span's place. Who looks while a block is made or
 * resized, or at a process that was stopped there, finds it in its span too: large_bytes is never
 * more than fits, before, between and after the steps.
 */
#include "core/heap/large.h"

#include "core/base/sys.h"
#include "core/heap/epoch.h"
#include "core/heap/kept.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"

#define COLOUR_SHIFT  3  /* half a MiB of places has one colour */
#define COLOUR_SLICES 4u /* from here on a slice more, of addresses alone, is at most a quarter */

_Static_assert(COLOURS *COLOUR_STEP == PAGE_BYTES, "all lines of a page");

/* A place has its colour for ever, and shares it with its neighbours, so that a block that takes
 * the place of others begins in lines that the cache still has. */
static uint32_t colour_of(const struct heap *heap, const struct span *span)
{
    return spans_scatter(heap_slice_of(heap, span) >> COLOUR_SHIFT, COLOURS) * COLOUR_STEP;
}

static bool may_be_coloured(size_t align)
{
    return align <= COLOUR_STEP;
}

static uint64_t large_round(size_t bytes)
{
    return bytes == 0 ? PAGE_BYTES
                      : ((uint64_t)bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
}

static uint64_t slices_of(uint64_t bytes)
{
    return (bytes + SLICE_BYTES - 1) >> SLICE_SHIFT;
}

/* With a slice more for who asks for just so many, as those do who ask for a power of two: all of
 * such blocks would begin in the same lines. Of other sizes one in sixteen has no room for a
 * colour; these are spread as they are, and longer runs are harder to find. */
static uint64_t coloured_slices(size_t bytes, size_t align)
{
    uint64_t slices = slices_of(large_round(bytes));
    bool is_full = (slices << SLICE_SHIFT) - bytes < COLOUR_STEP;

    return slices >= COLOUR_SLICES && is_full && may_be_coloured(align) ? slices + 1 : slices;
}

static void set_bytes(struct span *span, uint64_t bytes)
{
    SLAB_ORDER();
    __atomic_store_n(&span->large_bytes, bytes, __ATOMIC_RELAXED);
    SLAB_ORDER();
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
    uint32_t colour;

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
    colour = may_be_coloured(align) ? colour_of(heap, span) : 0;
    set_bytes(span, 0);
    span->block_offset = colour + large_round(bytes) <= slab_bytes(span) ? colour : 0;
    set_bytes(span, large_round(bytes));
    return (void *)heap_large_block(heap, span);
}

void *large_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero)
{
    uint64_t slices = slices_of(large_round(bytes)), more = coloured_slices(bytes, align);
    bool unasked, *zero = is_zero ? is_zero : &unasked;
    void *block = large_make(heap, bytes, more, align, zero);

    return block || more == slices ? block : large_make(heap, bytes, slices, align, zero);
}

void *large_alloc_to_grow(struct heap *heap, size_t bytes)
{
    uint64_t slices = slices_of(large_round(bytes));
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
    uint64_t slices = slices_of(span->block_offset + large_round(bytes));

    if (slices > heap->slice_count || bytes > heap->reserve_bytes)
        return false;
    if (slices > span->slices && !spans_grow(heap, span, (uint32_t)slices))
        return false;
    set_bytes(span, large_round(bytes));
    /* Room that was left to grow into is kept until a quarter of the span is unused. */
    if (slices < span->slices - span->slices / 4)
        spans_shrink(heap, span, (uint32_t)slices);
    return true;
}
