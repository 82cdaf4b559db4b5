/*
 * hardened_large.h - blocks that are spans, in a hardened heap. Block, span: a page of guard before
 * and behind, where the alignment asked for leaves room for the one before.
 */
#ifndef PHEAP_HEAP_HARDENED_LARGE_H
#define PHEAP_HEAP_HARDENED_LARGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/heap/hardened.h"

/* No lock needed. */
void *hard_large_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero);

/* Under the lock. A block in use becomes untouchable and its pages go back to the kernel; one in
 * quarantine is free again. False: it must stay there, as the kernel does not give it back. */
void hard_large_quarantine(struct heap *heap, struct span *span);
bool hard_large_release(struct heap *heap, struct span *span);

#endif
