/*
 * validate.h - the parts of heap_is_valid(). Expensive, for tests: no other thread may be
 * allocating.
 */
#ifndef PHEAP_HEAP_VALIDATE_H
#define PHEAP_HEAP_VALIDATE_H

#include "core/base/status.h"
#include "core/heap/heap_format.h"

/* Free runs, tags, bins, counts; every slice below top described once. */
MUST_CHECK int validate_spans(const struct heap *heap, struct problem *why);

/* Every slab's counts against its lists, its state against its thread heap's lists. */
MUST_CHECK int validate_slabs(const struct heap *heap, struct problem *why);

#endif
