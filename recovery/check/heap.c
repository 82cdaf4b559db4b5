/*
 * heap.c - the heap's metadata in a generation: header, areas, spans, free runs, thread heaps.
 *
 * A generation may have been cut while threads were inside malloc. What a lock guards is looked at
 * only if nobody held it then; what threads change without a lock is never checked for more than
 * is true between any two of their instructions.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/tx/tx_format.h"
#include "recovery/check/heap_view.h"

#define USER_SPACE_END 0x800000000000ull

/* --- header --- */

static bool check_area(struct heap_view *view, const struct area *area, size_t at,
                       uint64_t start_wanted)
{
    uint64_t end = view->base + view->heap.reserve_bytes;
    bool is_right = area->start == start_wanted && area->start % PAGE_BYTES == 0 &&
                    area->start <= area->committed_end && area->committed_end <= area->limit &&
                    area->limit <= end;

    if (!is_right)
        heap_tell(view, HP_AREA, view->base + at, "an area behind the one before, in the slot",
                  "0x%lx .. 0x%lx .. 0x%lx", area->start, area->committed_end, area->limit);
    return is_right;
}

static bool check_extent(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    uint64_t described = (heap->spans.committed_end - heap->spans.start) / sizeof(struct span);
    uint64_t data_slice = (heap->data.start - view->base) >> SLICE_SHIFT;
    uint64_t top_end = view->base + ((uint64_t)heap->top << SLICE_SHIFT);
    bool is_right = heap->data.start % SLICE_BYTES == 0 && heap->data_slice == data_slice &&
                    heap->slice_count == heap->reserve_bytes >> SLICE_SHIFT &&
                    heap->top >= heap->data_slice && heap->top <= heap->slice_count &&
                    top_end <= heap->data.committed_end &&
                    (heap->top == heap->data_slice || heap->top <= described);

    if (!is_right)
        heap_tell(view, HP_EXTENT, view->base + __builtin_offsetof(struct heap, slice_count),
                  "slices that areas have room for", "%u of %u slices from %u on, %lu described",
                  heap->top, heap->slice_count, heap->data_slice, described);
    return is_right;
}

static bool is_opened_heap(const struct heap_view *view)
{
    return view->heap.magic == TX_MAGIC;
}

static bool check_header(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    bool is_heap = heap->magic == HEAP_MAGIC && heap->reserve_bytes <= SLOT_BYTES &&
                   SLOT_BASE(heap->slot) == view->base && heap->mode <= HEAP_ANNOUNCED;

    if (heap->magic == HEAP_MAGIC && heap->version != HEAP_VERSION)
        heap_tell(view, heap->version ? HP_VERSION : HP_HEADER, view->base,
                  "the version that this pheap knows", "%u", heap->version);
    else if (!is_heap && !is_opened_heap(view))
        heap_tell(view, HP_HEADER, view->base, "the header of a heap in this slot",
                  "magic 0x%lx, slot %u, %lu bytes, mode %u", heap->magic, heap->slot,
                  heap->reserve_bytes, heap->mode);
    return is_heap && heap->version == HEAP_VERSION;
}

/* slot.c: data begins at a slice, the others one behind the other. */
static bool check_areas(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    uint64_t data_start = (heap->thread_heaps.limit + SLICE_BYTES - 1) & ~(SLICE_BYTES - 1ull);

    return check_area(view, &heap->spans, __builtin_offsetof(struct heap, spans),
                      view->base + SPANS_OFFSET) &&
           check_area(view, &heap->dirty_bits, __builtin_offsetof(struct heap, dirty_bits),
                      heap->spans.limit) &&
           check_area(view, &heap->thread_heaps, __builtin_offsetof(struct heap, thread_heaps),
                      heap->dirty_bits.limit) &&
           check_area(view, &heap->data, __builtin_offsetof(struct heap, data), data_start) &&
           check_area(view, &heap->free_bits, __builtin_offsetof(struct heap, free_bits),
                      heap->data.limit) &&
           check_extent(view);
}

/* --- locks --- */

/* lock.h: the holder is an address of the program's, and bit 0 says that somebody waits. */
void check_holder(struct heap_view *view, uint64_t address)
{
    uint64_t holder;

    heap_view_read(view, &holder, sizeof holder, address);
    if (holder != 0 && (holder < PAGE_BYTES || holder >= USER_SPACE_END))
        heap_tell(view, HP_LOCK, address, "0, or an address of a thread", "0x%lx", holder);
}

static void check_locks(struct heap_view *view)
{
    check_holder(view, view->base + __builtin_offsetof(struct heap, spans_lock));
    check_holder(view, view->base + __builtin_offsetof(struct heap, threads_lock));
    check_holder(view, view->base + __builtin_offsetof(struct heap, fork_holder));
    check_holder(view, view->base + __builtin_offsetof(struct heap, purge_holder));
}

