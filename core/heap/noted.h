/*
 * noted.h - blocks that are known to be free by a bit instead of by a link.
 *
 * A thread clears out when it frees blocks of many full slabs and allocates nothing: a program
 * drops a large structure. Its blocks are in no cache by then. To link them would fetch each from
 * memory, and a list in the order of the frees would make malloc fetch each a second time, at
 * random. So a free bit is set instead, in a slab that is NOTED from then on, and the block is not
 * touched. The bits become a list, lowest address first, when the slab becomes CURRENT.
 *
 * Such a block has no mark. A NOTED slab has no list, and to free() it is nobody's, so that every
 * free of a block of it looks at the bit; the mark is looked at only if other threads have freed
 * blocks of it
 * (`shared`).
 *
 * Clearing out begins with the CLEARING_AFTER-th free into a full slab and ends when a list that
 * malloc looks at is empty. Slabs of one slice only: large blocks are few.
 */
#ifndef PHEAP_HEAP_NOTED_H
#define PHEAP_HEAP_NOTED_H

#include "core/heap/slab.h"
#include "core/heap/slot.h"

static inline bool noted_is_clearing(void)
{
    return heap_tag & TAG_CLEARING;
}

/* Under the heap's lock: the calling thread frees into a full slab. */
void noted_count_full(struct heap *heap, struct thread_heap *mine);

/* The calling thread wants a block. */
static inline void noted_end_clearing(struct thread_heap *mine)
{
    mine->full_frees = 0;
    heap_tag &= ~TAG_CLEARING;
}

/* Makes a slab that is not CURRENT NOTED, and its list bits. False: it is to stay as it is. */
bool noted_begin(const struct heap *heap, struct span *slab);

/* A block in use of a NOTED slab is free from now on. */
void noted_add(const struct heap *heap, struct span *slab, const void *block);

/* False: it is set already. */
static inline bool noted_set_bit(const struct heap *heap, const struct span *slab, uint64_t index)
{
    uint64_t *word = &heap_free_bits(heap, heap_slice_of(heap, slab))[index / 64];
    uint64_t bit = 1ull << index % 64;

    if (*word & bit)
        return false;
    *word |= bit;
    return true;
}

__extension__ typedef unsigned __int128 wide;

/* Of a slab without a colour: the upper half is the number of a block, the lower half says whether
 * it is one: not above -PRODUCT_LEAST. */
static inline wide noted_product(const struct span *slab, const void *block)
{
    return (wide)((uintptr_t)block - slab->start) * -slab->reciprocal;
}

/* Whether it is a block of a slab of the calling thread's that is not full, and not its last one in
 * use. */
static inline bool noted_may_free(const struct span *slab, wide product)
{
    return (uint64_t)product <= -PRODUCT_LEAST && slab->room > 0 &&
           __atomic_load_n(&slab->owner, __ATOMIC_RELAXED) == (uint64_t)heap_thread;
}

/* The owner's free of a block of a slab that is NOTED. Any pointer into any span. False: nothing
 * done, look closer. */
static inline bool noted_free(const struct heap *heap, struct span *slab, const void *block)
{
    wide product = noted_product(slab, block);

    if (!noted_may_free(slab, product) ||
        (__atomic_load_n(&slab->shared, __ATOMIC_RELAXED) && slab_looks_free(slab, block)) ||
        !noted_set_bit(heap, slab, (uint64_t)(product >> 64)))
        return false;
    SLAB_ORDER(); /* what is not counted as used has its bit */
    slab->room--;
    return true;
}

/* The same of a slab that is not NOTED, while the thread clears out: it is from now on, if it may
 * be. */
bool noted_free_first(const struct heap *heap, struct span *slab, void *block);

#endif
