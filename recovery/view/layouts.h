/*
 * layouts.h - where the objects of an opened heap hold pointers, as its program has told
 * (core/tx/types.h). Of other objects, and of those that are shorter than their type, nothing is
 * known.
 */
#ifndef PHEAP_RECOVERY_VIEW_LAYOUTS_H
#define PHEAP_RECOVERY_VIEW_LAYOUTS_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/blocks.h"

struct tx_type;

struct layouts {
    const struct block_map *map;
    uint64_t pool;                 /* as references name it */
    uint32_t count;                /* 0: nothing is known of any */
    const struct tx_type *of[256]; /* by a hash of the type; more than twice the places there are */
};

/* Those of a map's heap that make sense. */
void layouts_load(struct layouts *layouts, const struct block_map *map);

/*
 * Each pointer of the object whose block begins at start: its place, and what it leads to (0:
 * nowhere in this heap). False: nothing is known of the object.
 */
typedef void layouts_visit(void *context, uint64_t place, uint32_t kind, uint64_t target);
bool layouts_each(const struct layouts *layouts, uint64_t start, layouts_visit *visit,
                  void *context);

#endif
