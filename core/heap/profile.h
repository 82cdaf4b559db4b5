/*
 * profile.h - which allocations are sampled, and what is noted of them.
 *
 * Each thread heap counts the bytes it hands out down from a random, exponentially distributed
 * number (mean rate_bytes); the allocation that would cross zero is sampled. So whether a block is
 * sampled does not depend on how the program's calls are ordered.
 *
 * Nobody else pays for it. malloc: the limits in a thread heap, which its fast paths compare with
 * anyway, are 0 in a profiled heap, and what leaves the fast path for that reason counts and goes
 * on (counted_malloc() in fast_path.h). free: small sampled blocks lie in slabs of a thread heap
 * that is no thread's, so a free of one is never a fast one, and the slow path sees the span's
 * flag.
 *
 * The tables have one lock, which is the last but the spans'. A signal handler over a holder of it
 * goes without: its allocation is not sampled, its free leaves a sample whose block is free (a
 * reader asks whether the block is in use), and which the next sample at that address replaces.
 */
#ifndef PHEAP_HEAP_PROFILE_H
#define PHEAP_HEAP_PROFILE_H

#include <stdbool.h>
#include "core/base/status.h"
#include "core/heap/profile_format.h"

/* Before heap_start(): leaves room in the slot. A hardened heap is not profiled. */
void heap_profile_reserve(void);

/* Writes at most `most` return addresses, the innermost first; returns how many. May allocate.
 * Keeps errno. */
typedef uint32_t heap_stack_walker(uint64_t *frames, uint32_t most);

/* From here on, one allocation in rate_bytes on average is sampled. 0, -ENOMEM, or STATUS_REFUSED:
 * the heap is hardened or was started without room. */
MUST_CHECK int heap_profile_start(uint64_t rate_bytes, heap_stack_walker *walker);

/* NULL: the heap has none. */
static inline struct profile *heap_profile(const struct heap *heap)
{
    return heap->profile_rate_bytes ? (struct profile *)heap->profile.start : NULL;
}

/* Sets a thread heap's limits and countdown as the heap has them. */
void profile_init_thread(const struct heap *heap, struct thread_heap *mine);

/* Counts an allocation; true: it is to be sampled. For a profiled thread heap. */
bool profile_hits(struct heap *heap, struct thread_heap *mine, uint64_t bytes);

/* A small block with a sample; NULL: none could be had, and the caller allocates as ever. */
void *profile_alloc_small(struct heap *heap, uint32_t size_class, uint64_t bytes, bool *is_zero);

/* Notes a sample of a large block that was just allocated. */
void profile_note_large(struct heap *heap, void *block, uint64_t bytes);

/* The block of a span with SPAN_SAMPLED is being freed; holds other bytes. */
void profile_forget(struct heap *heap, const void *block);
void profile_resize(struct heap *heap, const void *block, uint64_t bytes);

/* alloc.c: a block of one of the slabs of `owner`, which need not be the caller's. */
void *alloc_sampled(struct heap *heap, struct thread_heap *owner, uint32_t size_class,
                    bool *is_zero);

#endif
