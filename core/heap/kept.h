/*
 * kept.h - large spans that a thread has freed and keeps at hand, so that a program that allocates
 * and frees a large block over and over takes no lock and moves no run in and out of the bins.
 *
 * Up to eight of each length up to 1 MiB, and 4 MiB of them in all, so that a thread whose blocks
 * have many sizes finds one too: on two processors far from each other a lock and the descriptors
 * of neighbouring runs cost more than the rest of malloc.
 *
 * A kept span is of kind ASIDE: to whoever looks at the heap it is free memory, and to free() no
 * block. Its thread alone puts spans in, and takes them, or anybody who purges, by one
 * compare-and-swap on the place; so none is given away twice. Spans that nobody took for as long as
 * a free run may stay unpurged go back to the bins.
 */
#ifndef PHEAP_HEAP_KEPT_H
#define PHEAP_HEAP_KEPT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/heap/heap_format.h"

/* One of the calling thread's with room for `slices` and at most an eighth more, in use from now
 * on: kind LARGE, LARGE_REUSED. NULL: none. Takes no lock. */
struct span *kept_take(struct heap *heap, uint32_t slices);

/* The span is free from now on. May give an older one back, and take spans_lock for it. False: the
 * span is too large, or the thread has no heap. */
bool kept_put(struct heap *heap, struct span *span);

/* Gives back what has been kept since min_epochs epochs, by any thread. */
void kept_flush(struct heap *heap, uint32_t min_epochs);

#endif
