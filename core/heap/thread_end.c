/*
 * thread_end.c - how thread heaps are left: by a thread that ends, and by all threads but one in
 * the child of fork.
 *
 * fork: heap_fork_prepare takes every lock, so no list is half changed in the child. What another
 * thread was doing without a lock (a pop or a push of one block) is torn at one instruction; see
 * SLAB_ORDER: at worst one block, or one batch of remote frees, and for a full slab one
 * notification are lost to the child.
 */
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/profile.h"
#include "core/heap/remote.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"

/* Below so many dead heaps their empty slabs are kept warm for the next thread. */
#define DEAD_KEPT_WARM 8

/* No slab stays CURRENT: each of a dead heap goes with its last block. After thread_heap_collect,
 * so none is empty. */
static void thread_heap_settle(struct heap *heap, struct thread_heap *ended)
{
    for (uint32_t size_class = 0; size_class < SIZE_CLASSES; size_class++) {
        struct span *slab = ended->current[size_class];

        if (slab == &heap->empty_slab)
            continue;
        slab_drop_current(heap, ended, size_class);
        slab_set_partial(heap, ended, slab);
    }
}

static void thread_heap_set_dead(struct heap *heap, struct thread_heap *ended)
{
    __atomic_store_n(&ended->state, THREAD_HEAP_DEAD, __ATOMIC_RELAXED);
    ended->next_dead = heap->first_dead;
    __atomic_store_n(&heap->first_dead, ended->index + 1, __ATOMIC_RELAXED);
    heap->dead_count++;
    heap->thread_heaps_live--;
}

void heap_thread_exit(void)
{
    struct heap *heap = heap_here();
    struct thread_heap *mine = heap_thread;

    if (mine == &heap_thread_none || heap_is_interrupted(heap))
        return;
    inbox_settle(mine);
    inbox_take(mine);
    remote_post(heap, mine);
    heap_lock(heap, &heap->threads_lock);
    heap_lock(heap, &mine->lock);
    heap_thread = &heap_thread_none;
    heap_tag = 0;
    if (heap->dead_count >= DEAD_KEPT_WARM) {
        thread_heap_collect(heap, mine);
        thread_heap_settle(heap, mine);
    }
    thread_heap_set_dead(heap, mine);
    thread_heap_drain(heap, mine);
    heap_unlock(heap, &mine->lock);
    heap_unlock(heap, &heap->threads_lock);
}

/*
 * Locks that this very thread holds, because fork was called in a signal handler over an
 * interrupted allocation, are left alone: the interrupted call releases them, in both processes.
 * In that case it may not wait for another lock either, out of order as it would be: a lock that
 * stays taken is left to its holder, and made anew in the child.
 *
 * The others are held by &heap_thread_none, and heap->fork_holder lets the forking thread
 * allocate on: other libraries' fork handlers may run between ours.
 */
#define FORK_TRIES 10000

static void fork_lock(struct lock *lock, bool may_wait)
{
    if (lock_held_by(lock, heap_holder()))
        return;
    if (may_wait) {
        lock_acquire(lock, &heap_thread_none);
        return;
    }
    for (int i = 0; i < FORK_TRIES && !lock_try(lock, &heap_thread_none); i++)
        __builtin_ia32_pause();
}

static void fork_unlock(struct lock *lock)
{
    if (lock_held_by(lock, &heap_thread_none))
        lock_release(lock);
}

static void fork_renew(struct lock *lock)
{
    if (lock->word != 0 && !lock_held_by(lock, heap_holder()) &&
        !lock_held_by(lock, &heap_thread_none))
        lock_init(lock, (enum lock_rank)lock->rank);
}

void heap_fork_prepare(void)
{
    struct heap *heap = heap_here();
    bool may_wait;

    if (heap == NULL)
        return;
    may_wait = !heap_is_interrupted(heap);
    fork_lock(&heap->threads_lock, may_wait);
    for (uint32_t i = 0; i < heap->thread_heap_count; i++)
        fork_lock(&heap_thread_heap(heap, i)->lock, may_wait);
    if (heap_is_hardened(heap))
        fork_lock(&heap_hardened(heap)->lock, may_wait);
    if (heap_profile(heap))
        fork_lock(&heap_profile(heap)->lock, may_wait);
    fork_lock(&heap->spans_lock, may_wait);
    __atomic_store_n(&heap->fork_holder, (uint64_t)heap_holder(), __ATOMIC_RELAXED);
}

void heap_fork_parent(void)
{
    struct heap *heap = heap_here();

    if (heap == NULL || heap->fork_holder != (uint64_t)heap_holder())
        return;
    __atomic_store_n(&heap->fork_holder, 0, __ATOMIC_RELAXED);
    fork_unlock(&heap->spans_lock);
    if (heap_is_hardened(heap))
        fork_unlock(&heap_hardened(heap)->lock);
    if (heap_profile(heap))
        fork_unlock(&heap_profile(heap)->lock);
    for (uint32_t i = heap->thread_heap_count; i-- > 0;)
        fork_unlock(&heap_thread_heap(heap, i)->lock);
    fork_unlock(&heap->threads_lock);
}

/* What the threads that are gone were about to hand over. What they had been handed stays in their
 * inboxes, as they are dead: to empty these would copy a page for each block. An inbox that this
 * very thread, interrupted, is putting something into is left to the interrupted call. */
static void fork_child_blocks(struct heap *heap)
{
    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        struct thread_heap *some = heap_thread_heap(heap, i);

        if (some != heap_thread && some->inbox_next != some->inbox_taken)
            some->inbox_next = some->inbox_taken;
        if (heap_thread->posting != (uint64_t)some)
            inbox_close_gaps(some);
    }
    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        struct thread_heap *other = heap_thread_heap(heap, i);

        if (other != heap_thread && other->state != THREAD_HEAP_SHARED)
            remote_fork_child(heap, other);
    }
}

void heap_fork_child(void)
{
    struct heap *heap = heap_here();

    if (heap == NULL || heap->fork_holder != (uint64_t)heap_holder())
        return;
    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        struct thread_heap *other = heap_thread_heap(heap, i);

        fork_renew(&other->lock);
        if (other != heap_thread && other->state == THREAD_HEAP_LIVE)
            thread_heap_set_dead(heap, other);
    }
    fork_child_blocks(heap);
    fork_renew(&heap->threads_lock);
    if (heap_is_hardened(heap))
        fork_renew(&heap_hardened(heap)->lock);
    if (heap_profile(heap))
        fork_renew(&heap_profile(heap)->lock);
    fork_renew(&heap->spans_lock);
    spans_fork_child(heap);
    heap_fork_parent();
}
