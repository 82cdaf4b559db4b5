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
/* Of a hardened heap's block: freed once already; the byte behind its end, or of the freed block
 * itself, that was written to. */
_Noreturn void misuse_freed_already(const struct heap *heap, const struct span *span,
                                    const void *block, const char *call);
_Noreturn void misuse_overflow(const struct heap *heap, const struct span *span, const void *block,
                               const void *where);
_Noreturn void misuse_written_after_free(const struct heap *heap, const struct span *span,
                                         const void *block, const void *where);
/* Memory that nobody may touch: what it is follows the address. */
_Noreturn void misuse_fault(const void *address, const char *what);

/* A free block was written to. */
_Noreturn void misuse_damaged_list(const struct heap *heap, const struct span *slab);

#endif
