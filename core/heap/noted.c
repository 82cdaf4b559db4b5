/*
 * noted.c - see noted.h.
 */
#include "core/heap/noted.h"

#define CLEARING_AFTER 16
#define COMMIT_STEP    (64ull << 10)

void noted_count_full(struct heap *heap, struct thread_heap *mine)
{
    uint64_t end = (uintptr_t)heap_free_bits(heap, heap->top);
    bool committed;

    if (++mine->full_frees != CLEARING_AFTER || lock_held_by(&heap->spans_lock, heap_holder()))
        return;
    heap_lock(heap, &heap->spans_lock);
    committed = slot_commit(&heap->free_bits, end, COMMIT_STEP);
    heap_unlock(heap, &heap->spans_lock);
    if (committed)
        heap_tag |= TAG_CLEARING;
}

bool noted_begin(const struct heap *heap, struct span *slab)
{
    if (slab->flags & SLAB_NOTED)
        return true;
    if (slab->slices != 1 || slab->flags & SLAB_CURRENT ||
        !heap_has_free_bits(heap, heap_slice_of(heap, slab)))
        return false;
    slab->used = slab_used(slab);
    slab->room = 0;
    SLAB_ORDER(); /* a signal handler's free finds the one or the other */
    slab->flags |= SLAB_NOTED;
    return true;
}

void noted_add(const struct heap *heap, struct span *slab, const void *block)
{
    uint32_t offset = (uint32_t)((uint64_t)block - slab->start);

    (void)noted_set_bit(heap, slab, offset / size_class_block_bytes(slab->size_class));
}

bool noted_free_first(const struct heap *heap, struct span *slab, void *block)
{
    if ((uint64_t)noted_product(slab, block) >= slab->room)
        return false;
    return noted_begin(heap, slab) ? noted_free(heap, slab, block) : slab_free_to_list(slab, block);
}
