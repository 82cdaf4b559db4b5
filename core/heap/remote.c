/*
 * remote.c - see remote.h.
 *
 * Always true: a batch has `count` blocks, all of slabs that were its owner's when they were freed.
 * `batching` is set while its thread looks at one to change it; a signal handler that finds it set
 * goes past the batches. Blocks that are being posted are in no batch any more, but on the thread's
 * stack: whoever looks at an image of the process and does not find them in an inbox or a list
 * takes them for blocks that the thread still uses.
 */
#include "core/heap/remote.h"

#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/inbox.h"
#include "core/heap/misuse.h"
#include "core/heap/size_class.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/thread_heap.h"

/* A thread that only frees has no heap until it has freed so many blocks of others. Not at once:
 * what libc frees when all destructors have run must not make one. */
#define ATTACH_AFTER 64
static __thread uint32_t frees_unattached __attribute__((tls_model("initial-exec")));

static void push(struct heap *heap, struct span *slab, uint64_t *first, uint64_t *last,
                 uint32_t count)
{
    struct thread_heap *owner = slab_owner(slab);

    slab_set_shared(slab);
    if (slab_push_remote(slab, first, last, count))
        thread_heap_notify(heap, slab);
    thread_heap_tend(heap, owner, slab);
}

struct span *remote_slab(const struct heap *heap, const void *block)
{
    struct span *slab = heap_block_span_checked(heap, block, "free");

    if (slab == NULL || slab->kind != SPAN_SLAB)
        misuse_invalid_pointer(heap, block, "free");
    return slab;
}

static void check_for_doubles(const struct heap *heap, const struct remote_batch *batch)
{
    for (uint64_t i = 1; i < batch->count; i++)
        for (uint64_t j = 0; j < i; j++)
            if (batch->blocks[i] == batch->blocks[j])
                misuse_double_free(heap, heap_block_span((void *)batch->blocks[i]),
                                   (void *)batch->blocks[i]);
}

/* Past the inbox: the owner's thread has ended, or has not looked for long. To the remote lists of
 * their slabs, those of one slab together; nobody will ask later whether one was free already. */
static void batch_push(struct heap *heap, const struct remote_batch *batch)
{
    struct span *slabs[REMOTE_BATCH_BLOCKS];

    check_for_doubles(heap, batch);
    for (uint64_t i = 0; i < batch->count; i++)
        slabs[i] = remote_slab(heap, (void *)batch->blocks[i]);
    for (uint64_t i = 0; i < batch->count; i++) {
        struct span *slab = slabs[i];
        uint64_t *first = NULL;
        uint32_t linked = 0;

        for (uint64_t j = i; slab && j < batch->count; j++) {
            if (slabs[j] != slab)
                continue;
            slab_link(slab, (uint64_t *)batch->blocks[j], first);
            first = (uint64_t *)batch->blocks[j];
            slabs[j] = NULL;
            linked++;
        }
        if (linked > 0)
            push(heap, slab, first, (uint64_t *)batch->blocks[i], linked);
    }
}

static void batch_post(struct heap *heap, struct thread_heap *mine, struct remote_batch *batch)
{
    const struct remote_batch posted = *batch;
    struct thread_heap *owner = (struct thread_heap *)posted.owner;

    if (posted.count == 0)
        return;
    SLAB_ORDER();
    batch->count = 0;
    mine->posting = posted.owner;
    SLAB_ORDER();
    if (inbox_put(owner, posted.blocks, posted.count, &batch->taken))
        thread_heap_tend(heap, owner, NULL);
    else
        batch_push(heap, &posted);
    SLAB_ORDER();
    mine->posting = 0;
}

static void batches_post(struct heap *heap, struct thread_heap *mine)
{
    for (uint32_t i = 0; i < REMOTE_BATCHES; i++)
        batch_post(heap, mine, &mine->batches[i]);
    mine->batches_epoch = __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED);
    mine->singles_left = REMOTE_SINGLES_AN_EPOCH;
}

/* `batching` is set, and is not when it returns. */
__attribute__((noinline)) static void gather_slow(struct thread_heap *mine, uint64_t owner,
                                                  struct remote_batch *batch, void *block)
{
    struct heap *heap = heap_here();

    if (batch->owner != owner || batch->count >= REMOTE_BATCH_BLOCKS) {
        batch_post(heap, mine, batch);
        if (batch->owner != owner)
            batch->taken = 0;
        batch->owner = owner;
    }
    batch->blocks[batch->count] = (uint64_t)block;
    SLAB_ORDER(); /* what is counted is there */
    batch->count++;
    if (mine->batches_epoch != __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED))
        batches_post(heap, mine);
    SLAB_ORDER();
    mine->batching = 0;
}

void remote_gather(struct thread_heap *mine, const struct span *slab, void *block)
{
    uint64_t owner = (uint64_t)slab_owner(slab), count;
    struct remote_batch *batch = &mine->batches[owner / PAGE_BYTES % REMOTE_BATCHES];
    bool is_usual;

    mine->batching = 1;
    SLAB_ORDER();
    count = batch->count;
    is_usual = batch->owner == owner && count < REMOTE_BATCH_BLOCKS &&
               mine->batches_epoch == __atomic_load_n(&heap_here()->epoch, __ATOMIC_RELAXED);
    if (__builtin_expect(!is_usual, 0)) {
        gather_slow(mine, owner, batch, block);
        return;
    }
    batch->blocks[count] = (uint64_t)block;
    SLAB_ORDER();
    batch->count = count + 1;
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
    if (mine == NULL || mine->batching)
        return NULL;
    if (mine->singles_left > 0) {
        mine->singles_left--;
        return NULL;
    }
    return mine;
}

void remote_free(struct heap *heap, struct span *slab, void *block)
{
    struct thread_heap *mine = batching_heap(heap, slab);

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

void remote_fork_child(struct heap *heap, struct thread_heap *other)
{
    other->posting = other->batching = 0;
    remote_post(heap, other);
}

static bool batch_has(const struct remote_batch *batch, const void *block)
{
    for (uint64_t i = 0; i < batch->count && i < REMOTE_BATCH_BLOCKS; i++)
        if (batch->blocks[i] == (uint64_t)block)
            return true;
    return false;
}

static bool batches_have(const struct thread_heap *some, const void *block)
{
    for (uint32_t i = 0; i < REMOTE_BATCHES; i++)
        if (batch_has(&some->batches[i], block))
            return true;
    return false;
}

bool remote_finds_free(const struct heap *heap, const void *block)
{
    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        const struct thread_heap *some = heap_thread_heap(heap, i);

        if (batches_have(some, block) || inbox_has(some, block))
            return true;
    }
    return false;
}
