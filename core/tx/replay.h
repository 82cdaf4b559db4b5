/*
 * replay.h - the log applied to a generation in memory. What a transaction across heaps has
 * prepared is applied where the log says that it has committed, since others may have built on it
 * from there on; where the log says nothing it is left to the caller.
 */
#ifndef PHEAP_TX_REPLAY_H
#define PHEAP_TX_REPLAY_H

#include "core/base/arena.h"
#include "core/base/id_tree.h"
#include "core/tx/log.h"
#include "core/tx/slot_memory.h"

/* A record that counts only if another pool has decided so. */
struct promise {
    struct id_node node; /* the transaction's number */
    struct promise *next;
    const struct log_record *record;
    const struct log_promise *terms; /* in the record; its path has its NUL */
    enum log_outcome outcome;        /* 0: not known */
};

/* Those of which the log does not say what became of them, in its order. */
struct promises {
    struct promise *first, *last;
    struct id_node *by_id; /* these, and others */
    uintptr_t mark;        /* the scratch arena up to here is theirs */
};

/*
 * Applies all records from the log's beginning; the log is ready for log_open() then.
 * STATUS_DAMAGED: a record says what cannot be, or the log was longer once (log_has_later()).
 * scratch is rewound to promises->mark.
 *
 * Crash: memory alone is changed; the next opening does the same again.
 */
MUST_CHECK int replay_log(struct log *log, struct slot_memory *memory, struct arena *scratch,
                          struct promises *promises, struct problem *why);

/* What was promised. STATUS_DAMAGED. */
MUST_CHECK int replay_promise(struct slot_memory *memory, const struct promise *promise);

#endif
