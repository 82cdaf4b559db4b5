/*
 * lock.c - see lock.h. A waiter sets the low bit of the word before it sleeps, and whoever
 * releases a word with that bit wakes one. A sleeper that wakes takes the lock with the bit set,
 * because it cannot know whether others sleep: one needless wake at the end of a queue.
 *
 * The futex is the word's low half: it differs between free, held and waited for, which is all
 * that the kernel's comparison is for.
 */
#include "core/base/lock.h"

#include <linux/futex.h>
#include "core/base/sys.h"

/* Waiting for another core to finish a list operation takes less than going to sleep. */
#define LOOK_NS         100000000
#define LOCK_SPINS      100
#define LOCK_WAITED_FOR 1ull

#ifdef PHEAP_DEBUG
static __thread uint32_t held_count[LOCK_RANK_COUNT];

static void lock_rank_check(const struct lock *lock)
{
    for (uint32_t rank = lock->rank + 1; rank < LOCK_RANK_COUNT; rank++)
        if (held_count[rank] > 0)
            __builtin_trap();
    if (held_count[lock->rank] > 0 && lock->rank != LOCK_RANK_THREAD_HEAP)
        __builtin_trap();
}

static void lock_rank_enter(const struct lock *lock)
{
    held_count[lock->rank]++;
}

static void lock_rank_leave(const struct lock *lock)
{
    held_count[lock->rank]--;
}
#else
static void lock_rank_check(const struct lock *lock)
{
    (void)lock;
}

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
}

static bool lock_swap(struct lock *lock, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&lock->word, &from, to, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

__thread struct lock_watch lock_watch __attribute__((tls_model("initial-exec")));

static void lock_sleep(struct lock *lock, uint32_t seen)
{
    const struct timespec slice = {0, LOOK_NS};

    (void)sys_call(SYS_futex, &lock->word, FUTEX_WAIT_PRIVATE, seen,
                   lock_watch.look ? &slice : NULL);
    lock_look();
}

static void lock_wait(struct lock *lock, uint64_t holder)
{
    uint64_t seen;

    for (int i = 0; i < LOCK_SPINS; i++) {
        if (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) == 0 && lock_swap(lock, 0, holder))
            return;
        __builtin_ia32_pause();
    }
    while (!lock_swap(lock, 0, holder | LOCK_WAITED_FOR)) {
        seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
        if (seen == 0)
            continue;
        if ((seen & LOCK_WAITED_FOR) || lock_swap(lock, seen, seen | LOCK_WAITED_FOR))
            lock_sleep(lock, (uint32_t)(seen | LOCK_WAITED_FOR));
    }
}

void lock_acquire(struct lock *lock, const void *holder)
{
    lock_rank_check(lock);
    if (!lock_swap(lock, 0, (uint64_t)holder))
        lock_wait(lock, (uint64_t)holder);
    lock_rank_enter(lock);
}

bool lock_try(struct lock *lock, const void *holder)
{
    if (!lock_swap(lock, 0, (uint64_t)holder))
        return false;
    lock_rank_enter(lock);
    return true;
}

void lock_release(struct lock *lock)
{
    lock_rank_leave(lock);
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) & LOCK_WAITED_FOR)
        (void)sys_call(SYS_futex, &lock->word, FUTEX_WAKE_PRIVATE, 1);
}

bool lock_held_by(const struct lock *lock, const void *holder)
{
    return (__atomic_load_n(&lock->word, __ATOMIC_RELAXED) & ~LOCK_WAITED_FOR) == (uint64_t)holder;
}
