/*
 * opened_heap.c - see opened_heap.h.
 *
 * True always: the log is applied to private memory; the whole reserve of an opened heap lies in
 * what image_map() has made accessible, so that no span or entry within it can lead to a fault.
 */
#include "recovery/view/opened_heap.h"

#include <errno.h>
#include <string.h>
#include "core/tx/replay.h"
#include "core/tx/slab_shape.h"

_Static_assert((uint64_t)TX_SLICES_MAX *SLICE_BYTES <= SLOT_BYTES, "the reserve lies in the slot");

bool opened_has_log(const struct view *view)
{
    const struct log_place *place = &view->pool.super.log;

    return place->extent_count > 0 && place->generation == view->generation.number;
}

/* --- the log --- */

/* A writer that commits a generation begins its log anew: what was read meanwhile says nothing of
 * damage. What was applied is a state that the heap had. */
static bool has_moved_on(const struct view *view)
{
    struct pool now;
    bool moved;

    if (pool_open(&now, view->pool.path, POOL_READ, NULL) < 0)
        return false;
    moved = now.super.sequence != view->pool.super.sequence;
    pool_close(&now);
    return moved;
}

int opened_apply_log(struct view *view, struct problem *why)
{
    struct slot_memory memory = {.base = view_slot_base(view),
                                 .reserve_bytes = (uint64_t)TX_SLICES_MAX * SLICE_BYTES,
                                 .slices = TX_SLICES_MAX,
                                 .slices_max = TX_SLICES_MAX};
    struct problem found = {0};
    struct promises promises;
    struct arena scratch;
    struct log log;
    int status;

    if (!opened_has_log(view))
        return 0;
    status = arena_create(&scratch, 16ull << 30);
    if (status < 0)
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    log_begin(&log, &view->pool);
    status = replay_log(&log, &memory, &scratch, &promises, &found);
    view->log_records = log.records;
    view->log_bytes = log.bytes;
    for (const struct promise *at = promises.first; at; at = at->next)
        view->log_in_doubt++;
    arena_destroy(&scratch);
    if (status == STATUS_DAMAGED) {
        view->log_is_damaged = !has_moved_on(view);
        return 0;
    }
    if (status < 0 && why)
        *why = found;
    return status;
}

/* In the file, of the record that was read last. */
static uint64_t offset_of(const struct log *log)
{
    const struct log_extent *extent = &log->pool->super.log.extents[log->last_extent];

    return (extent->frame << FRAME_SHIFT) + log->last_at;
}

int opened_each_record(struct view *view, opened_record_visit *visit, void *context,
                       bool *is_damaged, struct problem *why)
{
    uintptr_t mark = arena_mark(&view->arena);
    const struct log_record *record;
    struct log log;
    int status = 0;
    bool goes_on = true;

    *is_damaged = false;
    if (!opened_has_log(view))
        return 0;
    log_begin(&log, &view->pool);
    while (goes_on && status >= 0) {
        status = log_next(&log, &view->arena, &record);
        if (status != 1)
            break;
        goes_on = visit(context, record, offset_of(&log));
        arena_rewind(&view->arena, mark);
    }
    if (status == 0 && goes_on)
        *is_damaged = log_has_later(&log, &view->arena) == 1 && !has_moved_on(view);
    arena_rewind(&view->arena, mark);
    return status < 0 ? problem_set(why, status, "cannot read the log of pool '%s': %s",
                                    view->pool.path, status_text(status))
                      : 0;
}

int opened_judge(const struct view *view, const char *not_done, struct problem *why)
{
    if (view->damaged_heap_pages || view->log_is_damaged)
        return problem_set(why, STATUS_DAMAGED,
                           "%s: the heap is damaged, %s; `pheap recover --check` says more",
                           view->pool.path, not_done);
    if (view->log_in_doubt)
        return problem_set(why, STATUS_IN_DOUBT,
                           "%s: the heap waits for another pool's decision, %s: open it, or settle "
                           "that with `pheap recover --resolve`",
                           view->pool.path, not_done);
    return 0;
}

/* --- spans --- */

/* Pages of the table that nobody has written show zeroes, whole pages at a time. */
uint32_t opened_top(const struct view *view)
{
    const struct tx_span *spans = opened_span(view, 0);
    uint32_t top = TX_SLICES_MAX;

    while (top > TX_DATA_SLICE && spans[top - 1].kind == TX_NONE)
        top--;
    if (top > TX_DATA_SLICE && spans[top - 1].kind == TX_LARGE) { /* INSIDE of one is NONE */
        uint64_t end = (uint64_t)top - 1 + spans[top - 1].slices;

        top = end > top && end <= TX_SLICES_MAX ? (uint32_t)end : top;
    }
    return top;
}

static uint32_t slab_slices(const struct tx_span *span, uint32_t left)
{
    uint32_t slices = span->size_class < TX_CLASSES ? slab_shape_of(span->size_class).slices : 0;

    if (slices == 0 || slices > left)
        return 0;
    for (uint32_t i = 1; i < slices; i++)
        if (span[i].kind != TX_INSIDE || span[i].slices != i)
            return 0;
    return slices;
}

static uint32_t large_slices(const struct tx_span *span, uint32_t left)
{
    uint64_t slices = (span->bytes + SLICE_BYTES - 1) >> SLICE_SHIFT;

    if (span->bytes == 0 || span->bytes > (uint64_t)left << SLICE_SHIFT || slices != span->slices)
        return 0;
    for (uint32_t i = 1; i < slices; i++)
        if (span[i].kind != TX_NONE)
            return 0;
    return (uint32_t)slices;
}

uint32_t opened_span_slices(const struct view *view, uint32_t slice, uint32_t top)
{
    const struct tx_span *span = opened_span(view, slice);

    switch (span->kind) {
    case TX_NONE:
        return 1;
    case TX_SLAB:
        return slab_slices(span, top - slice);
    case TX_LARGE:
        return large_slices(span, top - slice);
    default:
        return 0;
    }
}

/* --- roots --- */

void opened_each_root(const struct view *view, opened_root_visit *visit, void *context)
{
    const struct tx_root *roots = (const struct tx_root *)(view_slot_base(view) + TX_ROOTS_OFFSET);

    for (uint32_t i = 0; view->is_opened && i < TX_ROOTS; i++) {
        char name[TX_NAME_BYTES + 1] = "";

        memcpy(name, roots[i].name, TX_NAME_BYTES);
        if (name[0])
            visit(context, name, roots[i].address, roots[i].type);
    }
}
