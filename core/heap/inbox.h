/*
 * inbox.h - what other threads have freed of a thread's blocks, for the thread itself to free.
 *
 * Who frees a block of another thread's slab writes neither to the block nor to its descriptor: the
 * block's address goes into the inbox of the slab's owner, a ring that many write to and one reads,
 * and the owner frees it, with all checks that a free of its own makes, when its malloc would take
 * blocks that were never used, and when a quarter of the ring is full. So eight bytes go from one
 * processor to the other, and not the lines of the block and its slab, there and back.
 *
 * A ring has no lock. A writer reserves places by one compare-and-swap, then fills them; the reader
 * goes on as far as they are filled, and waits for nobody. Always true:
 *   inbox_taken <= inbox_reserved <= inbox_taken + INBOX_BLOCKS
 *   inbox_taken <= inbox_next, from where the reader goes on, and but for moments of inbox_take()
 *   inbox_next <= inbox_reserved; outside of it both are the same
 *   a place that is not reserved is 0, and so is one whose writer has not got there
 * The reader is the thread whose heap it is or, when that is DEAD, who holds its lock.
 */
#ifndef PHEAP_HEAP_INBOX_H
#define PHEAP_HEAP_INBOX_H

#include <stdbool.h>
#include <stdint.h>
#include "core/heap/heap_format.h"

/* Any thread, no lock. taken: what inbox_taken was at some moment before, 0 for instance; kept up
 * to date. False: the owner is not LIVE or has no room; nothing was done. */
bool inbox_put(struct thread_heap *owner, const uint64_t *blocks, uint64_t count, uint64_t *taken);

/* The calling thread frees what is in its own inbox. No lock held; not over an interrupted call of
 * the same thread's in the heap, but for one of its own. */
void inbox_take(struct thread_heap *mine);

/* Whether a quarter of the calling thread's own is used, or more. */
static inline bool inbox_is_filling(const struct thread_heap *mine)
{
    uint64_t ahead = (mine->inbox_next + INBOX_BLOCKS / 4) % INBOX_BLOCKS;

    return __atomic_load_n(&mine->inbox[ahead], __ATOMIC_RELAXED) != 0;
}

/* At the calling thread's end, which may come out of a signal handler over inbox_take(). */
void inbox_settle(struct thread_heap *mine);

/* Under the lock of a heap that is DEAD: its blocks go to their slabs, and with the last one of a
 * slab the slab. */
void inbox_empty(struct heap *heap, struct thread_heap *dead);

/* In the child of fork: places that a thread had reserved which is no more. Of the calling thread's
 * heap, or of one whose thread is gone. */
void inbox_close_gaps(struct thread_heap *owner);

/* Blocks that are in it; whether this one is. Any thread, no lock: as it was at some moment. */
uint64_t inbox_waiting(const struct thread_heap *owner);
bool inbox_has(const struct thread_heap *owner, const void *block);

#endif
