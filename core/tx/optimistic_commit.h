/*
 * optimistic_commit.h - an optimistic transaction becomes a direct one that has stored what it
 * will. Internal to core/tx.
 */
#ifndef PHEAP_TX_OPTIMISTIC_COMMIT_H
#define PHEAP_TX_OPTIMISTIC_COMMIT_H

#include "core/tx/operation.h"

/*
 * In all parts: takes the stripes of what it stores to and frees, sees that what it has read is
 * still so, stores. STATUS_CONFLICT: it has lost, and has stored nothing. -ENOMEM. In each case it
 * is to be ended by ending.h.
 */
MUST_CHECK int optimistic_commit(struct pheap_tx *tx);

#endif
