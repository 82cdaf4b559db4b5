/*
 * kept.c - see kept.h.
 *
 * Always true: a place holds 0 or the first slice of a span of kind ASIDE that is in no other place
 * and in no bin. In the child of a fork a span on its way into or out of a place of another thread
 * may be lost.
 */
#include "core/heap/kept.h"

#include "core/heap/slot.h"
#include "core/heap/spans.h"

static void span_set_kind(struct span *span, enum span_kind kind)
{
    __atomic_store_n(&span->kind, (uint8_t)kind, __ATOMIC_RELAXED);
}

/* Only who finds the slice still in its place has the span. */
static bool place_empty(uint32_t *place, uint32_t slice)
{
    return __atomic_compare_exchange_n(place, &slice, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Of a span that may be freed at this moment: any number then, and the place will be found empty.
 * That is a race by design, which ThreadSanitizer need not see. */
__attribute__((no_sanitize("thread"))) static uint32_t slices_unless_freed(const struct span *span)
{
    return __atomic_load_n(&span->slices, __ATOMIC_RELAXED);
}

struct span *kept_take(struct heap *heap, uint32_t slices)
{
    uint32_t *places = heap_thread->kept;

    for (int i = 0; i < KEPT_SPANS; i++) {
        uint32_t slice = __atomic_load_n(&places[i], __ATOMIC_RELAXED);
        struct span *span = heap_span(heap, slice);

        if (slice == 0 || slices_unless_freed(span) - slices > slices / 8 ||
            !place_empty(&places[i], slice))
            continue;
        span->flags |= LARGE_REUSED;
        span_set_kind(span, SPAN_LARGE);
        return span;
    }
    return NULL;
}

static void span_give_back(struct heap *heap, uint32_t slice)
{
    struct span *span = heap_span(heap, slice);

    spans_free(heap, span, span->slices);
}

bool kept_put(struct heap *heap, struct span *span)
{
    struct thread_heap *mine = heap_thread;
    uint32_t older;

    if (mine == &heap_thread_none || span->slices > KEPT_SLICES_MAX)
        return false;
    span_set_kind(span, SPAN_ASIDE);
    __atomic_store_n(&span->freed_epoch, __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    older = __atomic_exchange_n(&mine->kept[mine->kept_next++ % KEPT_SPANS],
                                heap_slice_of(heap, span), __ATOMIC_ACQ_REL);
    if (older)
        span_give_back(heap, older);
    return true;
}

static void place_flush(struct heap *heap, uint32_t *place, uint32_t min_epochs)
{
    uint32_t slice = __atomic_load_n(place, __ATOMIC_ACQUIRE);
    uint64_t epoch = __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED), freed;

    if (slice == 0)
        return;
    /* If its thread takes it meanwhile this may be any number, and the place is empty. */
    freed = __atomic_load_n(&heap_span(heap, slice)->freed_epoch, __ATOMIC_RELAXED);
    if (epoch - freed >= min_epochs && place_empty(place, slice))
        span_give_back(heap, slice);
}

void kept_flush(struct heap *heap, uint32_t min_epochs)
{
    uint32_t count = __atomic_load_n(&heap->thread_heap_count, __ATOMIC_ACQUIRE);

    for (uint32_t i = 0; i < count; i++)
        for (int place = 0; place < KEPT_SPANS; place++)
            place_flush(heap, &heap_thread_heap(heap, i)->kept[place], min_epochs);
}
