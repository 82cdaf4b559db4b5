/*
 * slab.h - spans cut into blocks of one size class.
 *
 * A slab belongs to one thread heap. Its owner alone takes blocks from it and gives blocks back to
 * free_head, without atomics; everybody else pushes on `remote`. A slab is in one of these states:
 *
 *   CURRENT   thread heap's current[class] points to it; blocks in use are not counted, so it
 *             never becomes empty in the owner's free
 *   PARTIAL   in the thread heap's partial[class] list: has free blocks or can be carved on
 *   FULL      in no list, OWNER_FULL set, so that the owner's next free leaves the fast path;
 * REMOTE_NOTIFY set, so that the next remote free puts it into the owner's notified stack
 *
 *   new -> CURRENT               slab_create
 *   CURRENT -> FULL              slab_set_full        nothing free, nothing to carve
 *   CURRENT -> PARTIAL           slab_count, slab_set_partial   its thread ended
 *   PARTIAL -> CURRENT           slab_set_current
 *   FULL -> PARTIAL              slab_unfull          a block came back
 *   PARTIAL -> gone              slab_release         the last block came back
 *
 * A slab that is FULL stays FULL, and with its owner, from the moment a remote free has cleared
 * REMOTE_NOTIFY until it was taken from the notified stack: the freeing thread may still be about
 * to push it.
 *
 * All but the inline functions are called with the thread heap's lock held.
 */
#ifndef PHEAP_HEAP_SLAB_H
#define PHEAP_HEAP_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/heap/heap.h"
#include "core/heap/heap_format.h"

/* The order in which a torn operation of a thread that is gone after fork() stays harmless. */
#define SLAB_ORDER() __atomic_signal_fence(__ATOMIC_ACQ_REL)

/* free()'s view of whose blocks they are; under the lock of whoever changes it. */
static inline uint64_t slab_owned_start(const struct span *slab, uint64_t tag)
{
    return slab->start + tag - size_class_block_bytes(slab->size_class);
}

/* Its owner changes them while others look, so each look and each change is one. */
static inline uint8_t slab_flags(const struct span *slab)
{
    return __atomic_load_n(&slab->flags, __ATOMIC_RELAXED);
}

/* Full or not. Any thread. */
static inline struct thread_heap *slab_owner(const struct span *slab)
{
    uint64_t word = __atomic_load_n(&slab->owner, __ATOMIC_RELAXED);

    return (struct thread_heap *)(word & ~OWNER_FULL);
}

static inline void slab_set_flags(struct span *slab, uint32_t flags)
{
    __atomic_store_n(&slab->flags, (uint8_t)flags, __ATOMIC_RELAXED);
}

static inline bool slab_has_free(const struct span *slab)
{
    return (slab->free_head & LIST_END_BIT) == 0;
}

/* The half of a link that is the same all over the slab, and so its mark. */
static inline uint32_t *block_mark(const void *block)
{
    return (uint32_t *)(uintptr_t)block + 1;
}

static inline void slab_unmark(void *block)
{
    *block_mark(block) = 0;
}

/* Pops a block; bytes: the slab's span, for the check of the link. NULL: the link is damaged. */
static inline void *slab_pop(struct span *slab, uint64_t start, uint64_t bytes)
{
    uint64_t *block = (uint64_t *)slab->free_head;
    uint64_t next = block[0] ^ slab->key;

    if (__builtin_expect(next - start >= bytes, 0))
        return NULL;
    slab->free_head = next;
    SLAB_ORDER(); /* what is in a list has its link */
    slab_unmark(block);
    return block;
}

static inline uint64_t slab_tag(const struct thread_heap *owner)
{
    return (owner->index + 1ull) << TAG_SHIFT;
}

/* Uncounted. */
static inline void slab_push(struct span *slab, void *pointer)
{
    uint64_t *block = pointer;

    block[0] = slab->free_head ^ slab->key;
    SLAB_ORDER();
    slab->free_head = (uint64_t)block;
    SLAB_ORDER();
}

/* Blocks in use, of a slab that is not CURRENT. */
static inline uint32_t slab_used(const struct span *slab)
{
    return (uint32_t)(slab->room + 1);
}

/* From the slab's start. */
static inline bool slab_offset_is_block(const struct span *slab, uint64_t offset)
{
    return -(offset * slab->reciprocal) <= -PRODUCT_LEAST;
}

static inline bool slab_looks_free(const struct span *slab, const void *block)
{
    return *block_mark(block) == (uint32_t)slab->key;
}

