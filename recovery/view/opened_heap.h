/*
 * opened_heap.h - a heap that programs open by path (core/tx), as a view shows it: its generation,
 * and for the newest one the log applied to it, as the next pheap_open() would do.
 *
 * After view_map_heap(). Nothing of the slot is believed: spans that contradict each other are
 * STATUS_DAMAGED, roots may lead anywhere. A log that breaks off is applied up to there, and
 * view->log_is_damaged says so. What was promised to a transaction across heaps and is not settled
 * in the log is left out, and counted (view->log_in_doubt).
 */
#ifndef PHEAP_RECOVERY_VIEW_OPENED_HEAP_H
#define PHEAP_RECOVERY_VIEW_OPENED_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include "core/tx/log_format.h"
#include "core/tx/tx_format.h"
#include "recovery/view/view.h"

/* The log follows this generation: what it holds belongs to what is shown. */
bool opened_has_log(const struct view *view);

/* Part of view_map_heap(): applies the log to the mapped slot. */
MUST_CHECK int opened_apply_log(struct view *view, struct problem *why);

/* Each whole record, in order, and its offset in the file. visit returns false to stop. Works
 * without a mapped heap. *is_damaged: whole records follow the last that counts. */
typedef bool opened_record_visit(void *context, const struct log_record *record, uint64_t offset);
MUST_CHECK int opened_each_record(struct view *view, opened_record_visit *visit, void *context,
                                  bool *is_damaged, struct problem *why);

/* Of a heap that is mapped, opened or a program's: STATUS_DAMAGED, of a page or of the log, and
 * STATUS_IN_DOUBT, for whoever may then not go on; not_done: "nothing is freed". */
MUST_CHECK int opened_judge(const struct view *view, const char *not_done, struct problem *why);

/* One behind the last slice with a span. */
uint32_t opened_top(const struct view *view);

static inline const struct tx_span *opened_span(const struct view *view, uint32_t slice)
{
    return (const struct tx_span *)(view_slot_base(view) + TX_SPANS_OFFSET) + slice;
}

/* How many slices a span takes up, one without a span too; 0: it is none, or reaches beyond top. */
uint32_t opened_span_slices(const struct view *view, uint32_t slice, uint32_t top);

/* The named roots, in the order of their places. The name has an end. */
typedef void opened_root_visit(void *context, const char *name, uint64_t address, uint32_t type);
void opened_each_root(const struct view *view, opened_root_visit *visit, void *context);

#endif
