/*
 * slot.h - the slot's address space: reserve, commit in growing steps, drop pages.
 *
 * heap_place, where the descriptors lie, and each thread's heap_thread and heap_tag are all that
 * the process keeps outside the slot.
 */
#ifndef PHEAP_HEAP_SLOT_H
#define PHEAP_HEAP_SLOT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/heap/heap_format.h"

/* Said of a variable that the inlined paths use, so that they find it without a table. */
#define HIDDEN __attribute__((visibility("hidden")))

struct heap_place {
    uintptr_t base;       /* of the slot; 0 before the first allocation */
    uint64_t slice_count; /* slices with a committed descriptor; 0 before, so no pointer is ours */
};
extern HIDDEN struct heap_place heap_place;

/* For any pointer at all, heap_spans + (pointer >> (SLICE_SHIFT - SPAN_SHIFT) & heap_span_mask) is
 * a descriptor that can be read: of the pointer's slice if it lies in the slot. The mask covers a
 * power of two of descriptors; before the first span it is 0, and the one descriptor is empty. */
extern HIDDEN uintptr_t heap_spans;
extern HIDDEN uint64_t heap_span_mask;

/* Points to the thread's heap in the slot, or to the static empty one whose lists are all empty: a
 * thread that is new falls into the same slow path as one that has run out of blocks. */
extern __thread struct thread_heap *heap_thread __attribute__((tls_model("initial-exec")));
extern struct thread_heap heap_thread_none;
/* What tells the slabs of this thread heap from others: slab_tag(heap_thread). With TAG_CLEARING
 * when the thread clears out, see noted.h. */
extern __thread uint64_t heap_tag __attribute__((tls_model("initial-exec")));

/* Stands for the calling thread as the holder of locks, attached or not. */
static inline const void *heap_holder(void)
{
    return &heap_thread;
}

/* A thread in the middle of fork() holds all the heap's locks already. */
static inline bool heap_is_forking(const struct heap *heap)
{
    uint64_t holder = __atomic_load_n(&heap->fork_holder, __ATOMIC_RELAXED);

    return __builtin_expect(holder == (uint64_t)heap_holder(), 0);
}

static inline void heap_lock(const struct heap *heap, struct lock *lock)
{
    if (!heap_is_forking(heap))
        lock_acquire(lock, heap_holder());
}

static inline bool heap_try_lock(const struct heap *heap, struct lock *lock)
{
    return heap_is_forking(heap) || lock_try(lock, heap_holder());
}

static inline void heap_unlock(const struct heap *heap, struct lock *lock)
{
    if (!heap_is_forking(heap))
        lock_release(lock);
}

static inline struct heap *heap_here(void)
{
    return (struct heap *)heap_place.base;
}

/* Reserves the slot, or as much of it as is granted, and writes a fresh header. -EEXIST: some
 * other mapping lies there. */
MUST_CHECK int slot_create(uint32_t slot, struct heap **out);

/* The calling thread is in a signal handler over a call of ours that holds a lock: waiting for
 * another one could be for ever, that of the spans apart, which comes last. */
static inline bool heap_is_interrupted(const struct heap *heap)
{
    const void *me = heap_holder();

    return lock_held_by(&heap->spans_lock, me) || lock_held_by(&heap_thread->lock, me) ||
           lock_held_by(&heap->threads_lock, me);
}

/* Makes [area start, end) readable and writable; more than asked for when that is granted. */
MUST_CHECK bool slot_commit(struct area *area, uint64_t end, uint64_t step_bytes);

/* Commits the descriptors of the first `slices` slices, and lets free() use them. */
MUST_CHECK bool slot_describe(struct heap *heap, uint64_t slices);

/* Gives the pages back; they read as zero from now on. False: they keep their content. */
bool slot_drop(const struct heap *heap, uintptr_t start, uint64_t bytes);

#endif
