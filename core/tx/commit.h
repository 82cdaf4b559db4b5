/*
 * commit.h - a transaction's record, or records, made durable. Internal to core/tx.
 */
#ifndef PHEAP_TX_COMMIT_H
#define PHEAP_TX_COMMIT_H

#include "core/base/status.h"
#include "core/tx/operation.h"

/* Steps 1 and 2 of a commit, for all parts (step 1 alone if it is `soon`). Negative: it is to be
 * undone; if a heap has `failed` now, it is unknown what the pool holds. */
MUST_CHECK int commit_durably(struct pheap_tx *tx);

#endif
