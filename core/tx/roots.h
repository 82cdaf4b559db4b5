/*
 * roots.h - the named roots of an opened heap.
 */
#ifndef PHEAP_TX_ROOTS_H
#define PHEAP_TX_ROOTS_H

#include <stdint.h>
#include "core/base/status.h"

struct pheap;
struct pheap_tx;

/* Part of the transaction. address NULL takes the name away. -EINVAL: the name is empty, or longer
 * than 47 bytes, or address is not in the heap's data. STATUS_LIMIT: 128 names.
 * STATUS_CONFLICT: of an optimistic one. */
MUST_CHECK int root_set(struct pheap_tx *tx, const char *name, const void *address, uint32_t type);

/* As the transaction sees it. *address NULL: there is none of that name. */
MUST_CHECK int root_get(struct pheap_tx *tx, const char *name, void **address, uint32_t *type);

/* Now. NULL: there is none of that name. */
void *root_find(const struct pheap *heap, const char *name, uint32_t *type);

#endif
