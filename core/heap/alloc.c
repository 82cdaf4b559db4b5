/*
 * alloc.c - malloc, calloc, memalign: which slab or span serves a request. The hit path is in
 * fast_path.h; here is what happens when a free list is empty.
 *
 * A call that interrupted another one in the same thread (a signal handler that allocates) finds
 * its own thread heap's lock held: it is served by a large block, or, if the spans' lock is
 * held too, not at all. It never waits for itself.
 */
#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/epoch.h"
#include "core/heap/fast_path.h"
#include "core/heap/hardened.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/memcheck.h"
#include "core/heap/large.h"
#include "core/heap/misuse.h"
#include "core/heap/noted.h"
#include "core/heap/profile.h"
#include "core/heap/remote.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"

/* Below this, zeroing a recycled block is cheaper than finding out whether it needs it. */
#define CARVE_ZERO_BYTES 512

static struct lock start_lock = {.rank = LOCK_RANK_START};

static bool hardening_wanted;

void heap_harden(void)
{
    hardening_wanted = true;
}

static int start_in_mode(struct heap *heap)
{
    int status = 0;

    if (memcheck_is_running())
        status = hardened_start(heap, HEAP_ANNOUNCED);
    else if (hardening_wanted)
        status = hardened_start(heap, HEAP_HARDENED);
    if (status < 0)
        (void)sys_munmap(heap, heap->reserve_bytes);
    return status;
}

int heap_start(uint32_t slot)
{
    struct heap *heap = NULL;
    int status = 0;

    if (heap_here())
        return 0;
    if (slot >= SLOT_COUNT)
        return -EINVAL;
    if (lock_held_by(&start_lock, heap_holder()))
        return -EBUSY;
    lock_acquire(&start_lock, heap_holder());
    if (heap_here() == NULL) {
        status = slot_create(slot, &heap);
        if (status == 0)
            status = start_in_mode(heap);
        /* slice_count stays 0 until the first span is made: no pointer is ours yet. */
        if (status == 0)
            __atomic_store_n(&heap_place.base, (uintptr_t)heap, __ATOMIC_RELEASE);
    }
    lock_release(&start_lock);
    return status;
}

uint32_t heap_slot(void)
{
    return heap_here() ? heap_here()->slot : SLOT_VOLATILE;
}

bool heap_owns(const void *pointer)
{
    return heap_here() && (uintptr_t)pointer - heap_place.base < heap_here()->reserve_bytes;
}

void heap_note_restored(void)
{
    if (heap_here())
        heap_here()->restored = 1;
}

static void *slab_take(const struct heap *heap, struct span *slab)
{
    void *block = slab_pop(slab, heap_span_address(heap, slab), slab_bytes(slab));

    if (block == NULL)
        misuse_damaged_list(heap, slab);
    return block;
}

/* From the current slab: free blocks, remote frees, blocks never used; in this order. */
static void *take_from_current(struct heap *heap, struct span *slab, bool *is_zero)
{
    bool may_carve_zero = is_zero && (slab->flags & SLAB_FRESH_ZERO) &&
                          size_class_block_bytes(slab->size_class) >= CARVE_ZERO_BYTES;
    void *block;

    if (!slab_has_free(slab))
        slab_take_remote(slab);
    if (!slab_has_free(slab) && may_carve_zero) {
        block = slab_carve_one(heap, slab);
        *is_zero = block != NULL;
        return block;
    }
    if (slab_has_free(slab) || slab_carve(heap, slab))
        return slab_take(heap, slab);
    return NULL;
}

/* From the slabs this thread heap has. NULL: it needs another one. */
static void *take_from_owned(struct heap *heap, struct thread_heap *mine, uint32_t size_class,
                             bool *is_zero)
{
    void *block = NULL;

    thread_heap_drain(heap, mine);
    while (block == NULL) {
        struct span *slab = mine->current[size_class];

        if (slab != &heap->empty_slab) {
            block = take_from_current(heap, slab, is_zero);
            if (block || !slab_set_full(mine, slab))
                continue;
            slab_count(heap, slab);
        }
        if (mine->current[size_class] != slab)
            continue; /* a signal handler came in between and has got one */
        if (mine->partial[size_class] == 0) {
            slab_set_no_current(heap, mine, size_class);
            break;
        }
        slab = heap_span(heap, mine->partial[size_class]);
        slab_leave_partial(heap, mine, slab);
        slab_set_current(heap, mine, slab);
    }
    return block;
}

