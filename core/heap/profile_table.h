/*
 * profile_table.h - the tables of a profile: distinct stacks, and the live sampled blocks.
 *
 * Each call takes the profile's lock, which the caller must not hold (profile.c looks). What finds
 * no memory is counted as lost.
 */
#ifndef PHEAP_HEAP_PROFILE_TABLE_H
#define PHEAP_HEAP_PROFILE_TABLE_H

#include <stdbool.h>
#include "core/base/status.h"
#include "core/heap/profile_format.h"

/* Of the slot's reserve. */
#define PROFILE_RESERVE_PART      256u
#define PROFILE_RESERVE_MIN_BYTES (1ull << 20)

/* False: no memory. */
MUST_CHECK bool profile_table_create(struct heap *heap, struct thread_heap *slabs,
                                     uint64_t rate_bytes);

/* Replaces what there is of a block at this address. */
void profile_table_add(struct heap *heap, const void *block, uint64_t bytes, const uint64_t *frames,
                       uint32_t count);
void profile_table_remove(struct heap *heap, const void *block);
void profile_table_resize(struct heap *heap, const void *block, uint64_t bytes);

/* Of a heap that may be damaged, whose slot can be read as a whole: whether the calls above stay
 * within the tables and come to an end. Takes no lock. */
bool profile_table_is_valid(const struct heap *heap);

#endif
