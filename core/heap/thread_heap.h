/*
 * thread_heap.h - the heaps of threads: attached at a thread's first slow allocation, left to be
 * adopted at its end, stolen from when dead.
 *
 * A thread heap's structure is never freed. A dead one is taken over whole by the next new thread,
 * slabs and all; until then any thread that frees a block of one of its slabs tends it, and a
 * thread that needs a slab may steal one.
 *
 * Order: threads_lock, then one thread heap's lock, then spans_lock. No thread waits for
 * threads_lock while it holds its own heap's lock.
 */
#ifndef PHEAP_HEAP_THREAD_HEAP_H
#define PHEAP_HEAP_THREAD_HEAP_H

#include <stdbool.h>
#include "core/base/status.h"
#include "core/heap/heap_format.h"

/* The calling thread's heap; made or adopted if it has none yet. NULL: no memory. */
struct thread_heap *thread_heap_attach(struct heap *heap);

/* One that is no thread's and never dies. NULL: no memory. */
struct thread_heap *thread_heap_make_shared(struct heap *heap);

/* Under its lock: takes full slabs back that got free blocks; a dead heap's inbox too. */
void thread_heap_drain(struct heap *heap, struct thread_heap *owner);

/* Under its lock: releases slabs with no block in use. */
void thread_heap_collect(struct heap *heap, struct thread_heap *owner);

/* After a remote free: tell the owner, and do its work if it is dead. No lock held. slab: null if
 * it was none, but the owner's inbox. */
void thread_heap_notify(struct heap *heap, struct span *full_slab);
void thread_heap_tend(struct heap *heap, struct thread_heap *owner, struct span *slab);

/* Under the lock of a dead heap: a slab of its that is not full goes with its last block. */
void thread_heap_tend_slab(struct heap *heap, struct thread_heap *dead, struct span *slab);

/* A partial slab of a dead heap, now `thief`'s and CURRENT in flags, in no list. NULL: none
 * found. No lock held. */
struct span *thread_heap_steal(struct heap *heap, struct thread_heap *thief, uint32_t size_class);

/* Collects in all dead heaps that are not being worked on. */
void thread_heap_collect_dead(struct heap *heap);

#endif
