/*
 * replay.h - the log applied to a generation in memory.
 */
#ifndef PHEAP_TX_REPLAY_H
#define PHEAP_TX_REPLAY_H

#include "core/base/arena.h"
#include "core/tx/log.h"
#include "core/tx/slot_memory.h"

/*
 * Applies all records from the log's beginning; the log is ready for log_open() then.
 * STATUS_DAMAGED: a record says what cannot be, or the log was longer once (log_has_later()).
 * scratch is rewound.
 *
 * Crash: memory alone is changed; the next opening does the same again.
 */
MUST_CHECK int replay_log(struct log *log, struct slot_memory *memory, struct arena *scratch,
                          struct problem *why);

#endif
