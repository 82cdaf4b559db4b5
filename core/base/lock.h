/*
 * lock.h - a futex lock that may lie in saved memory: three words, no libc, no errno.
 *
 * The holder is noted, so that code that may have been interrupted while it held a lock (a
 * signal handler that allocates, a fork in a handler) can see that waiting would be for ever:
 * ask lock_held_by() first. The holder is any non-null address that stands for the thread.
 *
 * Not recursive, not fair. Keep what is done inside short: no page-fault storms, no file I/O.
 */
#ifndef PHEAP_BASE_LOCK_H
#define PHEAP_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/lock_rank.h"

struct lock {
    uint32_t word; /* 0 free, 1 held, 2 held and somebody waits */
    uint32_t rank; /* enum lock_rank */
    const void *holder;
};

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_acquire(struct lock *lock, const void *holder);
bool lock_try(struct lock *lock, const void *holder);
void lock_release(struct lock *lock);
bool lock_held_by(const struct lock *lock, const void *holder);

#endif
