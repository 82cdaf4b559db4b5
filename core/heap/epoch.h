/*
 * epoch.h - the heap's slow clock: epochs of 250 ms of coarse time. What stays free for some of
 * them is given back to the kernel.
 */
#ifndef PHEAP_HEAP_EPOCH_H
#define PHEAP_HEAP_EPOCH_H

#include "core/heap/heap_format.h"

/* Called where a clock may be read now and then: begins a new epoch when one is over, and purges
 * the runs that have been free for two. No lock held. */
void epoch_tick(struct heap *heap);

#endif
