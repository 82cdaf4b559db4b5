/*
 * resize.h - an object becomes longer or shorter: a new one with its content, the old one freed, in
 * the same transaction.
 */
#ifndef PHEAP_TX_RESIZE_H
#define PHEAP_TX_RESIZE_H

#include <stddef.h>
#include "core/base/status.h"

struct pheap_tx;

/* *object: what tx_alloc() gave before and after. Self-relative pointers that its type's layout
 * tells of lead to what they led to. On failure it is as it was. Errors as tx_alloc(), tx_free().
 */
MUST_CHECK int tx_realloc(struct pheap_tx *tx, void **object, size_t bytes);

#endif
