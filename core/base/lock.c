/*
 * lock.c - see lock.h. The protocol is the usual one of three states: a waiter sets 2 before it
 * sleeps, and whoever releases a 2 wakes one. A sleeper that wakes takes the lock as 2, because
 * it cannot know whether others sleep: one needless wake at the end of a queue.
 *
 * Invariant: holder is null exactly while word is 0, seen by the holder itself; other threads may
 * see a stale holder, never their own.
 */
#include "core/base/lock.h"

#include <linux/futex.h>
#include "core/base/sys.h"

/* Waiting for another core to finish a list operation takes less than going to sleep. */
#define LOCK_SPINS 100

#ifdef PHEAP_DEBUG
static __thread uint32_t held_count[LOCK_RANK_COUNT];

static void lock_rank_enter(const struct lock *lock)
{
    for (uint32_t rank = lock->rank + 1; rank < LOCK_RANK_COUNT; rank++)
        if (held_count[rank] > 0)
            __builtin_trap();
    if (held_count[lock->rank] > 0 && lock->rank != LOCK_RANK_THREAD_HEAP)
        __builtin_trap();
    held_count[lock->rank]++;
}

static void lock_rank_leave(const struct lock *lock)
{
    held_count[lock->rank]--;
}
#else
static void lock_rank_enter(const struct lock *lock)
{
    (void)lock;
}

static void lock_rank_leave(const struct lock *lock)
{
    (void)lock;
}
#endif

void lock_init(struct lock *lock, enum lock_rank rank)
{
    lock->word = 0;
    lock->rank = rank;
    lock->holder = 0;
}

static bool lock_take_free(struct lock *lock)
{
    uint32_t free_word = 0;

    return __atomic_compare_exchange_n(&lock->word, &free_word, 1, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static void lock_wait(struct lock *lock)
{
    for (int i = 0; i < LOCK_SPINS; i++) {
        if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 && lock_take_free(lock))
            return;
        __builtin_ia32_pause();
    }
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
        (void)sys_call(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, 2, 0);
}

void lock_acquire(struct lock *lock, const void *holder)
{
    lock_rank_enter(lock);
    if (!lock_take_free(lock))
        lock_wait(lock);
    __atomic_store_n(&lock->holder, holder, __ATOMIC_RELAXED);
}

bool lock_try(struct lock *lock, const void *holder)
{
    if (!lock_take_free(lock))
        return false;
    lock_rank_enter(lock);
    __atomic_store_n(&lock->holder, holder, __ATOMIC_RELAXED);
    return true;
}

void lock_release(struct lock *lock)
{
    lock_rank_leave(lock);
    __atomic_store_n(&lock->holder, 0, __ATOMIC_RELAXED);
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
        (void)sys_call(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1);
}

bool lock_held_by(const struct lock *lock, const void *holder)
{
    return __atomic_load_n(&lock->holder, __ATOMIC_RELAXED) == holder;
}
