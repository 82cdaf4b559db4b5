/*
 * transaction.h - transactions: what is stored to is copied before, blocks are taken and freed, and
 * all of it becomes one record of the log, or is undone. A direct one stores at once, to what the
 * caller's locks guard. An optimistic one keeps what it writes to itself (optimistic.h), and does
 * at its commit what a direct one has done before.
 *
 *     (none) -> open            [tx_begin]
 *     open -> open, one deeper  [tx_begin on it]
 *     deeper -> less deep       [tx_commit: what was done is the outer one's now; tx_abort: undone]
 *     open -> committed         [tx_commit of the outermost: durable]
 *     open -> aborted           [tx_abort of the outermost, or a tx_commit that fails]
 *     open -> lost              [an optimistic one: STATUS_CONFLICT from anything]
 *     lost -> open              [tx_retry: from the beginning]
 *     lost -> aborted           [tx_abort]
 *
 * A transaction is a list of operations, oldest first, in an arena of its own:
 *
 *     RANGE   the bytes that were there, put back by an abort; as they are, in the record
 *     ALLOC   taken at once; given back by an abort
 *     FREE    marked TX_FREEING at once; taken back by an abort, done when the commit is durable
 *     calls   on commit, on abort
 *
 * Direct and optimistic ones on the same data: what a direct one has added or freed it holds until
 * it has ended (stripes.h), and no optimistic one reads or commits there meanwhile.
 *
 * Thread safety: one transaction is used by one thread at a time; several may be open at once.
 * What direct ones store to must not overlap: the callers' locks see to that.
 */
#ifndef PHEAP_TX_TRANSACTION_H
#define PHEAP_TX_TRANSACTION_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

struct pheap;
struct pheap_tx;

typedef void tx_call(void *context);

/* *tx NULL: an outermost one; else one inside *tx, of its kind. */
MUST_CHECK int tx_begin(struct pheap *heap, struct pheap_tx **tx);
MUST_CHECK int tx_begin_optimistic(struct pheap *heap, struct pheap_tx **tx);

/* -EINVAL: the bytes are not in the heap, or the transaction is optimistic. */
MUST_CHECK int tx_add(struct pheap_tx *tx, void *start, size_t bytes);
MUST_CHECK int tx_alloc(struct pheap_tx *tx, size_t bytes, uint32_t type, void **block);
/* -EINVAL: alignment is no power of two up to 64 KiB. */
MUST_CHECK int tx_alloc_aligned(struct pheap_tx *tx, size_t alignment, size_t bytes, uint32_t type,
                                void **block);
MUST_CHECK int tx_free(struct pheap_tx *tx, void *start);
MUST_CHECK int tx_on_commit(struct pheap_tx *tx, tx_call *call, void *context);
MUST_CHECK int tx_on_abort(struct pheap_tx *tx, tx_call *call, void *context);

/*
 * The part of the transaction in another heap: for changes there; it begins and ends with tx, which
 * decides (two_phase.h). The same part as long as tx is open, lost or not. -EINVAL: tx is itself a
 * part. STATUS_LIMIT: that would be more than eight heaps. Else as tx_begin().
 */
MUST_CHECK int tx_join(struct pheap_tx *tx, struct pheap *heap, struct pheap_tx **part);

/* Optimistic: what was committed at one moment, and what this one has written; STATUS_CONFLICT: it
 * has lost. Direct: held from now on, as what is added; added and stored. */
MUST_CHECK int tx_read(struct pheap_tx *tx, void *to, const void *from, size_t bytes);
MUST_CHECK int tx_write(struct pheap_tx *tx, void *to, const void *from, size_t bytes);

/* Of an optimistic outermost one: what it did is undone and it begins anew, after a while.
 * Negative: it has been aborted. */
MUST_CHECK int tx_retry(struct pheap_tx *tx);

/* Of an outermost one: 0 when it is durable (or, heap->commits_soon, written); STATUS_CONFLICT: it
 * has lost, nothing has been done; else it has been aborted. */
MUST_CHECK int tx_commit(struct pheap_tx *tx);

/* The same, but it need only be written. *sequence: what opened_wait() waits for, 0: nothing. */
MUST_CHECK int tx_commit_soon(struct pheap_tx *tx, uint64_t *sequence);
void tx_abort(struct pheap_tx *tx);

struct pheap *tx_heap(const struct pheap_tx *tx);

/* A pointer of the program's, NULL when the transaction begins. */
void **tx_user(struct pheap_tx *tx);

/* The memory of all transactions, none of which is open. */
void tx_drop_all(struct pheap *heap);

#endif