/* --- thread heaps --- */

/* Those that wait for another thread to take them, each named by its number plus 1. */
static void check_dead_list(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    uint32_t count = 0, next = heap->first_dead;

    while (next != 0 && next <= heap->thread_heap_count && count <= heap->dead_count) {
        struct thread_heap thread;

        heap_view_read(view, &thread, sizeof thread,
                       heap->thread_heaps.start + (next - 1ull) * THREAD_HEAP_STRIDE);
        if (thread.state != THREAD_HEAP_DEAD)
            break;
        next = thread.next_dead;
        count++;
    }
    if (next != 0 || count != heap->dead_count)
        heap_tell(view, HP_THREADS, view->base + __builtin_offsetof(struct heap, first_dead),
                  "a list of all thread heaps that are dead", "number %u after %u of %u", next,
                  count, heap->dead_count);
}

static void check_threads(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    uint64_t committed = heap->thread_heaps.committed_end - heap->thread_heaps.start;

    if (view_is_locked(view, view->base + __builtin_offsetof(struct heap, threads_lock)))
        return;
    if (heap->thread_heap_count > committed / THREAD_HEAP_STRIDE) {
        heap_tell(view, HP_THREADS, view->base + __builtin_offsetof(struct heap, thread_heap_count),
                  "as many as their area has room for", "%u", heap->thread_heap_count);
        return;
    }
    for (uint32_t i = 0; i < heap->thread_heap_count; i++) {
        uint64_t address = heap->thread_heaps.start + (uint64_t)i * THREAD_HEAP_STRIDE;
        struct thread_heap thread;

        heap_view_read(view, &thread, sizeof thread, address);
        check_holder(view, address + __builtin_offsetof(struct thread_heap, lock));
        if (thread.state > THREAD_HEAP_SHARED || thread.index != i)
            heap_tell(view, HP_THREADS, address, "its own number and a state that there is",
                      "number %u, state %u", thread.index, thread.state);
        if (thread.inbox_reserved - thread.inbox_taken > INBOX_BLOCKS)
            heap_tell(view, HP_THREADS, address, "no more in its inbox than there is room for",
                      "%lu put, %lu taken", thread.inbox_reserved, thread.inbox_taken);
    }
    check_dead_list(view);
}

/* --- spans --- */

static void check_large(struct heap_view *view, uint32_t slice, const struct span *span)
{
    uint64_t bytes = (uint64_t)span->slices << SLICE_SHIFT;

    if (span->block_offset > bytes || span->large_bytes > bytes - span->block_offset)
        heap_tell(view, HP_LARGE, view_slice_address(view, slice), "no more than its span",
                  "%lu bytes at offset %u in %u slices", span->large_bytes, span->block_offset,
                  span->slices);
}

static void check_inside(struct heap_view *view, uint32_t slice, const struct span *span)
{
    for (uint32_t i = 1; i < span->slices && i < SLAB_SLICES_MAX; i++) {
        struct span part = view_span(view, slice + i);

        if (part.kind == SPAN_INSIDE && part.slices == i)
            continue;
        heap_tell(view, HP_INSIDE, view_slice_address(view, slice + i), "a part of the slab before",
                  "kind %u, distance %u instead of %u", part.kind, part.slices, i);
        return;
    }
}

static void check_free_run(struct heap_view *view, uint32_t slice, const struct span *run)
{
    struct span last;

    view->free_runs++;
    view->free_slices += run->slices;
    if (run->slices == 1)
        return;
    last = view_span(view, slice + run->slices - 1);
    if (last.kind != SPAN_FREE_END || last.slices != run->slices)
        heap_tell(view, HP_RUN, view_slice_address(view, slice), "an end of the same length",
                  "kind %u, length %u at the end of %u slices", last.kind, last.slices,
                  run->slices);
}

static bool check_span(struct heap_view *view, uint32_t slice, const struct span *span)
{
    switch (span->kind) {
    case SPAN_SLAB:
        check_inside(view, slice, span);
        check_slab(view, slice, span);
        return true;
    case SPAN_HARD_SLAB:
        check_inside(view, slice, span);
        check_hard_slab(view, slice, span);
        return true;
    case SPAN_LARGE:
    case SPAN_HARD_LARGE:
        check_large(view, slice, span);
        return true;
    case SPAN_FREE:
        check_free_run(view, slice, span);
        return true;
    default:
        return span->kind == SPAN_ASIDE;
    }
}

