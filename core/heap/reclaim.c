/*
 * reclaim.c - see reclaim.h.
 *
 * The program's threads may have been stopped at any instruction, those of the allocator too, and
 * go on from there. So a block is freed as another thread of the program would have done it at that
 * moment:
 *   - of a slab, by the same push to its remote list. It takes no lock, and whatever the owner was
 *     doing, it allows for such pushes. Dead owners are not tended: whoever frees or allocates next
 *     does that.
 *   - of a span of its own, and out of the profile, under the lock for that, which nobody held.
 *
 * A block on its way into a list or out of one is in use by all descriptors, and nobody's: only a
 * register of the thread that moves it knows it, or, of a remote list, not even that. It has the
 * mark of a free block from before it is in the list until after it has left it (heap_format.h), so
 * it is told by that. Blocks in batches and inboxes have no mark; the map of blocks
 * (recovery/view/blocks.c) has them as free. A large one on its way is known to its thread by its
 * descriptor's address: the marker (recovery/view/reach.c) sees to it.
 */
#include "core/heap/reclaim.h"

#include <sys/mman.h>
#include "core/base/sys.h"
#include "core/heap/hardened.h"
#include "core/heap/profile.h"
#include "core/heap/profile_table.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"

int reclaim_ready(const struct heap *heap, struct problem *why)
{
    const struct profile *profile = heap_profile(heap);

    if (heap->mode != HEAP_PLAIN)
        return problem_set(why, STATUS_REFUSED,
                           "the heap is a hardened one (PHEAP_HARDEN, memcheck): what is in it is "
                           "evidence, nothing is freed; `pheap inspect POOL leaks` shows it");
    if (profile && !profile_table_is_valid(heap))
        return problem_set(why, STATUS_DAMAGED,
                           "the table of sampled allocations is damaged, nothing is freed; take an "
                           "older generation");
    if (heap->spans_lock.word || heap->fork_holder || (profile && profile->lock.word))
        return problem_set(why, STATUS_DEFERRED,
                           "a thread was stopped in the middle of an allocation when this "
                           "generation was taken, nothing is freed: resume the program, and try "
                           "again with a later one");
    return 0;
}

/* The span whose block may begin at this address; NULL: it lies in none that has blocks. */
static struct span *span_of(const struct heap *heap, uint64_t address)
{
    uint64_t slice = (address - (uintptr_t)heap) >> SLICE_SHIFT;
    struct span *span;

    if (slice < heap->data_slice || slice >= heap->top)
        return NULL;
    span = heap_span(heap, (uint32_t)slice);
    if (span->kind == SPAN_INSIDE && span->slices <= slice - heap->data_slice)
        span -= span->slices;
    return span->kind == SPAN_SLAB || span->kind == SPAN_LARGE ? span : NULL;
}

static bool slab_holds(const struct heap *heap, const struct span *slab, uint64_t address)
{
    uint64_t offset = address - heap_span_address(heap, slab);
    uint64_t owner = (slab->owner & ~OWNER_FULL) - heap->thread_heaps.start;

    return owner % THREAD_HEAP_STRIDE == 0 &&
           owner / THREAD_HEAP_STRIDE < heap->thread_heap_count && offset < slab->carved_bytes &&
           slab_offset_is_block(slab, (uint32_t)offset) &&
           !slab_looks_free(slab, (const void *)address);
}

bool reclaim_holds(const struct heap *heap, uint64_t address)
{
    const struct span *span = span_of(heap, address);

    if (span == NULL)
        return false;
    return span->kind == SPAN_LARGE ? address == heap_large_block(heap, span)
                                    : slab_holds(heap, span, address);
}

uint64_t reclaim_identity(const struct heap *heap, uint64_t address)
{
    const struct span *span = span_of(heap, address);

    return span && span->kind == SPAN_SLAB ? span->key : 0;
}

static void forget_sample(struct heap *heap, struct span *span, uint64_t address)
{
    if (!(span->flags & SPAN_SAMPLED) || heap_profile(heap) == NULL)
        return;
    if (span->kind == SPAN_LARGE)
        span->flags &= (uint8_t)~SPAN_SAMPLED;
    profile_table_remove(heap, (const void *)address);
}

/* Mapped over, because it may be mapped from the pool; where that fails it stays as it is, which is
 * only larger. */
static void free_large(struct heap *heap, struct span *span)
{
    (void)sys_mmap((void *)heap_span_address(heap, span), slab_bytes(span), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    spans_free(heap, span, span->slices);
}

void reclaim_free(struct heap *heap, uint64_t address)
{
    struct span *span = span_of(heap, address);
    uint64_t *block = (uint64_t *)address;

    forget_sample(heap, span, address);
    if (span->kind == SPAN_LARGE)
        free_large(heap, span);
    else if (slab_push_remote(span, block, block, 1))
        thread_heap_notify(heap, span);
}
