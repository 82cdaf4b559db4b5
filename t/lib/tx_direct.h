/*
 * tx_direct.h - tx_fixture.h's heap, and direct transactions of one step.
 */
#ifndef PHEAP_T_LIB_TX_DIRECT_H
#define PHEAP_T_LIB_TX_DIRECT_H

#include "t/lib/tx_fixture.h"

#define TYPE_A 1u
#define TYPE_B 2u

static inline struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    return tx;
}

static inline void *make(size_t bytes, uint32_t type, const char *name)
{
    struct pheap_tx *tx = begin();
    void *block = NULL;

    CHECK_OK(tx_alloc(tx, bytes, type, &block));
    memset(block, 'x', bytes);
    CHECK_OK(root_set(tx, name, block, type));
    CHECK_OK(tx_commit(tx));
    return block;
}

static inline void store(uint64_t *word, uint64_t value)
{
    struct pheap_tx *tx = begin();

    CHECK_OK(tx_add(tx, word, sizeof *word));
    *word = value;
    CHECK_OK(tx_commit(tx));
}

static inline unsigned count(uint32_t type)
{
    struct block block = {0};
    unsigned found = 0;

    while (blocks_next(&heap->blocks, block.address, type, &block))
        found++;
    return found;
}

#endif