/* False: the chain is broken, and what follows cannot be told apart. */
static bool check_spans(struct heap_view *view)
{
    uint32_t top = view->heap.top;

    for (uint32_t slice = view->heap.data_slice; slice < top;) {
        struct span span = view_span(view, slice);

        if (span.slices == 0 || span.slices > top - slice || !check_span(view, slice, &span)) {
            heap_tell(view, HP_SPAN, view_slice_address(view, slice), "a span that begins here",
                      "kind %u, %u slices", span.kind, span.slices);
            return false;
        }
        slice += span.slices;
    }
    return true;
}

/* --- free runs --- */

/* Each free run is in one list, so no list is longer than there are runs. */
static bool check_bin(struct heap_view *view, uint32_t bin, uint64_t *runs, uint64_t *slices)
{
    uint32_t previous = 0;

    for (uint32_t slice = view->heap.bins[bin]; slice != 0;) {
        bool is_inside = slice >= view->heap.data_slice && slice < view->heap.top;
        struct span run = view_span(view, is_inside ? slice : 0);

        if (!is_inside || run.kind != SPAN_FREE || run.slices >> bin != 1 || run.prev != previous ||
            (*runs)++ == view->free_runs) {
            heap_tell(view, HP_BIN, view_slice_address(view, is_inside ? slice : 0),
                      "the next free run of its length", "bin %u, slice %u: kind %u, %u slices",
                      bin, slice, run.kind, run.slices);
            return false;
        }
        *slices += run.slices;
        previous = slice;
        slice = run.next;
    }
    return true;
}

static void check_bins(struct heap_view *view)
{
    const struct heap *heap = &view->heap;
    uint64_t runs = 0, slices = 0;

    for (uint32_t bin = 0; bin < RUN_BINS; bin++) {
        if ((heap->bins_used >> bin & 1) != (heap->bins[bin] != 0)) {
            heap_tell(view, HP_BIN, view->base + __builtin_offsetof(struct heap, bins_used),
                      "a bit for every bin that has a run", "bins 0x%x, bin %u begins with %u",
                      heap->bins_used, bin, heap->bins[bin]);
            return;
        }
        if (!check_bin(view, bin, &runs, &slices))
            return;
    }
    if (runs != view->free_runs || slices != view->free_slices || slices != heap->free_slices)
        heap_tell(view, HP_BIN, view->base + __builtin_offsetof(struct heap, free_slices),
                  "as many free slices in the lists as in memory",
                  "%lu listed, %lu in memory, %lu counted", slices, view->free_slices,
                  heap->free_slices);
}

/* --- in order --- */

/* A program that has not allocated yet has a slot without pages, or with an empty one. */
static bool has_heap(struct heap_view *view)
{
    static const struct heap nothing;

    return view->page_count > 0 && memcmp(&view->heap, &nothing, sizeof nothing) != 0;
}

static int check_own_heap(struct heap_view *view)
{
    if (!has_heap(view) || !check_header(view) || !check_areas(view))
        return 0;
    check_locks(view);
    check_threads(view);
    if (!view_is_locked(view, view->base + __builtin_offsetof(struct heap, spans_lock)) &&
        check_spans(view))
        check_bins(view);
    return check_profile(view);
}

static int check_view(struct heap_view *view)
{
    const struct log_place *log = &view->checking->result->super.log;
    uint64_t number = check_entry(view->checking, view->index)->number;

    heap_view_read(view, &view->heap, sizeof view->heap, view->base);
    if (is_opened_heap(view))
        return check_opened_heap(view, log->extent_count > 0 && log->generation == number &&
                                           !view->checking->result->log_is_damaged);
    return check_own_heap(view);
}

static int check_heap(struct checking *checking, uint32_t index)
{
    struct heap_view *view = malloc(sizeof *view);
    int status = view ? heap_view_open(view, checking, index) : -ENOMEM;

    if (status == 0)
        status = check_view(view);
    if (view != NULL)
        heap_view_close(view);
    free(view);
    return status;
}

/* The newest that is no crash image, unless all are asked for. One that is damaged already has
 * pages that say nothing. */
int check_heaps(struct checking *checking)
{
    const struct superblock *super = &checking->result->super;
    bool all = checking->request->heaps == HEAPS_OF_ALL;
    bool looked = checking->request->heaps == HEAPS_OF_NONE;

    for (uint32_t i = super->generation_count; i-- > 0;) {
        if (!check_looks_at(checking, i) || checking->result->damaged >> i & 1 ||
            (super->generations[i].kind == GENERATION_CRASH && !all) || (looked && !all))
            continue;
        if (check_heap(checking, i) < 0)
            return problem_set(checking->why, -ENOMEM, "no memory to check the heap in '%s'",
                               checking->request->path);
        looked = true;
    }
    return 0;
}
