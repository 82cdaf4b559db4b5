/*
 * remote.c - see remote.h.
 *
 * Always true: a batch is a list of `count` linked blocks of its slab, first to last. `batching` is
 * set while its thread changes one; a signal handler that finds it set goes past the batches. In
 * the child of a fork a batch of another thread may have one block more than it says, which is
 * lost.
 */
#include "core/heap/remote.h"

#include "core/heap/heap.h"
#include "core/heap/size_class.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/thread_heap.h"

#define BATCH_BLOCKS 32
/* A thread that only frees has no heap until it has freed so many blocks of others. Not at once:
 * what libc frees when all destructors have run must not make one. */
#define ATTACH_AFTER 64
static __thread uint32_t frees_unattached __attribute__((tls_model("initial-exec")));

static void push(struct heap *heap, struct span *slab, uint64_t *first, uint64_t *last,
                 uint32_t count)
{
    uint64_t owner_word = __atomic_load_n(&slab->owner, __ATOMIC_RELAXED) & ~OWNER_FULL;
    struct thread_heap *owner = (struct thread_heap *)owner_word;

    if (slab_push_remote(slab, first, last, count))
        thread_heap_notify(heap, slab);
    thread_heap_tend(heap, owner, slab);
}

/* Told to the owner, see noted.h. */
static void set_shared(struct span *slab)
{
    if (!__atomic_load_n(&slab->shared, __ATOMIC_RELAXED))
        __atomic_store_n(&slab->shared, 1, __ATOMIC_RELAXED);
}

static void batch_post(struct heap *heap, struct remote_batch *batch)
{
    const struct remote_batch posted = *batch;

    if (posted.count == 0)
        return;
    batch->count = 0;
    push(heap, heap_span(heap, posted.slice), posted.first, posted.last, posted.count);
}

static void batches_post(struct heap *heap, struct thread_heap *mine)
{
    for (uint32_t i = 0; i < REMOTE_BATCHES; i++)
        batch_post(heap, &mine->batches[i]);
    mine->batches_epoch = __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED);
}

/* The first block of a batch, whose place may be another slab's. */
static void batch_begin(struct heap *heap, struct remote_batch *batch, const struct span *slab,
                        uint64_t *block)
{
    batch_post(heap, batch);
    batch->slice = heap_slice_of(heap, slab);
    slab_link(slab, block, NULL);
    batch->first = batch->last = block;
    SLAB_ORDER();
    batch->count = 1;
}

static void batch_add(struct remote_batch *batch, const struct span *slab, uint64_t *block)
{
    block[0] = (uint64_t)batch->first ^ slab->key;
    batch->first = block;
    SLAB_ORDER();
    batch->count++;
}

__attribute__((noinline)) static void gather_slow(struct thread_heap *mine, struct span *slab,
                                                  uint64_t *block, struct remote_batch *batch)
{
    struct heap *heap = heap_here();

    mine->batching = 1;
    SLAB_ORDER();
    if (batch->slice == heap_slice_of(heap, slab) && batch->count > 0)
        batch_add(batch, slab, block);
    else
        batch_begin(heap, batch, slab, block);
    if (batch->count == BATCH_BLOCKS)
        batch_post(heap, batch);
    if (mine->batches_epoch != __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED))
        batches_post(heap, mine);
    SLAB_ORDER();
    mine->batching = 0;
}

void remote_gather(struct thread_heap *mine, struct span *slab, void *block)
{
    uint32_t slice = (uint32_t)((uintptr_t)block % SLOT_BYTES >> SLICE_SHIFT);
    struct remote_batch *batch = &mine->batches[slice % REMOTE_BATCHES];
    bool is_usual = batch->slice == slice && batch->count - 1 < BATCH_BLOCKS - 2 &&
                    mine->batches_epoch == __atomic_load_n(&heap_here()->epoch, __ATOMIC_RELAXED);

    set_shared(slab);
    if (__builtin_expect(!is_usual, 0)) {
        gather_slow(mine, slab, block, batch);
        return;
    }
    mine->batching = 1;
    SLAB_ORDER();
    batch_add(batch, slab, block);
    SLAB_ORDER();
    mine->batching = 0;
}

/* The heap that gathers the block; NULL if it is to go by itself. */
static struct thread_heap *batching_heap(struct heap *heap, const struct span *slab)
{
    struct thread_heap *mine = heap_thread;

    if (slab->size_class > REMOTE_CLASS_MAX)
        return NULL;
    if (mine == &heap_thread_none) {
        if (++frees_unattached < ATTACH_AFTER)
            return NULL;
        frees_unattached = 0;
        mine = thread_heap_attach(heap);
    }
    return mine && !mine->batching ? mine : NULL;
}

void remote_free(struct heap *heap, struct span *slab, void *block)
{
    struct thread_heap *mine = batching_heap(heap, slab);

    set_shared(slab);
    if (mine)
        remote_gather(mine, slab, block);
    else
        push(heap, slab, block, block, 1);
}

void remote_post(struct heap *heap, struct thread_heap *mine)
{
    if (mine->batching)
        return;
    mine->batching = 1;
    SLAB_ORDER();
    batches_post(heap, mine);
    SLAB_ORDER();
    mine->batching = 0;
}

bool remote_finds_free(const struct heap *heap, const struct span *slab, const void *block)
{
    uint32_t slice = heap_slice_of(heap, slab);

    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        const struct remote_batch *batch =
            &heap_thread_heap(heap, i)->batches[slice % REMOTE_BATCHES];

        if (batch->slice == slice && batch->count > 0 &&
            slab_list_has(heap, slab, (uint64_t)batch->first, block))
            return true;
    }
    return false;
}
