/*
 * hardened_large.c - see hardened_large.h.
 *
 * Invariant: a block starts in its span's first slice, at a page; large_bytes is what was asked
 * for, to the byte.
 */
#include "core/heap/hardened_large.h"

#include "core/base/sys.h"
#include "core/heap/epoch.h"
#include "core/heap/hardened_slab.h"
#include "core/heap/memcheck.h"
#include "core/heap/misuse.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"

static uint64_t round_to_pages(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
}

/* The guard before: a page, or as much as keeps the block aligned. With an alignment of a slice and
 * more there is none: the block must start in the first slice. */
static uint64_t front_bytes(size_t align)
{
    if (align <= PAGE_BYTES)
        return PAGE_BYTES;
    return align < SLICE_BYTES ? align : 0;
}

static uintptr_t first_guard(const struct heap *heap, const struct span *span)
{
    return span->block_offset ? heap_large_block(heap, span) - PAGE_BYTES : 0;
}

static uintptr_t block_end(const struct heap *heap, const struct span *span)
{
    return heap_large_block(heap, span) + round_to_pages(span->large_bytes);
}

void *hard_large_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero)
{
    struct span_request request = {.align_slices = 1, .kind = SPAN_HARD_LARGE};
    uint64_t front = front_bytes(align), slices;
    bool unasked, *zero = is_zero ? is_zero : &unasked;
    struct span *span;
    uintptr_t block;

    if (bytes > heap->reserve_bytes || align > (uint64_t)RUN_ALIGN_MAX_BYTES)
        return NULL;
    slices = (front + round_to_pages(bytes) + PAGE_BYTES + SLICE_BYTES - 1) >> SLICE_SHIFT;
    if (slices > heap->slice_count)
        return NULL;
    request.slices = (uint32_t)slices;
    if (align > SLICE_BYTES)
        request.align_slices = (uint32_t)(align >> SLICE_SHIFT);
    epoch_tick(heap);
    span = spans_alloc(heap, &request, zero);
    if (span == NULL)
        return NULL;
    span->large_bytes = bytes;
    span->block_offset = (uint32_t)front;
    span->key = heap->secret ^ (uintptr_t)span;
    block = heap_large_block(heap, span);
    hard_guard(heap, span, first_guard(heap, span), block_end(heap, span));
    if (heap->mode == HEAP_HARDENED)
        hard_canary_write(span, block + bytes, block_end(heap, span));
    memcheck_forbid(heap, heap_span_address(heap, span), slab_bytes(span));
    return (void *)block;
}

void hard_large_quarantine(struct heap *heap, struct span *span)
{
    uintptr_t block = heap_large_block(heap, span), end = block_end(heap, span);
    const void *damage = NULL;

    if (heap->mode == HEAP_HARDENED)
        damage = hard_canary_find_damage(span, block + span->large_bytes, end);
    if (damage)
        misuse_overflow(heap, span, (const void *)block, damage);
    span->flags |= HARD_FREED;
    if (slot_drop(heap, block, end - block) && (span->flags & HARD_GUARDED))
        (void)sys_mprotect((void *)block, end - block, PROT_NONE);
}

bool hard_large_release(struct heap *heap, struct span *span)
{
    uintptr_t block = heap_large_block(heap, span), end = block_end(heap, span);

    if (sys_mprotect((void *)block, end - block, PROT_READ | PROT_WRITE) < 0 ||
        !hard_unguard(heap, span, first_guard(heap, span), end))
        return false;
    memcheck_allow(heap, heap_span_address(heap, span), slab_bytes(span));
    span->flags = 0;
    spans_free(heap, span, span->slices);
    return true;
}
