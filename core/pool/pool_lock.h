/*
 * pool_lock.h - the OFD locks of a pool, internal to core/pool.
 *
 * LOCK_BYTE_WRITER: write-locked by the one writer. LOCK_BYTE_GENERATION + n: read-locked by
 * everybody who has generation n mapped; write-locked by the writer while it drops n, so that
 * nobody can come in between "nobody reads it" and "the superblock no longer lists it".
 */
#ifndef PHEAP_POOL_LOCK_H
#define PHEAP_POOL_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "core/pool/pool.h"

MUST_CHECK int pool_lock_writer(struct pool *pool, struct problem *why);

/* True: nobody reads generation number, and nobody can begin to before pool_end_drop(). */
bool pool_begin_drop(const struct pool *pool, uint64_t number);
void pool_end_drop(const struct pool *pool, uint64_t number);

#endif