/* See heap_format.h. */
static inline uint64_t slab_reciprocal(uint32_t block_bytes)
{
    return -((UINT64_MAX / block_bytes + 1) | 1);
}

/* Other threads' list: its newest block and its length. */
static inline uint64_t slab_remote_head(const struct span *slab)
{
    return __atomic_load_n(&slab->remote, __ATOMIC_ACQUIRE) & REMOTE_BLOCK;
}

static inline uint32_t slab_remote_count(const struct span *slab)
{
    return (uint32_t)(__atomic_load_n(&slab->remote, __ATOMIC_ACQUIRE) >> REMOTE_COUNT_SHIFT);
}

static inline uint64_t slab_bytes(const struct span *slab)
{
    return (uint64_t)slab->slices << SLICE_SHIFT;
}

/* Whether there is no block left that was never used. */
static inline bool slab_is_carved(const struct span *slab)
{
    return slab->carved_bytes + size_class_block_bytes(slab->size_class) > slab_bytes(slab);
}

/* CURRENT, nothing carved. No lock but the spans' is needed. NULL: no memory. */
struct span *slab_create(struct heap *heap, struct thread_heap *owner, uint32_t size_class);

/* Adds the blocks of at least one page to the free list. False: all are carved. */
bool slab_carve(const struct heap *heap, struct span *slab);

/* Hands out one block that was never used, past the free list. NULL: all are carved. */
void *slab_carve_one(const struct heap *heap, struct span *slab);

/* Makes a slab not CURRENT: counts the blocks in use. The caller sees to lists and pointers. */
void slab_count(const struct heap *heap, struct span *slab);

/* Makes it CURRENT in the slab's own eyes: its free bits become the front of its list. */
void slab_uncount(const struct heap *heap, struct span *slab);

/* From now on it is `owner`'s. */
void slab_set_owner(struct span *slab, struct thread_heap *owner);

/* Whether every block of a slab is free. Looks at each one if it is CURRENT. */
bool slab_is_unused(const struct heap *heap, const struct span *slab);

/* The free list of a CURRENT slab is empty: what other threads freed becomes it. */
void slab_take_remote(struct span *slab);

void slab_set_current(const struct heap *heap, struct thread_heap *owner, struct span *slab);
void slab_set_partial(struct heap *heap, struct thread_heap *owner, struct span *slab);
void slab_leave_partial(struct heap *heap, struct thread_heap *owner, struct span *slab);

/* False: something had been freed meanwhile, the slab stays CURRENT. To be followed by
 * slab_count(), and another one that is set current, or none. */
bool slab_set_full(struct thread_heap *owner, struct span *slab);
void slab_unfull(struct heap *heap, struct thread_heap *owner, struct span *slab);

/* current[class] and by_bytes point to nothing from now on; with slab_drop_current() the slab that
 * was CURRENT is counted. */
void slab_set_no_current(struct heap *heap, struct thread_heap *owner, uint32_t size_class);
void slab_drop_current(struct heap *heap, struct thread_heap *owner, uint32_t size_class);

/* In no list any more, no block handed out. */
void slab_release(struct heap *heap, struct span *slab);

/* slab->start, without a look at the line that the slab's owner writes to. */
static inline uint64_t slab_start(const struct span *slab)
{
    uint64_t in_slot = (uintptr_t)slab % SLOT_BYTES;
    uint64_t slice = (in_slot - SPANS_OFFSET) >> SPAN_SHIFT;

    return (uintptr_t)slab - in_slot + (slice << SLICE_SHIFT);
}

/* Links a block in front of a list of the slab's that is nobody's yet; first is null for none. */
static inline void slab_link(const struct span *slab, uint64_t *block, const uint64_t *first)
{
    uint64_t next = first ? (uint64_t)first : (slab_start(slab) | LIST_END_BIT);

    block[0] = next ^ slab->key;
}

/* Any thread, no lock: puts `count` linked blocks before the remote list. True: the owner must be
 * told (REMOTE_NOTIFY was set). */
bool slab_push_remote(struct span *slab, uint64_t *first, uint64_t *last, uint32_t count);

/* Whether the block's free bit is set. Any thread. */
bool slab_bit_is_set(const struct heap *heap, const struct span *slab, const void *block);

/* Whether the block is in one of the slab's free lists; in the list that begins at `head`. Bounded,
 * safe on damaged lists. */
bool slab_finds_free(const struct heap *heap, const struct span *slab, const void *block);
bool slab_list_has(const struct heap *heap, const struct span *slab, uint64_t head,
                   const void *wanted);

#endif
