/*
 * reclaim.h - blocks freed by a tool, in a heap whose program is not running: it has been mapped at
 * its own address, and goes on some time later from where its threads were stopped.
 *
 * Calling sequence: reclaim_ready(), then for each block reclaim_holds() and reclaim_free(). The
 * heap has been checked as a whole before (recovery/check): lists of free runs are followed here
 * without a look at each step. No other thread.
 */
#ifndef PHEAP_HEAP_RECLAIM_H
#define PHEAP_HEAP_RECLAIM_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/heap/heap_format.h"

/*
 * Whether blocks can be freed. STATUS_REFUSED: it is a hardened heap. STATUS_DEFERRED: a thread was
 * stopped while it was changing the spans or the profile. STATUS_DAMAGED: the table of samples.
 */
MUST_CHECK int reclaim_ready(const struct heap *heap, struct problem *why);

/* A block in use begins at this address. False also for one that a thread was about to put into a
 * list of free ones, or to take out of one, and had not finished. */
bool reclaim_holds(const struct heap *heap, uint64_t address);

/* What tells a block's slab from any other that lay or will lie in its place; of a large block 0.
 */
uint64_t reclaim_identity(const struct heap *heap, uint64_t address);

/*
 * Frees a block that reclaim_holds(). One of a slab waits in the list of what other threads have
 * freed until its owner comes for it; the memory of a large one is free at once, and reads as zero.
 */
void reclaim_free(struct heap *heap, uint64_t address);

#endif
