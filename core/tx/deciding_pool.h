/*
 * deciding_pool.h - what a pool has decided about a transaction that another one has prepared,
 * read from its file. Nothing of it is trusted. Internal to core/tx.
 */
#ifndef PHEAP_TX_DECIDING_POOL_H
#define PHEAP_TX_DECIDING_POOL_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/tx/log_format.h"

/* Those that were asked, each file read once however many promises name it. Begins as zeroes; to be
 * forgotten. */
struct deciding_pools {
    struct arena arena;
    struct deciding_pool *first;
};

/*
 * asking: the path of the pool that has the promise; the deciding one is looked for where it was
 * then, and beside that. 1: it has committed; 0: it has not. STATUS_IN_DOUBT: it is not there, or
 * cannot be read, or is older than the promise; *why says which.
 */
MUST_CHECK int deciding_pool_ask(struct deciding_pools *pools, uint64_t id,
                                 const struct log_promise *promise, const char *asking,
                                 struct problem *why);

void deciding_pools_forget(struct deciding_pools *pools);

#endif
