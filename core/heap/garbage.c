/*
 * garbage.c - heap_each_garbage(), see heap.h: which memory of the heap nobody will read.
 *
 * The caller is no thread of the program: it takes no lock, and nobody waits for it. Three things
 * make what it says true when all threads stand still:
 *   - spans_lock is free, so no run is between the bins and its user;
 *   - a span that is found in its thread's place is free, whatever the thread will do next; what it
 *     holds is asked for by nobody (LARGE_REUSED);
 *   - who carves blocks of a slab writes to them before it says so in carved_bytes, but never
 * beyond the page that carved_bytes points into (slab_carve()): that page is not told. While
 * threads run what is read may be of any moment. It is checked for making sense, so that nothing
 * outside the descriptors is touched and the walk ends; it may still be wrong.
 */
#include "core/base/sys.h"
#include "core/heap/dirty_bits.h"
#include "core/heap/heap.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"

#define RUNS_MAX 8192u /* looked at: bounds the time of a heap in pieces */

struct telling {
    const struct heap *heap;
    heap_garbage_visit *visit;
    void *context;
};

static bool makes_sense(const struct heap *heap, uint32_t slice, const struct span *span)
{
    uint32_t top = heap->top;

    return slice >= heap->data_slice && slice < top && span->slices > 0 &&
           span->slices <= top - slice;
}

/* Of a free run that reads as zero throughout there is nothing to leave out. */
static bool tell_run(const struct telling *telling, uint32_t slice, uint32_t slices)
{
    const struct heap *heap = telling->heap;
    uint32_t end = slice + slices, first = dirty_find(heap, slice, end, true);

    return first == end || telling->visit(telling->context, heap_slice_address(heap, first),
                                          heap_slice_address(heap, end));
}

/* The longest first. */
static bool tell_free_runs(const struct telling *telling)
{
    const struct heap *heap = telling->heap;
    uint32_t left = RUNS_MAX;

    for (uint32_t bin = RUN_BINS; bin-- > 0;) {
        uint32_t slice = heap->bins[bin];

        for (; slice && left > 0; left--) {
            /* A copy: the program may be changing it. */
            const struct span run = *heap_span(heap, slice < heap->top ? slice : 0);

            if (run.kind != SPAN_FREE || !makes_sense(heap, slice, &run))
                break;
            if (!tell_run(telling, slice, run.slices))
                return false;
            slice = run.next;
        }
    }
    return true;
}

/* What was never carved of a slab that lies where something else was before. */
static bool tell_uncarved(const struct telling *telling, const struct span *slab)
{
    const struct heap *heap = telling->heap;
    uint32_t slice = heap_slice_of(heap, slab);
    const struct span span = *slab;
    uint64_t start, from, end;

    if (span.kind != SPAN_SLAB || (span.flags & SLAB_FRESH_ZERO) ||
        !makes_sense(heap, slice, &span))
        return true;
    start = heap_slice_address(heap, slice);
    from =
        start + (((uint64_t)span.first_offset + span.carved_bytes) / PAGE_BYTES + 1) * PAGE_BYTES;
    end = start + ((uint64_t)span.slices << SLICE_SHIFT);
    return from >= end || telling->visit(telling->context, from, end);
}

static bool tell_kept_span(const struct telling *telling, uint32_t slice)
{
    const struct heap *heap = telling->heap;
    const struct span span = *heap_span(heap, slice < heap->top ? slice : 0);
    uint64_t start = heap_slice_address(heap, slice);

    return span.kind != SPAN_ASIDE || !makes_sense(heap, slice, &span) ||
           telling->visit(telling->context, start, start + ((uint64_t)span.slices << SLICE_SHIFT));
}

/* Spans that the thread has freed and keeps at hand. */
static bool tell_kept(const struct telling *telling, const struct thread_heap *thread)
{
    const uint32_t *places = &thread->kept[0][0];

    for (uint32_t i = 0; i < KEPT_PLACES; i++)
        if (places[i] != 0 && !tell_kept_span(telling, places[i]))
            return false;
    return true;
}

/* Slabs that are carved are their thread heap's current ones. */
static bool tell_thread_heap(const struct telling *telling, const struct thread_heap *thread)
{
    const struct heap *heap = telling->heap;
    uintptr_t first = (uintptr_t)heap_span(heap, heap->data_slice);
    uintptr_t end = (uintptr_t)heap_span(heap, heap->top);

    if (thread->state == THREAD_HEAP_UNUSED)
        return true;
    if (!tell_kept(telling, thread))
        return false;
    for (uint32_t i = 0; i < SIZE_CLASSES; i++) {
        uintptr_t slab = (uintptr_t)thread->current[i];

        if (slab < first || slab >= end || (slab - first) % sizeof(struct span))
            continue; /* the empty slab */
        if (!tell_uncarved(telling, (const struct span *)slab))
            return false;
    }
    return true;
}

static bool tell_slabs(const struct telling *telling)
{
    const struct heap *heap = telling->heap;
    uint64_t committed = heap->thread_heaps.committed_end - heap->thread_heaps.start;

    for (uint32_t i = 0; i < heap->thread_heap_count; i++)
        if ((i + 1ull) * THREAD_HEAP_STRIDE > committed ||
            !tell_thread_heap(telling, heap_thread_heap(heap, i)))
            return false;
    return true;
}

bool heap_each_garbage(heap_garbage_visit *visit, void *context)
{
    const struct telling telling = {heap_here(), visit, context};
    const struct heap *heap = telling.heap;

    if (heap == NULL || heap->mode != HEAP_PLAIN || heap->magic != HEAP_MAGIC)
        return true;
    if (__atomic_load_n(&heap->spans_lock.word, __ATOMIC_ACQUIRE) != 0)
        return false;
    return tell_free_runs(&telling) && tell_slabs(&telling);
}
