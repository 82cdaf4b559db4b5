/*
 * epoch.c - see epoch.h. An idle process counts no epochs: nothing here runs by itself.
 */
#include "core/heap/epoch.h"

#include <stdbool.h>
#include "core/base/sys.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"

#define EPOCH_NS 250000000ull
/* The clock is a system call here: a thread looks at it once in so many span operations, and at
 * most once in the larger number as long as it has not moved between two looks. */
#define TICK_OPERATIONS     16
#define TICK_OPERATIONS_MAX 64
#define PURGE_EPOCHS        2

static bool tick_is_due(struct heap *heap)
{
    struct thread_heap *mine = heap_thread;

    if (mine == &heap_thread_none)
        return __atomic_add_fetch(&heap->tick_count, 1, __ATOMIC_RELAXED) % TICK_OPERATIONS == 0;
    if (mine->ticks > 0)
        mine->ticks--;
    return mine->ticks == 0;
}

/* The next look of this thread, which has found the clock at `now`. */
static void tick_renew(uint64_t now)
{
    struct thread_heap *mine = heap_thread;

    if (mine == &heap_thread_none)
        return;
    if (now != mine->ticks_ns || mine->ticks_step == 0)
        mine->ticks_step = TICK_OPERATIONS;
    else if (mine->ticks_step < TICK_OPERATIONS_MAX)
        mine->ticks_step *= 2;
    mine->ticks = mine->ticks_step;
    mine->ticks_ns = now;
}

void epoch_tick(struct heap *heap)
{
    uint64_t now, last;

    if (!tick_is_due(heap))
        return;
    now = sys_clock_ns(CLOCK_MONOTONIC_COARSE);
    tick_renew(now);
    last = __atomic_load_n(&heap->epoch_ns, __ATOMIC_RELAXED);
    if (now - last < EPOCH_NS) /* a clock that went back: a huge difference */
        return;
    if (!__atomic_compare_exchange_n(&heap->epoch_ns, &last, now, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED))
        return; /* another thread counts this one */
    __atomic_add_fetch(&heap->epoch, 1, __ATOMIC_RELAXED);
    (void)spans_purge(heap, PURGE_EPOCHS);
}
