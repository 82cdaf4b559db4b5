/*
 * thread_heap.c - see thread_heap.h.
 *
 * Invariants:
 *   - a heap is in the dead list exactly when its state is DEAD, both under threads_lock;
 *     the state changes under the heap's own lock as well, so either lock suffices to rely on it;
 *   - of a LIVE heap only the owner changes lists and counts; of a DEAD one who holds its lock.
 */
#include "core/heap/thread_heap.h"

#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/profile.h"
#include "core/heap/remote.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"

/* Dead heaps looked at for one stolen slab; bounds the time of an allocation. */
#define STEAL_TRIES              8
#define THREAD_HEAPS_COMMIT_STEP (16u << 10)

static struct span no_slab = {
    .free_head = (uint64_t)&no_slab + LIST_END_BIT,
    .start_key = UINT64_MAX,
};
struct thread_heap heap_thread_none = {
    .by_bytes = {[0 ... SMALL_MAX_BYTES] = &no_slab},
    .current = {[0 ... SIZE_CLASSES - 1] = &no_slab},
    .small_limit = SMALL_MAX_BYTES,
    .medium_limit = BLOCK_MAX_BYTES,
    .batching = 1,
    .taking = 1,
};
__thread struct thread_heap *heap_thread = &heap_thread_none;
__thread uint64_t heap_tag;

static void (*thread_hook)(void *thread_heap);

void heap_set_thread_hook(void (*attached)(void *thread_heap))
{
    thread_hook = attached;
}

static void thread_heap_init(struct heap *heap, struct thread_heap *fresh, uint32_t index)
{
    for (uint32_t i = 0; i <= SMALL_MAX_BYTES; i++)
        fresh->by_bytes[i] = &heap->empty_slab;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++)
        fresh->current[i] = &heap->empty_slab;
    lock_init(&fresh->lock, LOCK_RANK_THREAD_HEAP);
    fresh->index = index;
}

static struct thread_heap *thread_heap_make(struct heap *heap)
{
    uint32_t index = heap->thread_heap_count;
    struct thread_heap *fresh = heap_thread_heap(heap, index);

    if (!slot_commit(&heap->thread_heaps, (uintptr_t)fresh + THREAD_HEAP_STRIDE,
                     THREAD_HEAPS_COMMIT_STEP))
        return NULL;
    thread_heap_init(heap, fresh, index);
    /* Others go through the heaps there are without threads_lock. */
    __atomic_store_n(&heap->thread_heap_count, index + 1, __ATOMIC_RELEASE);
    return fresh;
}

static struct thread_heap *thread_heap_adopt(struct heap *heap)
{
    struct thread_heap *dead = heap_thread_heap(heap, heap->first_dead - 1);

    __atomic_store_n(&heap->first_dead, dead->next_dead, __ATOMIC_RELAXED);
    heap->dead_count--;
    return dead;
}

/* Under the heap's lock; others look at it before they take that. */
static void thread_heap_set_state(struct thread_heap *changed, enum thread_heap_state state)
{
    __atomic_store_n(&changed->state, (uint32_t)state, __ATOMIC_RELAXED);
}

struct thread_heap *thread_heap_attach(struct heap *heap)
{
    struct thread_heap *mine = NULL;

    if (heap_thread != &heap_thread_none)
        return heap_thread;
    if (heap_is_interrupted(heap))
        return NULL; /* a signal handler over an interrupted attach */
    heap_lock(heap, &heap->threads_lock);
    mine = heap->first_dead ? thread_heap_adopt(heap) : thread_heap_make(heap);
    if (mine) {
        heap_lock(heap, &mine->lock);
        thread_heap_set_state(mine, THREAD_HEAP_LIVE);
        heap_unlock(heap, &mine->lock);
        heap->thread_heaps_live++;
        mine->singles_left = REMOTE_SINGLES_AN_EPOCH;
        profile_init_thread(heap, mine);
        heap_thread = mine;
        heap_tag = slab_tag(mine);
    }
    heap_unlock(heap, &heap->threads_lock);
    if (mine && thread_hook)
        thread_hook(mine);
    return mine;
}

struct thread_heap *thread_heap_make_shared(struct heap *heap)
{
    struct thread_heap *shared;

    heap_lock(heap, &heap->threads_lock);
    shared = thread_heap_make(heap);
    if (shared)
        thread_heap_set_state(shared, THREAD_HEAP_SHARED);
    heap_unlock(heap, &heap->threads_lock);
    return shared;
}

void thread_heap_drain(struct heap *heap, struct thread_heap *owner)
{
    uint32_t slice = __atomic_load_n(&owner->notified, __ATOMIC_RELAXED);
    uint32_t next;

    if (owner->state == THREAD_HEAP_DEAD) {
        inbox_empty(heap, owner);
        slice = __atomic_load_n(&owner->notified, __ATOMIC_RELAXED);
    }
    if (slice == 0)
        return;
    slice = __atomic_exchange_n(&owner->notified, 0, __ATOMIC_ACQUIRE);
    for (; slice; slice = next) {
        struct span *slab = heap_span(heap, slice);

        next = slab->next;
        slab_unfull(heap, owner, slab);
    }
}

