/*
 * ending.h - what a transaction's end does to memory and to other transactions, in all its parts.
 * Internal to core/tx.
 */
#ifndef PHEAP_TX_ENDING_H
#define PHEAP_TX_ENDING_H

#include "core/tx/operation.h"

/* Nothing of it has happened: the list is empty, no stripe is held, on-abort calls were made. */
void ending_undo(struct pheap_tx *tx);

/* The same of this part's innermost nested transaction, which has ended then. */
void ending_undo_nested(struct pheap_tx *tx);

/* It is durable: step 3. */
void ending_finish(struct pheap_tx *tx);

#endif
