/*
 * lock.h - a futex lock that may lie in saved memory: two words, no libc, no errno.
 *
 * The lock word is the holder, taken and given up in one instruction, so that code that may have
 * been interrupted while it held a lock (a signal handler that allocates, a fork in a handler) can
 * see that waiting would be for ever: ask lock_held_by() first. A holder is any even, non-null
 * address that stands for the thread.
 *
 * Not recursive, not fair. Keep what is done inside short: no page-fault storms, no file I/O.
 */
#ifndef PHEAP_BASE_LOCK_H
#define PHEAP_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/lock_rank.h"

struct lock {
    uint64_t word; /* 0 free, else the holder's address; plus 1: somebody waits */
    uint32_t rank; /* enum lock_rank */
};

/*
 * The calling thread's: who waits for threads of a process that may be killed meanwhile, for locks
 * and at a heap's gate. look() is called ten times a second or more while the thread waits; it does
 * not return when the process is gone.
 */
struct lock_watch {
    void (*look)(void *context); /* NULL: nobody */
    void *context;
};
extern __thread struct lock_watch lock_watch __attribute__((tls_model("initial-exec")));

/* Between two waits. */
static inline void lock_look(void)
{
    if (lock_watch.look)
        lock_watch.look(lock_watch.context);
}

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_acquire(struct lock *lock, const void *holder);
bool lock_try(struct lock *lock, const void *holder);
void lock_release(struct lock *lock);
bool lock_held_by(const struct lock *lock, const void *holder);

#endif
