/*
 * transaction.h - direct transactions: ranges are copied before the program stores to them, blocks
 * are taken and freed, and all of it becomes one record of the log, or is undone.
 *
 *     (none) -> open            [tx_begin]
 *     open -> open, one deeper  [tx_begin on it]
 *     deeper -> less deep       [tx_commit: what was done is the outer one's now; tx_abort: undone]
 *     open -> committed         [tx_commit of the outermost: durable]
 *     open -> aborted           [tx_abort of the outermost, or a tx_commit that fails]
 *
 * A transaction is a list of operations, oldest first, in an arena of its own:
 *
 *     RANGE   the bytes that were there, put back by an abort; as they are, in the record
 *     ALLOC   taken at once; given back by an abort
 *     FREE    marked TX_FREEING at once; taken back by an abort, done when the commit is durable
 *     calls   on commit, on abort
 *
 * Thread safety: one transaction is used by one thread at a time; several may be open at once.
 * What they store to must not overlap: the callers' locks see to that.
 */
#ifndef PHEAP_TX_TRANSACTION_H
#define PHEAP_TX_TRANSACTION_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

struct pheap;
struct pheap_tx;

typedef void tx_call(void *context);

/* *tx NULL: an outermost one; else one inside *tx. */
MUST_CHECK int tx_begin(struct pheap *heap, struct pheap_tx **tx);
MUST_CHECK int tx_add(struct pheap_tx *tx, void *start, size_t bytes);
MUST_CHECK int tx_alloc(struct pheap_tx *tx, size_t bytes, uint32_t type, void **block);
MUST_CHECK int tx_free(struct pheap_tx *tx, void *start);
MUST_CHECK int tx_on_commit(struct pheap_tx *tx, tx_call *call, void *context);
MUST_CHECK int tx_on_abort(struct pheap_tx *tx, tx_call *call, void *context);

/* Of an outermost one: 0 when it is durable (or, heap->commits_soon, written); else it has been
 * aborted. */
MUST_CHECK int tx_commit(struct pheap_tx *tx);

/* The same, but it need only be written. *sequence: what opened_wait() waits for, 0: nothing. */
MUST_CHECK int tx_commit_soon(struct pheap_tx *tx, uint64_t *sequence);
void tx_abort(struct pheap_tx *tx);

struct pheap *tx_heap(const struct pheap_tx *tx);

/* The memory of all transactions, none of which is open. */
void tx_drop_all(struct pheap *heap);

#endif
