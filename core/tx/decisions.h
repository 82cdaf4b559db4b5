/*
 * decisions.h - the transactions across heaps that this heap has decided to commit, kept until the
 * other heaps know.
 *
 * The table lies in the slot (tx_format.h), so that generations have it; an entry is written by the
 * deciding transaction's record, as everything else that it changes. That record is the decision:
 * a transaction of which no deciding heap has an entry has not happened.
 *
 * An entry may go when each of the other heaps has said in its own log, durably, what became of the
 * transaction. Who knows that: the next transaction across the same heaps. Its own prepare records
 * lie behind that in those logs, and are durable before its decision is written; and a heap that
 * was opened for writing has settled what it had prepared. So its record takes the entry away.
 *
 *     FREE -> TAKEN       [decisions_take]
 *     TAKEN -> FREE       [decisions_give_back: not committed]
 *     TAKEN -> SETTLED    [decisions_settled: in the other heaps' logs, if not durable yet]
 *     SETTLED -> LEAVING  [decisions_find_old]
 *     LEAVING -> FREE     [decisions_give_back: the record that takes it away is durable]
 *     LEAVING -> SETTLED  [decisions_settled: it is not]
 *
 * Thread safety: any thread.
 */
#ifndef PHEAP_TX_DECISIONS_H
#define PHEAP_TX_DECISIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/lock.h"
#include "core/base/status.h"
#include "core/tx/tx_format.h"

enum decision_state { DECISION_FREE, DECISION_TAKEN, DECISION_SETTLED, DECISION_LEAVING };

struct decisions {
    struct tx_decision *table;
    struct lock lock;
    uint8_t state[TX_DECISIONS];
};

/* Those of other heaps that take part. */
struct participants {
    uint32_t count;
    uint8_t pools[TX_PARTICIPANTS][TX_POOL_BYTES];
};

/* When the heap has been read. */
void decisions_derive(struct decisions *decisions, uintptr_t slot_base);

/* STATUS_LIMIT: all are in use. */
MUST_CHECK int decisions_take(struct decisions *decisions, uint32_t *index);
void decisions_give_back(struct decisions *decisions, uint32_t index);
void decisions_settled(struct decisions *decisions, uint32_t index);

/* Entries all of whose heaps are among these, at most so many; they are LEAVING now. */
uint32_t decisions_find_old(struct decisions *decisions, const struct participants *present,
                            uint32_t *indexes, uint32_t max);

/* Does the table have an entry of this transaction? */
bool decisions_have(const struct tx_decision *table, uint64_t id);

/* Do these bytes lie in the table of the heap at slot_base? */
bool decisions_cover(uintptr_t slot_base, uintptr_t address, uint64_t bytes);

#endif
