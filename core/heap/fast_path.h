/*
 * fast_path.h - the two paths that nearly every malloc and free takes, to be inlined where they
 * are entered. No lock, no atomic, no call.
 *
 * malloc leaves it when the size has no entry in the table, which class_pop() does without, or
 * the current slab's free list is empty; "no heap yet", "no thread heap yet", "remote frees wait"
 * and "epoch over" are all behind that one branch. free leaves it when one product says that the
 * pointer is no block of a slab of this thread that is neither full nor NOTED, see
 * heap_format.h.
 */
#ifndef PHEAP_HEAP_FAST_PATH_H
#define PHEAP_HEAP_FAST_PATH_H

#include "core/heap/slab.h"
#include "core/heap/slot.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* What a list's head points to: a link; at the list's end, which is at slab start + 1, eight bytes
 * of a block that another thread may be writing to. That is a race by design, which
 * ThreadSanitizer need not see. */
__attribute__((no_sanitize("thread"))) static inline uint64_t link_at(const uint64_t *head)
{
    uint64_t link;

    __builtin_memcpy(&link, head, sizeof link); /* the end's address is odd */
    return link;
}

/* Fetches the line of any address so that it can be written too: it may be another processor's.
 * (The compiler's own makes a fetch for reading of it, unless told which processor it will be.) */
static inline void prefetch_to_write(const void *pointer)
{
    __asm__ volatile("prefetchw %0" : : "m"(*(const char *)pointer));
}

/* Up to SMALL_MAX_BYTES, from the calling thread's heap. NULL: none is at hand. */
static inline void *small_pop(struct thread_heap *mine, size_t bytes)
{
    struct span *slab;
    uint64_t *block, offset;

    slab = mine->by_bytes[bytes];
    block = (uint64_t *)slab->free_head;
    /* Small slabs are one slice, so the link's offset is below 64 KiB. What is read at the end of
     * the list, at slab start + 1, is not: 2^48 to one, and a secret key. */
    offset = link_at(block) ^ slab->start_key;
    if (UNLIKELY(offset >= SLICE_BYTES))
        return NULL;
    offset |= slab->start;
    slab->free_head = offset;
    prefetch_to_write((const void *)offset); /* the next malloc reads its link at once */
    SLAB_ORDER();                            /* what is in a list has its link */
    slab_unmark(block);
    return block;
}

/* NULL: take heap_malloc(). */
static inline void *fast_malloc(struct thread_heap *mine, size_t bytes)
{
    return UNLIKELY(bytes > mine->small_limit) ? NULL : small_pop(mine, bytes);
}

/* Of any size class, by computing it. NULL: none is at hand. */
static inline void *class_pop(struct thread_heap *mine, size_t bytes)
{
    struct span *slab = mine->current[size_class_of(bytes)];

    if (UNLIKELY(!slab_has_free(slab)))
        return NULL;
    return slab_pop(slab, slab->start, slab_bytes(slab));
}

/* In a profiled heap, whose limits are 0: counts what is not going to be sampled and serves it.
 * NULL: take heap_malloc(), nothing was counted. */
static inline void *counted_malloc(struct thread_heap *mine, size_t bytes)
{
    void *block = NULL;

    if (bytes >= mine->until_sample)
        return NULL;
    if (bytes <= SMALL_MAX_BYTES)
        block = small_pop(mine, bytes);
    else if (bytes <= BLOCK_MAX_BYTES)
        block = class_pop(mine, bytes);
    if (LIKELY(block != NULL))
        mine->until_sample -= bytes;
    return block;
}

/* The descriptor of the span that `block` lies in; NULL if it is not in the slot. */
struct span *heap_block_span(const void *block);
/* The span of a block that the program gives back in `call`, or says it has. NULL: foreign, or, of
 * a hardened heap, any. Reports anything else, and aborts. */
struct span *heap_block_span_checked(const struct heap *heap, const void *block, const char *call);
void heap_free_slow(void *block);
/* The owner has freed the block and counted its slab's room down. */
void heap_slab_spent(const void *block);

/* Of any pointer's slice; see slot.h. */
static inline struct span *span_of_slice(const void *pointer)
{
    return (struct span *)(heap_spans +
                           ((uintptr_t)pointer >> (SLICE_SHIFT - SPAN_SHIFT) & heap_span_mask));
}

/* Whether it is a block in use of a slab of this thread that is neither full nor NOTED. */
static inline bool slab_is_own(const struct span *slab, const void *block)
{
    uint64_t offset = (uintptr_t)block - slab->owned_start + heap_tag;

    return LIKELY(offset * slab->reciprocal >= PRODUCT_LEAST) &&
           LIKELY(!slab_looks_free(slab, block));
}

static inline void slab_free(struct span *slab, void *block)
{
    slab_push(slab, block);
    if (UNLIKELY(--slab->room < 0))
        heap_slab_spent(block);
}

/* Every case, the slow ones by tail calls. */
static inline void fast_free(void *block)
{
    struct span *slab = span_of_slice(block);

    if (UNLIKELY(!slab_is_own(slab, block)))
        heap_free_slow(block);
    else
        slab_free(slab, block);
}

#endif
