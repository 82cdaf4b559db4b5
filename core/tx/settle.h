/*
 * settle.h - what a heap has promised to other heaps' transactions, and of which its log does not
 * say what became, is settled when it is opened. Internal to core/tx.
 */
#ifndef PHEAP_TX_SETTLE_H
#define PHEAP_TX_SETTLE_H

#include "core/tx/opened.h"
#include "core/tx/replay.h"

/*
 * Applies heap->promises that were decided. STATUS_IN_DOUBT: one cannot be decided (for reading: it
 * is left out instead, and counted); STATUS_REFUSED: it is decided, and not as heap->settle_as
 * wants it.
 *
 * Crash: memory alone is changed.
 */
MUST_CHECK int settle_promises(struct pheap *heap, struct problem *why);

/*
 * When the log is open for writing: what was settled is said in it, durably.
 *
 * Crash: some of them are said; the others are settled again, in the same way.
 */
MUST_CHECK int settle_tell(struct pheap *heap, struct problem *why);

#endif
