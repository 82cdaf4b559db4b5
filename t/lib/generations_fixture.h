/*
 * generations_fixture.h - a scratch pool and what its generations must show.
 */
#ifndef PHEAP_T_LIB_GENERATIONS_FIXTURE_H
#define PHEAP_T_LIB_GENERATIONS_FIXTURE_H

#include "core/pool/pool.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

static struct pool pool;
static struct oracle oracle;
static struct problem why;

static inline void commit(enum generation_kind kind, uint32_t flags)
{
    uint64_t number = pool.super.next_generation;

    why = (struct problem){0};
    CHECK_OK(oracle_write(&oracle, &pool, (unsigned)number % 40, 5, (uint32_t)number * 100));
    CHECK_OK(oracle_commit(&oracle, &pool, kind, flags, 3000, &why));
    CHECK_STR(why.text, "");
    CHECK(pool_is_valid(&pool));
}

/* Exactly these, ascending, ended by 0; and all of them whole. */
static inline void check_listed(const uint64_t *expected)
{
    char text[256];

    for (uint32_t i = 0; i < pool.super.generation_count; i++) {
        const struct generation_entry *entry = &pool.super.generations[i];

        CHECK_EQ(entry->number, expected[i]);
        if (!oracle_agrees(&oracle, &pool, entry, &scratch_arena, text))
            CHECK_STR(text, "");
    }
    CHECK_EQ(expected[pool.super.generation_count], 0);
}

#define CHECK_LISTED(...) check_listed((const uint64_t[]){__VA_ARGS__, 0})

static inline void end_run(struct superblock *super, void *context)
{
    super->run_state = RUN_ENDED;
    super->end_status = *(int *)context;
}

static inline uint64_t frame_of(unsigned page)
{
    struct index_entry entry;

    CHECK_OK(index_lookup(pool.index, oracle_page(page), &entry));
    return entry.frame;
}

#endif
