/*
 * spans.h - runs of slices: handed out as spans, coalesced when they come back, given back to
 * the kernel when they stay free.
 *
 * Free runs are kept whole: a run merges with both its neighbours, whatever their size and
 * alignment, and lies in the bin of its order (0 .. 24). A request takes the best fitting run and
 * gives head and tail back, so five slices cost five, and a span grows in place when the slices
 * behind it are free. (A buddy system proper would place a request of 600 MiB at a GiB boundary,
 * merge with one neighbour only, and charge the gap as committed memory.)
 *
 * All calls take heap->spans_lock themselves.
 */
#ifndef PHEAP_HEAP_SPANS_H
#define PHEAP_HEAP_SPANS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/heap/heap_format.h"

/* The new span's kind is written while the lock is held, so that whoever walks the slices under
 * the lock finds every one of them described. */
struct span_request {
    uint32_t slices;
    uint32_t align_slices; /* a power of two; 1: any */
    uint8_t kind;          /* SPAN_SLAB, SPAN_LARGE or a hardened one */
};

/* Places at any distance that is the same over and over differ: the golden ratio's multiples do. A
 * place's number is below `bound`, and its for ever. */
static inline uint32_t spans_scatter(uint32_t place, uint32_t bound)
{
    return (uint32_t)((uint64_t)(place * 0x9e3779b1u) * bound >> 32);
}

/* NULL: no more address space or memory. *is_zero: every byte reads as zero. */
struct span *spans_alloc(struct heap *heap, const struct span_request *request, bool *is_zero);

/* The span's first dirty_slices slices may have been written. */
void spans_free(struct heap *heap, struct span *span, uint32_t dirty_slices);

/* In place; false if the slices behind are not free. */
bool spans_grow(struct heap *heap, struct span *span, uint32_t slices);
void spans_shrink(struct heap *heap, struct span *span, uint32_t slices);

/* Zeroes what is dirty of these bytes, which begin in the span's first slice. What lies in a slice
 * before or behind them may become zero too. */
void spans_zero(struct heap *heap, struct span *span, uintptr_t start, uint64_t bytes);

/* Gives the pages of runs that are free since min_epochs epochs back. Returns the bytes. */
uint64_t spans_purge(struct heap *heap, uint32_t min_epochs);

/* In the child of fork, whose parent may have been purging: the runs are free again. */
void spans_fork_child(struct heap *heap);

#endif