/* A signal handler may have come in between and have got itself a current slab. */
static void slab_install(struct heap *heap, struct thread_heap *mine, struct span *slab)
{
    if (mine->current[slab->size_class] == &heap->empty_slab) {
        slab_set_current(heap, mine, slab);
        return;
    }
    slab_count(heap, slab);
    if (slab_is_unused(heap, slab))
        slab_release(heap, slab);
    else
        slab_set_partial(heap, mine, slab);
}

static void *take_from_new(struct heap *heap, struct thread_heap *mine, uint32_t size_class,
                           bool *is_zero)
{
    struct span *slab = thread_heap_steal(heap, mine, size_class);
    void *block = NULL;

    epoch_tick(heap);
    if (slab == NULL)
        slab = slab_create(heap, mine, size_class);
    if (slab == NULL)
        return NULL;
    heap_lock(heap, &mine->lock);
    slab_install(heap, mine, slab);
    block = take_from_owned(heap, mine, size_class, is_zero);
    heap_unlock(heap, &mine->lock);
    /* A stolen slab may have been full after all. */
    return block ? block : take_from_new(heap, mine, size_class, is_zero);
}

/* Whether there are blocks that were used before without those that others have freed: these are in
 * lines of other processors. */
static bool has_partial(const struct thread_heap *mine, uint32_t size_class)
{
    return mine->partial[size_class] != 0 && slab_is_carved(mine->current[size_class]);
}

/* The current slab's free list is empty, or there is no slab, no thread heap, no heap yet. */
static void *alloc_refill(uint32_t size_class, size_t bytes, size_t align, bool *is_zero)
{
    struct heap *heap;
    struct thread_heap *mine;
    uint64_t epoch;
    void *block;

    if (heap_here() == NULL && heap_start(SLOT_VOLATILE) < 0)
        return NULL;
    heap = heap_here();
    if (UNLIKELY(heap_is_hardened(heap)))
        return hardened_alloc(heap, bytes, align, is_zero);
    mine = thread_heap_attach(heap);
    if (mine == NULL || heap_is_interrupted(heap))
        return large_alloc(heap, size_class_block_bytes(size_class), align, is_zero);
    if (!has_partial(mine, size_class))
        inbox_take(mine);
    noted_end_clearing(mine);
    epoch = __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED);
    if (UNLIKELY(mine->batches_epoch != epoch))
        remote_post(heap, mine);
    heap_lock(heap, &mine->lock);
    if (UNLIKELY(mine->epoch != epoch)) {
        mine->epoch = epoch;
        thread_heap_collect(heap, mine);
    }
    block = take_from_owned(heap, mine, size_class, is_zero);
    heap_unlock(heap, &mine->lock);
    return block ? block : take_from_new(heap, mine, size_class, is_zero);
}

/* A hardened heap wants to know what was asked for. */
static void *alloc_class(uint32_t size_class, size_t bytes, size_t align, bool *is_zero)
{
    struct span *slab = heap_thread->current[size_class];

    if (LIKELY(slab_has_free(slab)))
        return slab_take(heap_here(), slab);
    return alloc_refill(size_class, bytes, align, is_zero);
}

static void *alloc_large(size_t bytes, size_t align, bool *is_zero)
{
    if (heap_here() == NULL && heap_start(SLOT_VOLATILE) < 0)
        return NULL;
    if (UNLIKELY(heap_is_hardened(heap_here())))
        return hardened_alloc(heap_here(), bytes, align, is_zero);
    return large_alloc(heap_here(), bytes, align, is_zero);
}

