/*
 * draft.h - a transaction's operations as a record of the log. Internal to core/tx.
 */
#ifndef PHEAP_TX_DRAFT_H
#define PHEAP_TX_DRAFT_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/tx/log_format.h"
#include "core/tx/operation.h"

/* 1: *record, in the arena, has bytes, entries and their count; 0: there is nothing to write.
 * -ENOMEM. */
MUST_CHECK int draft_record(const struct op *first, struct arena *arena,
                            struct log_record **record);

#endif
