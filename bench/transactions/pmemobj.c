/*
 * pmemobj.c - the same of libpmemobj (measure.h).
 */
#include <libpmemobj.h>
#include "bench/transactions/measure.h"

#define POOL_BYTES (512ull << 20)

struct table {
    uint64_t words[OBJECTS];
    PMEMoid objects[OBJECTS];
};

static PMEMobjpool *pool;
static PMEMoid tables[THREADS_MAX];

static struct table *table_of(unsigned thread)
{
    return pmemobj_direct(tables[thread]);
}

static void begin(void)
{
    if (pmemobj_tx_begin(pool, NULL, TX_PARAM_NONE) != 0)
        fail("begin", pmemobj_errormsg());
}

static void end(void)
{
    pmemobj_tx_commit();
    if (pmemobj_tx_end() != 0)
        fail("commit", pmemobj_errormsg());
}

static void empty(unsigned thread, uint64_t i)
{
    (void)thread, (void)i;
    begin();
    end();
}

static void update(unsigned thread, uint64_t i)
{
    uint64_t *word = &table_of(thread)->words[i * 61 % OBJECTS];

    begin();
    if (pmemobj_tx_add_range_direct(word, sizeof *word) != 0)
        fail("add", pmemobj_errormsg());
    *word = i;
    end();
}

static void replace_in(unsigned thread, uint64_t i)
{
    PMEMoid *place = &table_of(thread)->objects[i * 61 % OBJECTS];

    if (pmemobj_tx_add_range_direct(place, sizeof *place) != 0)
        fail("add", pmemobj_errormsg());
    if (!OID_IS_NULL(*place) && pmemobj_tx_free(*place) != 0)
        fail("free", pmemobj_errormsg());
    *place = pmemobj_tx_zalloc(OBJECT_BYTES, 1);
    if (OID_IS_NULL(*place))
        fail("alloc", pmemobj_errormsg());
}

static void replace(unsigned thread, uint64_t i)
{
    begin();
    replace_in(thread, i);
    end();
}

static void sixteen(unsigned thread, uint64_t i)
{
    begin();
    for (unsigned k = 0; k < 16; k++)
        replace_in(thread, i * 16 + k);
    end();
}

int main(int argc, char **argv)
{
    static const struct measurement all[] = {
        {"update", update, 1, 1},   {"update-2", update, 1, 2},   {"update-16", update, 1, 16},
        {"replace", replace, 1, 1}, {"replace-2", replace, 1, 2}, {"sixteen", sixteen, 16, 1},
        {"empty", empty, 1, 1},     {"empty-2", empty, 1, 2},
    };
    char path[DIRECTORY_MAX + 32];

    if (argc < 3 || strlen(argv[1]) > DIRECTORY_MAX)
        return 2;
    snprintf(path, sizeof path, "%s/bench-tx.pmemobj", argv[1]);
    unlink(path);
    pool = pmemobj_create(path, "bench", POOL_BYTES, 0600);
    if (!pool)
        fail(path, pmemobj_errormsg());
    for (unsigned t = 0; t < THREADS_MAX; t++)
        if (pmemobj_zalloc(pool, &tables[t], sizeof(struct table), 2) != 0)
            fail("alloc", pmemobj_errormsg());
    measure_named(all, sizeof all / sizeof all[0], argc, argv);
    pmemobj_close(pool);
    unlink(path);
    return 0;
}