static void thread_heap_collect_class(struct heap *heap, struct thread_heap *owner,
                                      uint32_t size_class)
{
    struct span *current = owner->current[size_class];
    uint32_t slice = owner->partial[size_class], next;

    if (current != &heap->empty_slab && slab_is_unused(heap, current)) {
        slab_drop_current(heap, owner, size_class);
        slab_release(heap, current);
    }
    for (; slice; slice = next) {
        struct span *slab = heap_span(heap, slice);

        next = slab->next;
        if (slab_is_unused(heap, slab)) {
            slab_leave_partial(heap, owner, slab);
            slab_release(heap, slab);
        }
    }
}

void thread_heap_collect(struct heap *heap, struct thread_heap *owner)
{
    thread_heap_drain(heap, owner);
    for (uint32_t size_class = 0; size_class < SIZE_CLASSES; size_class++)
        thread_heap_collect_class(heap, owner, size_class);
}

void thread_heap_notify(struct heap *heap, struct span *slab)
{
    /* We have cleared REMOTE_NOTIFY, so the slab stays full, and with this owner, until it has
     * been taken from the stack. */
    uint64_t owner_word = __atomic_load_n(&slab->owner, __ATOMIC_RELAXED) & ~OWNER_FULL;
    struct thread_heap *owner = (struct thread_heap *)owner_word;
    uint32_t head = __atomic_load_n(&owner->notified, __ATOMIC_RELAXED);

    do {
        slab->next = head;
    } while (!__atomic_compare_exchange_n(&owner->notified, &head, heap_slice_of(heap, slab), true,
                                          __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

void thread_heap_tend_slab(struct heap *heap, struct thread_heap *dead, struct span *slab)
{
    bool is_its = slab->kind == SPAN_SLAB && slab->owner == (uint64_t)dead;

    if (is_its && !(slab->flags & SLAB_CURRENT) && slab_is_unused(heap, slab)) {
        slab_leave_partial(heap, dead, slab);
        slab_release(heap, slab);
    }
}

void thread_heap_tend(struct heap *heap, struct thread_heap *owner, struct span *slab)
{
    if (__atomic_load_n(&owner->state, __ATOMIC_RELAXED) != THREAD_HEAP_DEAD)
        return;
    if (!heap_try_lock(heap, &owner->lock))
        return; /* whoever works on it, or the next one who frees, will see the block */
    if (owner->state == THREAD_HEAP_DEAD) {
        thread_heap_drain(heap, owner);
        if (slab)
            thread_heap_tend_slab(heap, owner, slab);
    }
    heap_unlock(heap, &owner->lock);
}

static struct span *thread_heap_give_partial(struct heap *heap, struct thread_heap *dead,
                                             struct thread_heap *thief, uint32_t size_class)
{
    struct span *slab;

    thread_heap_drain(heap, dead);
    if (dead->partial[size_class]) {
        slab = heap_span(heap, dead->partial[size_class]);
        slab_leave_partial(heap, dead, slab);
    } else if (dead->current[size_class] != &heap->empty_slab) {
        slab = dead->current[size_class];
        slab_drop_current(heap, dead, size_class);
    } else {
        return NULL;
    }
    slab_set_owner(slab, thief);
    slab_uncount(heap, slab);
    return slab;
}

struct span *thread_heap_steal(struct heap *heap, struct thread_heap *thief, uint32_t size_class)
{
    struct span *slab = NULL;
    uint32_t link;

    if (__atomic_load_n(&heap->first_dead, __ATOMIC_RELAXED) == 0)
        return NULL;
    heap_lock(heap, &heap->threads_lock);
    link = heap->first_dead;
    for (int tries = 0; link && !slab && tries < STEAL_TRIES; tries++) {
        struct thread_heap *dead = heap_thread_heap(heap, link - 1);

        if (heap_try_lock(heap, &dead->lock)) {
            slab = thread_heap_give_partial(heap, dead, thief, size_class);
            heap_unlock(heap, &dead->lock);
        }
        link = dead->next_dead;
    }
    heap_unlock(heap, &heap->threads_lock);
    return slab;
}

void thread_heap_collect_dead(struct heap *heap)
{
    heap_lock(heap, &heap->threads_lock);
    for (uint32_t link = heap->first_dead; link;) {
        struct thread_heap *dead = heap_thread_heap(heap, link - 1);

        if (heap_try_lock(heap, &dead->lock)) {
            thread_heap_collect(heap, dead);
            heap_unlock(heap, &dead->lock);
        }
        link = dead->next_dead;
    }
    heap_unlock(heap, &heap->threads_lock);
}
