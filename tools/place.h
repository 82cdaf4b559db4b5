/*
 * place.h - what lies at an address, in words: a block of the heap, or a mapping.
 */
#ifndef PHEAP_TOOLS_PLACE_H
#define PHEAP_TOOLS_PLACE_H

#include <jansson.h>
#include "recovery/view/blocks.h"

/* Adds "in" ("block 0x... + 8", "[stack] + 0x100"), "in_kind" ("block", "free block", "heap",
 * "mapping", "nothing") and, in a block, "block" to a row. */
void place_add(const struct block_map *map, uint64_t address, json_t *row);

#endif
