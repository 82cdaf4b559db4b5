/*
 * fast_path.h - the two paths that nearly every malloc and free takes, to be inlined where they
 * are entered. No lock, no atomic, no call.
 *
 * malloc leaves it when the size has no entry in the table or the current slab's free list is
 * empty; "no heap yet", "no thread heap yet", "remote frees wait" and "epoch over" are all behind
 * that one branch. free leaves it when the block's slice is not owned by this thread as a slab that
 * is not full.
 */
#ifndef PHEAP_HEAP_FAST_PATH_H
#define PHEAP_HEAP_FAST_PATH_H

#include "core/heap/slab.h"
#include "core/heap/slot.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* NULL: take heap_malloc(). */
static inline void *fast_malloc(size_t bytes)
{
    struct span *slab;
    uint64_t *block, next;

    if (UNLIKELY(bytes > SMALL_MAX_BYTES))
        return NULL;
    slab = heap_thread->by_words[(bytes + 15) / 16];
    block = (uint64_t *)slab->free_head;
    if (UNLIKELY((uint64_t)block & LIST_END_BIT))
        return NULL;
    next = block[0] ^ slab->key;
    if (UNLIKELY((next ^ (uint64_t)block) >> SLICE_SHIFT)) /* small slabs are one slice */
        return NULL;
    slab->free_head = next;
    slab->used++;
    block[1] = 0;
    return block;
}

/* The descriptor of the span that `block` lies in; NULL if it is not in the slot. */
struct span *heap_block_span(const void *block);
void heap_free_slow(void *block);
void heap_slab_emptied(struct span *slab);

/* Every case, the slow ones by tail calls. */
static inline void fast_free(void *pointer)
{
    uint64_t slice = ((uintptr_t)pointer - heap_place.base) >> SLICE_SHIFT;
    struct span *slab = heap_span(heap_here(), 0) + slice;
    uint64_t *block = pointer;
    uint64_t key;

    if (UNLIKELY(slice >= heap_place.slice_count || slab->owner != (uint64_t)heap_thread)) {
        heap_free_slow(pointer);
        return;
    }
    key = slab->key;
    if (UNLIKELY(!slab_offset_is_block(slab, (uint16_t)(uintptr_t)pointer) || block[1] == key)) {
        heap_free_slow(pointer);
        return;
    }
    block[1] = key;
    block[0] = slab->free_head ^ key;
    SLAB_ORDER();
    slab->free_head = (uint64_t)block;
    SLAB_ORDER();
    if (UNLIKELY(--slab->used == 0))
        heap_slab_emptied(slab);
}

#endif
