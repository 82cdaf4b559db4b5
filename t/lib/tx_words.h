/*
 * tx_words.h - a heap with words, each in a stripe of its own, and optimistic transactions on them.
 */
#ifndef PHEAP_T_LIB_TX_WORDS_H
#define PHEAP_T_LIB_TX_WORDS_H

#include "t/lib/tx_fixture.h"

#define WORDS 64 /* each in a stripe of its own */

struct word {
    uint64_t value, rest[7];
};

static struct word *words;

static inline struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(tx_begin_optimistic(heap, &tx));
    return tx;
}

static inline struct pheap_tx *begin_direct(void)
{
    struct pheap_tx *tx = NULL;

    CHECK_OK(tx_begin(heap, &tx));
    return tx;
}

static inline int get(struct pheap_tx *tx, unsigned i, uint64_t *value)
{
    return tx_read(tx, value, &words[i].value, sizeof *value);
}

static inline int put(struct pheap_tx *tx, unsigned i, uint64_t value)
{
    return tx_write(tx, &words[i].value, &value, sizeof value);
}

static inline uint64_t seen(struct pheap_tx *tx, unsigned i)
{
    uint64_t value = UINT64_MAX;

    CHECK_OK(get(tx, i, &value));
    return value;
}

static inline void make_words(void)
{
    struct pheap_tx *tx;
    void *block;

    fixture_create();
    tx = begin();
    CHECK_OK(tx_alloc(tx, WORDS * sizeof *words + 64, 1, &block));
    CHECK_OK(root_set(tx, "words", block, 1));
    CHECK_OK(tx_commit(tx));
    words = (struct word *)(((uintptr_t)block + 63) & ~63ull);
}

static inline void store(unsigned i, uint64_t value)
{
    struct pheap_tx *tx = begin();

    CHECK_OK(put(tx, i, value));
    CHECK_OK(tx_commit(tx));
}

#endif
