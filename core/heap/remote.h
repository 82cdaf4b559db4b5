/*
 * remote.h - blocks freed by a thread that does not own their slab.
 *
 * Small ones are gathered in batches, one a slab, in the freeing thread's heap, and posted to the
 * slab's remote list together: when a batch is full, when another slab needs its place, once an
 * epoch, at the thread's end, in malloc_trim(). To the owner a block in a batch is in use.
 */
#ifndef PHEAP_HEAP_REMOTE_H
#define PHEAP_HEAP_REMOTE_H

#include <stdbool.h>
#include "core/heap/heap_format.h"

/* No lock held, but for calls over an interrupted call of ours. */
void remote_free(struct heap *heap, struct span *slab, void *block);

/* The same of a block that goes into a batch of the calling thread's heap, which is not `batching`.
 */
void remote_gather(struct thread_heap *mine, struct span *slab, void *block);

/* Of larger blocks few pass from thread to thread, and a batch of them would be much memory. */
#define REMOTE_CLASS_MAX 31 /* 1,024 bytes */

/* All batches of a thread heap: the calling thread's, or one that no thread has any more. */
void remote_post(struct heap *heap, struct thread_heap *mine);

/* Whether some thread's batch holds the block. As slab_finds_free(). */
bool remote_finds_free(const struct heap *heap, const struct span *slab, const void *block);

#endif
