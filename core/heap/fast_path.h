/*
 * fast_path.h - the two paths that nearly every malloc and free takes, to be inlined where they
 * are entered. No lock, no atomic, no call.
 *
 * malloc leaves it when the size has no entry in the table or the current slab's free list is
 * empty; "no heap yet", "no thread heap yet", "remote frees wait" and "epoch over" are all behind
 * that one branch. free leaves it when one product says that the pointer is no block of a slab of
 * this thread that is neither full nor about to be empty, see heap_format.h.
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
    uint64_t *block, offset;

    if (UNLIKELY(bytes > SMALL_MAX_BYTES))
        return NULL;
    slab = heap_thread->by_words[(bytes + 15) / 16];
    block = (uint64_t *)slab->free_head;
    /* Small slabs are one slice, so the link's offset is below 64 KiB. What is read at the end of
     * the list, at slab start + 1, is not: 2^48 to one, and a secret key. */
    offset = block[0] ^ slab->start_key;
    if (UNLIKELY(offset >= SLICE_BYTES))
        return NULL;
    offset |= slab->start;
    __builtin_prefetch((const void *)offset); /* the next call reads its link */
    slab->free_head = offset;
    block[1] = 0;
    return block;
}

/* The descriptor of the span that `block` lies in; NULL if it is not in the slot. */
struct span *heap_block_span(const void *block);
void heap_free_slow(void *block);

/* Every case, the slow ones by tail calls. */
static inline void fast_free(void *block)
{
    uint64_t place = (uintptr_t)block >> (SLICE_SHIFT - SPAN_SHIFT) & heap_span_mask;
    struct span *slab = (struct span *)(heap_spans + place);
    uint64_t offset = (uintptr_t)block - slab->owned_start + heap_tag;

    if (UNLIKELY(offset * slab->divisor >= slab->room || slab_looks_free(slab, block))) {
        heap_free_slow(block);
        return;
    }
    slab_push(slab, block);
    slab->room -= ROOM_ONE;
}

#endif
