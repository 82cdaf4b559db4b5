/*
 * dominators.h - what keeps what alive: a node dominates a block if every way to the block from the
 * roots leads through it; so the bytes that it retains are those that would go with it.
 *
 * Nodes are roots (roots.h: a named root, a thread's registers, a mapping) and blocks that are
 * reached. Node 0 is the start of all. Pointers are recognised as by reach.h.
 *
 * Memory: about 50 bytes a block, 4 a pointer, and 8 more a pointer that is not the first to lead
 * to its block; in arenas of its own.
 */
#ifndef PHEAP_RECOVERY_VIEW_DOMINATORS_H
#define PHEAP_RECOVERY_VIEW_DOMINATORS_H

#include <stdint.h>
#include "recovery/view/blocks.h"
#include "recovery/view/roots.h"

struct dominators {
    const struct block_map *map;
    struct arena arena;
    uint32_t count;                /* of nodes */
    const uint32_t *idom;          /* a node's immediate dominator; 0 for node 0 */
    const uint64_t *bytes;         /* retained by a node, its own included */
    const uint32_t *blocks;        /* retained by a node, itself included if it is one */
    const uint32_t *what;          /* a block's number, or above `map->count` a root */
    const uint32_t *node_of_block; /* by number; 0: not reached */
    struct root *roots;
    uint32_t root_count;
};

/* STATUS_LIMIT: more than 2^32 - 2^20 blocks. To be freed in any case. */
MUST_CHECK int dominators_find(struct dominators *out, const struct block_map *map,
                               struct problem *why);
void dominators_free(struct dominators *dominators);

/* The root that a node is, or NULL. */
const struct root *dominators_root(const struct dominators *dominators, uint32_t node);
/* The block that a node is. False: it is none. */
bool dominators_block(const struct dominators *dominators, uint32_t node, struct block *out);

#endif
