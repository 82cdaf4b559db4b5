/*
 * kept.c - see kept.h.
 *
 * Always true: a place holds 0 or a span of kind ASIDE that is in no other place and in no bin; a
 * thread's places hold KEPT_SLICES_IN_ALL slices at most. Its thread alone fills a place. In
 * the child of a fork a span on its way into or out of a place of another thread may be lost.
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

static struct span *take_of_length(struct heap *heap, uint32_t *places)
{
    for (int i = 0; i < KEPT_OF_A_LENGTH; i++) {
        uint32_t slice = __atomic_load_n(&places[i], __ATOMIC_RELAXED);

        if (slice != 0 && place_empty(&places[i], slice))
            return heap_span(heap, slice);
    }
    return NULL;
}

struct span *kept_take(struct heap *heap, uint32_t slices)
{
    struct thread_heap *mine = heap_thread;
    struct span *span = NULL;

    if (mine == &heap_thread_none)
        return NULL;
    for (uint32_t length = slices;
         span == NULL && length <= slices + slices / 8 && length <= KEPT_SLICES_MAX; length++)
        span = take_of_length(heap, mine->kept[length - 1]);
    if (span == NULL)
        return NULL;
    mine->kept_slices -= span->slices;
    span->flags |= LARGE_REUSED;
    span_set_kind(span, SPAN_LARGE);
    return span;
}

static void span_give_back(struct heap *heap, uint32_t slice)
{
    struct span *span = heap_span(heap, slice);

    spans_free(heap, span, span->slices);
}

static uint32_t count_slices(const struct thread_heap *mine)
{
    uint32_t slices = 0;

    for (uint32_t length = 1; length <= KEPT_SLICES_MAX; length++)
        for (int i = 0; i < KEPT_OF_A_LENGTH; i++)
            if (__atomic_load_n(&mine->kept[length - 1][i], __ATOMIC_RELAXED) != 0)
                slices += length;
    return slices;
}

/* Gives spans back, those of one place after the other's, until no more than the limit are kept. */
static void keep_fewer(struct heap *heap, struct thread_heap *mine)
{
    uint32_t *places = &mine->kept[0][0];

    mine->kept_slices = count_slices(mine);
    for (int n = 0; n < KEPT_PLACES && mine->kept_slices > KEPT_SLICES_IN_ALL; n++) {
        uint32_t i = mine->kept_next++ % (KEPT_PLACES);
        uint32_t slice = __atomic_exchange_n(&places[i], 0, __ATOMIC_ACQ_REL);

        if (slice == 0)
            continue;
        span_give_back(heap, slice);
        mine->kept_slices -= i / KEPT_OF_A_LENGTH + 1;
    }
}

/* Of spans of one length: an empty place, or one whose span makes room. */
static uint32_t *place_for(struct thread_heap *mine, uint32_t length)
{
    uint32_t *places = mine->kept[length - 1];

    for (int i = 0; i < KEPT_OF_A_LENGTH; i++)
        if (__atomic_load_n(&places[i], __ATOMIC_RELAXED) == 0)
            return &places[i];
    return &places[mine->kept_next++ % KEPT_OF_A_LENGTH];
}

bool kept_put(struct heap *heap, struct span *span)
{
    struct thread_heap *mine = heap_thread;
    uint32_t slices = span->slices, older;

    if (mine == &heap_thread_none || slices > KEPT_SLICES_MAX)
        return false;
    span_set_kind(span, SPAN_ASIDE);
    __atomic_store_n(&span->kept_epoch, __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    older =
        __atomic_exchange_n(place_for(mine, slices), heap_slice_of(heap, span), __ATOMIC_ACQ_REL);
    if (older)
        span_give_back(heap, older);
    else
        mine->kept_slices += slices;
    if (mine->kept_slices > KEPT_SLICES_IN_ALL)
        keep_fewer(heap, mine);
    return true;
}

static void place_flush(struct heap *heap, uint32_t *place, uint32_t min_epochs)
{
    uint32_t slice = __atomic_load_n(place, __ATOMIC_ACQUIRE);
    uint64_t epoch = __atomic_load_n(&heap->epoch, __ATOMIC_RELAXED), freed;

    if (slice == 0)
        return;
    /* If its thread takes it meanwhile this may be any number, and the place is empty. */
    freed = __atomic_load_n(&heap_span(heap, slice)->kept_epoch, __ATOMIC_RELAXED);
    if (epoch - freed >= min_epochs && place_empty(place, slice))
        span_give_back(heap, slice);
}

void kept_flush(struct heap *heap, uint32_t min_epochs)
{
    uint32_t count = __atomic_load_n(&heap->thread_heap_count, __ATOMIC_ACQUIRE);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t *places = &heap_thread_heap(heap, i)->kept[0][0];

        for (int place = 0; place < KEPT_PLACES; place++)
            place_flush(heap, &places[place], min_epochs);
    }
}