void *alloc_sampled(struct heap *heap, struct thread_heap *owner, uint32_t size_class,
                    bool *is_zero)
{
    uint64_t epoch = __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED);
    struct span *slab;
    void *block;

    heap_lock(heap, &owner->lock);
    if (owner->epoch != epoch) {
        owner->epoch = epoch;
        thread_heap_collect(heap, owner);
    }
    block = take_from_owned(heap, owner, size_class, is_zero);
    slab = block ? NULL : slab_create(heap, owner, size_class);
    if (slab) {
        slab->flags |= SPAN_SAMPLED;
        slab_install(heap, owner, slab);
        block = take_from_owned(heap, owner, size_class, is_zero);
    }
    heap_unlock(heap, &owner->lock);
    return block;
}

/* Above the limit of the fast paths: large, or of a profiled heap. size_class: SIZE_CLASSES for a
 * large one. */
static void *alloc_beyond(uint32_t size_class, size_t bytes, size_t align, bool *is_zero)
{
    struct thread_heap *mine = heap_thread;
    void *block = NULL;

    if (size_class >= SIZE_CLASSES) {
        block = alloc_large(bytes, align, is_zero);
        if (block && heap_thread->until_sample) /* it may have got its heap just now */
            profile_note_large(heap_here(), block, bytes);
        return block;
    }
    if (mine->until_sample && profile_hits(heap_here(), mine, bytes))
        block = profile_alloc_small(heap_here(), size_class, bytes, is_zero);
    return block ? block : alloc_class(size_class, bytes, align, is_zero);
}

static uint32_t class_or_large(size_t bytes)
{
    return bytes <= BLOCK_MAX_BYTES ? size_class_of(bytes) : SIZE_CLASSES;
}

void *heap_malloc(size_t bytes)
{
    void *block = fast_malloc(heap_thread, bytes);

    if (LIKELY(block != NULL))
        return block;
    if (bytes <= heap_thread->medium_limit)
        return alloc_class(size_class_of(bytes), bytes, 1, NULL);
    block = counted_malloc(heap_thread, bytes);
    return block ? block : alloc_beyond(class_or_large(bytes), bytes, 1, NULL);
}

/* One reserve serves all, so a request above a slot's size is refused before it is rounded. */
void *heap_calloc(size_t count, size_t bytes)
{
    bool is_zero = false;
    size_t total;
    void *block;

    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    block = fast_malloc(heap_thread, total);
    if (block == NULL && total <= heap_thread->medium_limit)
        block = alloc_class(size_class_of(total), total, 1, &is_zero);
    else if (block == NULL && (block = counted_malloc(heap_thread, total)) == NULL)
        block = alloc_beyond(class_or_large(total), total, 1, &is_zero);
    if (block == NULL || is_zero)
        return block;
    if (total > BLOCK_MAX_BYTES)
        spans_zero(heap_here(), heap_block_span(block), (uintptr_t)block, total);
    else
        memset(block, 0, total);
    return block;
}

void *heap_memalign(size_t align, size_t bytes)
{
    uint32_t size_class;

    if (align <= 16)
        return heap_malloc(bytes);
    if (bytes > SLOT_BYTES)
        return NULL;
    size_class = size_class_of_aligned(bytes, align);
    if (bytes <= heap_thread->medium_limit && size_class < SIZE_CLASSES)
        return alloc_class(size_class, bytes, align, NULL);
    return alloc_beyond(size_class, bytes, align, NULL);
}

bool heap_trim(void)
{
    struct heap *heap = heap_here();
    struct thread_heap *mine = heap_thread;

    if (heap == NULL || heap_is_interrupted(heap))
        return false;
    if (mine != &heap_thread_none) {
        remote_post(heap, mine);
        inbox_take(mine);
        heap_lock(heap, &mine->lock);
        thread_heap_collect(heap, mine);
        heap_unlock(heap, &mine->lock);
    }
    thread_heap_collect_dead(heap);
    return spans_purge(heap, 0) > 0;
}
