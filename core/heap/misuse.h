/*
 * misuse.h - what the program did wrong to the heap: one line to stderr, then abort, as glibc
 * does. Raw system calls only: it may be called with locks held.
 */
#ifndef PHEAP_HEAP_MISUSE_H
#define PHEAP_HEAP_MISUSE_H

#include "core/heap/heap_format.h"

_Noreturn void misuse_double_free(const struct heap *heap, const struct span *slab,
                                  const void *block);
/* A pointer into the slot that malloc never returned, or a span that is free. */
_Noreturn void misuse_invalid_pointer(const struct heap *heap, const void *pointer,
                                      const char *call);
/* A free block was written to. */
_Noreturn void misuse_damaged_list(const struct heap *heap, const struct span *slab);

#endif
