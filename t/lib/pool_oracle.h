/*
 * pool_oracle.h - what a test knows, outside the pool, of the generations it has made: which page
 * of a small set has which content in which generation. For tests of core/pool.
 */
#ifndef PHEAP_T_LIB_POOL_ORACLE_H
#define PHEAP_T_LIB_POOL_ORACLE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/pool/pool.h"

#define ORACLE_PAGES       48
#define ORACLE_GENERATIONS 64
#define ORACLE_RECORD_MAX  10000

#define SEED_NONE 0 /* no entry: FRAME_NONE */
#define SEED_ZERO 1 /* FRAME_ZERO */

struct oracle {
    uint32_t now[ORACLE_PAGES]; /* the generation in progress */
    uint32_t generations[ORACLE_GENERATIONS][ORACLE_PAGES];
    size_t record_bytes[ORACLE_GENERATIONS];
    bool known[ORACLE_GENERATIONS];
    unsigned fold_every; /* n: each n-th generation's index is written as nodes; 0: as it comes */
};

/* Page number of page i: several leaves, several inner nodes, neighbours and lonely ones. */
uint64_t oracle_page(unsigned i);

/* The content that belongs to a seed. */
void oracle_fill(uint8_t page[FRAME_BYTES], uint32_t seed);

/* Each does it to the pool and to the oracle; a status of the pool. */
int oracle_write(struct oracle *oracle, struct pool *pool, unsigned first, unsigned pages,
                 uint32_t seed);
int oracle_clear(struct oracle *oracle, struct pool *pool, unsigned i);
int oracle_zero(struct oracle *oracle, struct pool *pool, unsigned i);
int oracle_commit(struct oracle *oracle, struct pool *pool, enum generation_kind kind,
                  uint32_t flags, size_t record_bytes, struct problem *why);

/* The next generation is built on this one (0: on nothing). */
void oracle_start_from(struct oracle *oracle, uint64_t number);

/* Every page, every entry and the record of a generation are as they should be; text says what is
 * not. The arena is rewound. */
bool oracle_agrees(const struct oracle *oracle, const struct pool *pool,
                   const struct generation_entry *entry, struct arena *arena, char text[256]);

#endif
