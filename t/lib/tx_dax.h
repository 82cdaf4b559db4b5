/*
 * tx_dax.h - tx_fixture.h's heap on what is taken for persistent memory.
 */
#ifndef PHEAP_T_LIB_TX_DAX_H
#define PHEAP_T_LIB_TX_DAX_H

#include "t/lib/tx_fixture.h"

static void *fixture_copy(void *to, const void *from, size_t bytes, unsigned flags)
{
    (void)flags;
    return memcpy(to, from, bytes);
}

static void fixture_fence(void)
{
    __builtin_ia32_sfence();
}

static inline void fixture_open_on_dax(void)
{
    static const struct persist_pmem pmem = {fixture_copy, fixture_fence, true};

    CHECK_OK(opened_attach(&heap, fixture_path, false, &why));
    opened_use_dax(heap, &pmem, clock_gettime);
    CHECK_OK(opened_load(heap, &why));
    CHECK_STR(heap->pool.persist.ops->name, "dax"); /* else the directory is no tmpfs */
}

static inline void fixture_create_on_dax(void)
{
    unlink(fixture_path);
    CHECK_OK(pool_create(fixture_path, FIXTURE_SLOT, 3, &why));
    fixture_open_on_dax();
}

#endif
