/*
 * thread_heap.c - see thread_heap.h.
 *
 * Invariants:
 *   - a heap is in the dead list exactly when its state is DEAD, both under threads_lock;
 *     the state changes under the heap's own lock as well, so either lock suffices to rely on it;
 *   - of a LIVE heap only the owner changes lists and counts; of a DEAD one who holds its lock.
 *
 * fork: heap_fork_prepare takes every lock, so no list is half changed in the child. What another
 * thread was doing without a lock (a pop or a push of one block) is torn at one instruction; see
 * SLAB_ORDER: at worst one block and, for a full slab, one notification are lost to the child.
 */
#include "core/heap/thread_heap.h"

#include "core/base/sys.h"
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/misuse.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"

/* Dead heaps looked at for one stolen slab; bounds the time of an allocation. */
#define STEAL_TRIES 8
/* Below so many dead heaps their empty slabs are kept warm for the next thread. */
#define DEAD_KEPT_WARM           8
#define THREAD_HEAPS_COMMIT_STEP (16u << 10)

static struct span no_slab = {.free_head = LIST_END_BIT};
struct thread_heap heap_thread_none = {
    .by_words = {[0 ... SMALL_WORDS - 1] = &no_slab},
    .current = {[0 ... SIZE_CLASSES - 1] = &no_slab},
};
__thread struct thread_heap *heap_thread = &heap_thread_none;

static void (*thread_hook)(void *thread_heap);

void heap_set_thread_hook(void (*attached)(void *thread_heap))
{
    thread_hook = attached;
}

static void thread_heap_init(struct heap *heap, struct thread_heap *fresh, uint32_t index)
{
    for (uint32_t i = 0; i < SMALL_WORDS; i++)
        fresh->by_words[i] = &heap->empty_slab;
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
    heap->thread_heap_count++;
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
        heap_thread = mine;
    }
    heap_unlock(heap, &heap->threads_lock);
    if (mine && thread_hook)
        thread_hook(mine);
    return mine;
}

static void thread_heap_set_dead(struct heap *heap, struct thread_heap *ended)
{
    thread_heap_set_state(ended, THREAD_HEAP_DEAD);
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
    heap_lock(heap, &heap->threads_lock);
    heap_lock(heap, &mine->lock);
    heap_thread = &heap_thread_none;
    if (heap->dead_count >= DEAD_KEPT_WARM)
        thread_heap_collect(heap, mine);
    thread_heap_set_dead(heap, mine);
    heap_unlock(heap, &mine->lock);
    heap_unlock(heap, &heap->threads_lock);
}

bool thread_heap_drain(struct heap *heap, struct thread_heap *owner)
{
    uint32_t slice = __atomic_load_n(&owner->notified, __ATOMIC_RELAXED);
    uint32_t next;

    if (slice == 0)
        return true;
    slice = __atomic_exchange_n(&owner->notified, 0, __ATOMIC_ACQUIRE);
    for (; slice; slice = next) {
        struct span *slab = heap_span(heap, slice);

        next = slab->next;
        if (!slab_collect_remote(heap, slab))
            return false;
        slab_unfull(heap, owner, slab);
    }
    return true;
}

static void thread_heap_collect_class(struct heap *heap, struct thread_heap *owner,
                                      uint32_t size_class)
{
    struct span *current = owner->current[size_class];
    uint32_t slice = owner->partial[size_class], next;

    if (current != &heap->empty_slab) {
        if (!slab_collect_remote(heap, current))
            misuse_damaged_list(heap, current);
        if (current->used == 1) {
            slab_drop_current(heap, owner, size_class);
            slab_release(heap, current);
        }
    }
    for (; slice; slice = next) {
        struct span *slab = heap_span(heap, slice);

        next = slab->next;
        if (!slab_collect_remote(heap, slab))
            misuse_damaged_list(heap, slab);
        if (slab->used == 0) {
            slab_leave_partial(heap, owner, slab);
            slab_release(heap, slab);
        }
    }
}

void thread_heap_collect(struct heap *heap, struct thread_heap *owner)
{
    if (!thread_heap_drain(heap, owner))
        misuse_damaged_list(heap, NULL);
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

/* A slab of a dead heap, not full: its remote frees are taken in, and it goes when it is empty. */
static void thread_heap_tend_slab(struct heap *heap, struct thread_heap *dead, struct span *slab)
{
    bool is_its = slab->kind == SPAN_SLAB && slab->owner == (uint64_t)dead;

    if (!is_its)
        return;
    if (!slab_collect_remote(heap, slab))
        misuse_damaged_list(heap, slab);
    if (slab->used == 0) {
        slab_leave_partial(heap, dead, slab);
        slab_release(heap, slab);
    } else if (slab->used == 1 && (slab->flags & SLAB_CURRENT)) {
        slab_drop_current(heap, dead, slab->size_class);
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
        if (!thread_heap_drain(heap, owner))
            misuse_damaged_list(heap, slab);
        thread_heap_tend_slab(heap, owner, slab);
    }
    heap_unlock(heap, &owner->lock);
}

static struct span *thread_heap_give_partial(struct heap *heap, struct thread_heap *dead,
                                             struct thread_heap *thief, uint32_t size_class)
{
    struct span *slab;

    if (!thread_heap_drain(heap, dead))
        misuse_damaged_list(heap, NULL);
    if (dead->partial[size_class]) {
        slab = heap_span(heap, dead->partial[size_class]);
        slab_leave_partial(heap, dead, slab);
    } else if (dead->current[size_class] != &heap->empty_slab) {
        slab = dead->current[size_class];
        slab_drop_current(heap, dead, size_class);
    } else {
        return NULL;
    }
    __atomic_store_n(&slab->owner, (uint64_t)thief, __ATOMIC_RELAXED);
    slab->flags |= SLAB_CURRENT;
    slab->used++;
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
    for (uint32_t i = heap->thread_heap_count; i-- > 0;)
        fork_unlock(&heap_thread_heap(heap, i)->lock);
    fork_unlock(&heap->threads_lock);
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
    fork_renew(&heap->threads_lock);
    if (heap_is_hardened(heap))
        fork_renew(&heap_hardened(heap)->lock);
    fork_renew(&heap->spans_lock);
    spans_fork_child(heap);
    heap_fork_parent();
}
