/*
 * types.h - layouts of types, as a program has told them: where objects of a type hold pointers.
 * What is not told is not known, and looked for word by word.
 */
#ifndef PHEAP_TX_TYPES_H
#define PHEAP_TX_TYPES_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/tx/tx_format.h"

struct pheap_tx;

/* Do all runs lie within the object's first part, or within an element? Believes nothing. */
bool type_is_valid(const struct tx_type *type);

/* Part of the transaction; what was told of the type before gives way. -EINVAL: not valid.
 * STATUS_LIMIT: TX_TYPES others are told. STATUS_CONFLICT: of an optimistic one. */
MUST_CHECK int type_register(struct pheap_tx *tx, const struct tx_type *type);

/* What is told of the type, as the transaction sees it; type->is_used 0: nothing. */
MUST_CHECK int type_look_up(struct pheap_tx *tx, uint32_t number, struct tx_type *type);

/* Nothing is told of it any more. */
MUST_CHECK int type_forget(struct pheap_tx *tx, uint32_t type);

#endif
