/*
 * noted.c - see noted.h.
 */
#include "core/heap/noted.h"

#define CLEARING_AFTER 64 /* with slabs of 64 KiB: more than the caches near the processor hold */
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

static void set_bit(const struct heap *heap, const struct span *slab, uint64_t block)
{
    uint32_t offset = (uint32_t)(block - slab->start);

    (void)noted_set_bit(heap, slab, offset / size_class_block_bytes(slab->size_class));
}

/* A damaged link stays for malloc to find. */
static void list_to_bits(const struct heap *heap, struct span *slab)
{
    while (slab_has_free(slab)) {
        uint64_t block = slab->free_head, next = *(const uint64_t *)block ^ slab->key;

        if (next - slab->start >= slab_bytes(slab))
            break;
        slab->free_head = next;
        SLAB_ORDER(); /* fork: in the list or noted or lost, never both */
        set_bit(heap, slab, block);
    }
}

bool noted_begin(const struct heap *heap, struct span *slab)
{
    if (slab->flags & SLAB_NOTED)
        return true;
    if (slab->slices != 1 || slab->flags & SLAB_CURRENT ||
        !heap_has_free_bits(heap, heap_slice_of(heap, slab)))
        return false;
    slab->owned_start = slab_owned_start(slab, TAG_NOBODY);
    SLAB_ORDER(); /* a signal handler's free finds the one or the other */
    slab_set_flags(slab, slab->flags | SLAB_NOTED);
    list_to_bits(heap, slab);
    return true;
}

void noted_add(const struct heap *heap, struct span *slab, const void *block)
{
    set_bit(heap, slab, (uint64_t)block);
    SLAB_ORDER(); /* what is not counted as used has its bit */
    slab->room--;
}

bool noted_free_first(const struct heap *heap, struct span *slab, void *block)
{
    if (slab->first_offset != 0 || !noted_may_free(slab, noted_product(slab, block)))
        return false;
    if (noted_begin(heap, slab))
        return noted_free(heap, slab, block);
    if (slab_looks_free(slab, block))
        return false;
    slab_push(slab, block);
    slab->room--;
    return true;
}
