/*
 * inbox.c - see inbox.h.
 *
 * A thread may end while another one fills places of its inbox. That one looks whether the owner is
 * DEAD when it has filled them, and empties the inbox once more (thread_heap_tend). There is no
 * barrier between, so it may miss it; then the blocks wait for the next one who puts, steals or
 * collects there, or for the thread that adopts the heap.
 */
#include "core/heap/inbox.h"

#include "core/heap/fast_path.h"
#include "core/heap/remote.h"
#include "core/heap/slab.h"
#include "core/heap/thread_heap.h"

/* The lines of so many blocks are on their way while one is freed. */
#define TAKE_AHEAD 8
#define TELL_EVERY 64
/* Places, a page. */
#define REWIND_FROM 512
#define REWINDING   2 /* in `taking` */

static uint64_t *place_of(struct thread_heap *owner, uint64_t number)
{
    return &owner->inbox[number % INBOX_BLOCKS];
}

/* Whether there is room behind `reserved`. inbox_taken, which the owner writes, is looked at only
 * if what it was before does not say so. */
static bool has_room(const struct thread_heap *owner, uint64_t reserved, uint64_t count,
                     uint64_t *taken)
{
    if (reserved + count - *taken <= INBOX_BLOCKS)
        return true;
    *taken = __atomic_load_n(&owner->inbox_taken, __ATOMIC_ACQUIRE);
    return reserved + count - *taken <= INBOX_BLOCKS;
}

static bool reserve(struct thread_heap *owner, uint64_t count, uint64_t *taken, uint64_t *first)
{
    *first = __atomic_load_n(&owner->inbox_reserved, __ATOMIC_RELAXED);
    do {
        if (!has_room(owner, *first, count, taken))
            return false;
    } while (!__atomic_compare_exchange_n(&owner->inbox_reserved, first, *first + count, true,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    return true;
}

static void fill(uint64_t *places, const uint64_t *blocks, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        __atomic_store_n(&places[i], blocks[i], __ATOMIC_RELEASE);
}

bool inbox_put(struct thread_heap *owner, const uint64_t *blocks, uint64_t count, uint64_t *taken)
{
    uint64_t first, to_end;

    if (__atomic_load_n(&owner->state, __ATOMIC_RELAXED) != THREAD_HEAP_LIVE ||
        !reserve(owner, count, taken, &first))
        return false;
    to_end = INBOX_BLOCKS - first % INBOX_BLOCKS;
    if (to_end > count)
        to_end = count;
    fill(place_of(owner, first), blocks, to_end);
    fill(owner->inbox, blocks + to_end, count - to_end);
    return true;
}

/* The next block, out of the ring; 0: there is none. From inbox_next on places are the writers',
 * whenever this thread is stopped for good (inbox_close_gaps). They learn of their room in steps.
 */
static inline uint64_t take_one(struct thread_heap *owner)
{
    uint64_t number = owner->inbox_next;
    uint64_t *place = place_of(owner, number);
    uint64_t block = __atomic_load_n(place, __ATOMIC_ACQUIRE);

    if (block != 0) {
        owner->inbox_next = number + 1;
        SLAB_ORDER();
        *place = 0;
        if (number % TELL_EVERY == 0)
            __atomic_store_n(&owner->inbox_taken, number + 1, __ATOMIC_RELEASE);
    }
    return block;
}

static void tell_room(struct thread_heap *owner)
{
    __atomic_store_n(&owner->inbox_taken, owner->inbox_next, __ATOMIC_RELEASE);
}

/* Empty: goes on at the ring's beginning, so that it has no more pages than it needs. Between two
 * of these steps the thread may be stopped for good, or its process forked: then the places up to
 * the beginning are reserved, and nobody's (inbox_close_gaps). */
static void rewind_ring(struct thread_heap *mine)
{
    uint64_t end = mine->inbox_next, beginning = (end | (INBOX_BLOCKS - 1)) + 1;

    mine->taking = REWINDING;
    SLAB_ORDER();
    mine->inbox_next = beginning;
    SLAB_ORDER();
    if (__atomic_compare_exchange_n(&mine->inbox_reserved, &end, beginning, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED))
        tell_room(mine);
    else
        mine->inbox_next = mine->inbox_taken;
    SLAB_ORDER();
    mine->taking = 1;
}

/* As if the rewinding had not begun, or had ended: by whether its one word that others see is
 * written. */
void inbox_settle(struct thread_heap *mine)
{
    uint64_t reserved = __atomic_load_n(&mine->inbox_reserved, __ATOMIC_RELAXED);

    if (mine->taking != REWINDING)
        return;
    if (reserved < mine->inbox_next)
        mine->inbox_next = mine->inbox_taken;
    else
        tell_room(mine);
}

void inbox_take(struct thread_heap *mine)
{
    uint64_t block, ahead;

    if (mine->taking)
        return;
    mine->taking = 1;
    SLAB_ORDER();
    /* A malloc waits for this, so it ends, however fast others fill what is taken. */
    for (uint32_t i = 0; i < INBOX_BLOCKS && (block = take_one(mine)) != 0; i++) {
        ahead = __atomic_load_n(place_of(mine, mine->inbox_next + TAKE_AHEAD), __ATOMIC_RELAXED);
        prefetch_to_write((const void *)(ahead ? ahead : block));
        if (__builtin_expect(block != INBOX_GAP, 1))
            fast_free((void *)block);
    }
    tell_room(mine);
    if (mine->inbox_next % INBOX_BLOCKS >= REWIND_FROM)
        rewind_ring(mine);
    SLAB_ORDER();
    mine->taking = 0;
}

static void free_to_slab(struct heap *heap, struct thread_heap *dead, uint64_t *block)
{
    struct span *slab = remote_slab(heap, block);

    slab_link(slab, block, NULL);
    slab_set_shared(slab);
    if (slab_push_remote(slab, block, block, 1))
        thread_heap_notify(heap, slab);
    else
        thread_heap_tend_slab(heap, dead, slab);
}

void inbox_empty(struct heap *heap, struct thread_heap *dead)
{
    uint64_t block;

    while ((block = take_one(dead)) != 0)
        if (block != INBOX_GAP)
            free_to_slab(heap, dead, (uint64_t *)block);
    tell_room(dead);
}

void inbox_close_gaps(struct thread_heap *owner)
{
    uint64_t next = owner->taking == REWINDING ? owner->inbox_taken : owner->inbox_next;

    for (uint64_t i = next; i < owner->inbox_reserved; i++)
        if (*place_of(owner, i) == 0)
            *place_of(owner, i) = INBOX_GAP;
}

uint64_t inbox_waiting(const struct thread_heap *owner)
{
    uint64_t taken = __atomic_load_n(&owner->inbox_taken, __ATOMIC_RELAXED);

    return __atomic_load_n(&owner->inbox_reserved, __ATOMIC_RELAXED) - taken;
}

bool inbox_has(const struct thread_heap *owner, const void *block)
{
    uint64_t first = __atomic_load_n(&owner->inbox_taken, __ATOMIC_RELAXED);
    uint64_t waiting = inbox_waiting(owner);

    for (uint64_t i = first; i < first + waiting && i < first + INBOX_BLOCKS; i++)
        if (__atomic_load_n(&owner->inbox[i % INBOX_BLOCKS], __ATOMIC_RELAXED) == (uint64_t)block)
            return true;
    return false;
}
