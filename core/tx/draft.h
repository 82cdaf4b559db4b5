/*
 * draft.h - a transaction's operations as a record of the log. Internal to core/tx.
 */
#ifndef PHEAP_TX_DRAFT_H
#define PHEAP_TX_DRAFT_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/tx/log_format.h"
#include "core/tx/operation.h"

/* Makes it a record that only promises. */
struct draft_head {
    uint64_t id;
    const struct log_promise *promise;
    uint64_t bytes;
};

/* 1: *record, in the arena, has bytes, entries and their count; 0: there is nothing to write. head
 * may be NULL. -ENOMEM. */
MUST_CHECK int draft_record(const struct op *first, const struct draft_head *head,
                            struct arena *arena, struct log_record **record);

#endif
