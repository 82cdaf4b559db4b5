/*
 * pool_scratch.h - a directory of a pool test's own, with one pool in it, gone at the end. With
 * PHEAP_TEST_STORAGE=dax the pool is written by the DAX back end.
 */
#ifndef PHEAP_T_LIB_POOL_SCRATCH_H
#define PHEAP_T_LIB_POOL_SCRATCH_H

#include <stdint.h>
#include "core/base/arena.h"
#include "core/pool/pool.h"
#include "t/lib/pool_oracle.h"

extern struct arena scratch_arena;

/* Makes the directory (in memory if there is room: a sync costs nothing there) and the arena. */
void scratch_begin(void);
void scratch_end(void);

/* "DIRECTORY/name"; the buffer is the callee's, one of four in turn. */
const char *scratch_path(const char *name);

/* A new pool "pool" (one that is there goes), open for writing, loaded, and an empty oracle.
 * The test is failed when a step fails. */
void scratch_pool(struct pool *pool, struct oracle *oracle, uint32_t keep);

/* Closes it and opens it again, on base; the status of pool_open() or pool_load(). */
int scratch_reopen(struct pool *pool, struct oracle *oracle, uint64_t base, struct problem *why);

#endif
