/*
 * large.h - blocks that are spans of their own: above 64 KiB, or aligned to more than a slab
 * offers. Any thread frees them, straight to the free runs.
 *
 * Such a block begins at the colour of its place: a multiple of 64 bytes below a page, from its
 * span's start. Else the first bytes of all of them, and of all their pages, would share one set in
 * 64 of the first cache. It begins at its span's start where it is aligned to more than 64 bytes,
 * and where its span has no room for a colour; of blocks of just 256 KiB, 320 KiB and so on room is
 * made.
 */
#ifndef PHEAP_HEAP_LARGE_H
#define PHEAP_HEAP_LARGE_H

#include <stdbool.h>
#include <stddef.h>
#include "core/heap/heap_format.h"

/* align: a power of two. *is_zero (may be NULL) is set when every byte reads as zero. */
void *large_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero);

/* As large_alloc, with room to grow in place behind it when that can be had: for a block that a
 * realloc had to move, and that will probably grow on. */
void *large_alloc_to_grow(struct heap *heap, size_t bytes);

void large_free(struct heap *heap, struct span *span);

/* In place. False: it must be moved. */
bool large_resize(struct heap *heap, struct span *span, size_t bytes);

#endif
