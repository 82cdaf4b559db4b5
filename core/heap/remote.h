/*
 * remote.h - blocks freed by a thread that does not own their slab.
 *
 * Small ones are gathered in batches, one an owner, in the freeing thread's heap, and put into the
 * owner's inbox (inbox.h) together: when a batch is full, when another owner needs its place, once
 * an epoch, at the thread's end, in malloc_trim(). Where the owner has ended or its inbox is full
 * they go to their slabs' remote lists, as larger ones do at once, and a few of each thread: a
 * block on its way is in use to its slab, and has no mark, so that a second free of it is noticed
 * when its owner comes to free it, and not before.
 */
#ifndef PHEAP_HEAP_REMOTE_H
#define PHEAP_HEAP_REMOTE_H

#include <stdbool.h>
#include "core/heap/heap_format.h"

/* No lock held, but for calls over an interrupted call of ours. */
void remote_free(struct heap *heap, struct span *slab, void *block);

static inline bool remote_may_gather(const struct thread_heap *mine)
{
    return (mine->batching | mine->singles_left) == 0;
}

/* The same of a block that goes into a batch of the calling thread's heap: it may gather. */
void remote_gather(struct thread_heap *mine, const struct span *slab, void *block);

/* Of larger blocks few pass from thread to thread, and a batch of them would be much memory. */
#define REMOTE_CLASS_MAX 31 /* 1,024 bytes */

/* So many of the blocks of others that a thread frees in one epoch, a quarter of a second, go to
 * their slabs at once, where a second free finds them. */
#define REMOTE_SINGLES_AN_EPOCH 256

/* All batches of a thread heap: the calling thread's, or one that no thread has any more. */
void remote_post(struct heap *heap, struct thread_heap *mine);

/* In the child of fork, of a heap whose thread is gone: a batch that it was posting is lost. */
void remote_fork_child(struct heap *heap, struct thread_heap *other);

/* Whether some thread's batch or inbox holds the block. As slab_finds_free(). */
bool remote_finds_free(const struct heap *heap, const void *block);

#endif
