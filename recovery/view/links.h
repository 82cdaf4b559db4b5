/*
 * links.h - what leads to a block, and where a block leads, in each of the ways in which memory
 * holds a pointer: an address; in a heap a self-relative pointer (PHEAP_PTR); and in one that
 * programs open by themselves a reference to itself (pheap_ref). For a person who asks: nothing is
 * left out because an object's layout does not tell of it.
 */
#ifndef PHEAP_RECOVERY_VIEW_LINKS_H
#define PHEAP_RECOVERY_VIEW_LINKS_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/blocks.h"

/* place: where it lies; kind: TX_POINTER_RAW and so on (core/tx/tx_format.h). false: stop. */
typedef bool links_visit(void *context, uint64_t place, uint32_t kind, uint64_t target);

/* Those in saved memory, allocator's data too, that lead into [low, high); ascending. */
MUST_CHECK int links_to(const struct block_map *map, uint64_t low, uint64_t high,
                        links_visit *visit, void *context, struct problem *why);

/* Those in a block that lead to a block in use or, as an address, into a mapping. */
void links_of(const struct block_map *map, const struct block *block, links_visit *visit,
              void *context);

#endif
