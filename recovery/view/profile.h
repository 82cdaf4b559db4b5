/*
 * profile.h - who allocated what is live in a generation: the samples of a profiled heap, weighted.
 *
 * After block_map_build(). Nothing is believed: a sample counts if its address is the start of a
 * block in use and its stack is there. Memory lies in the view's arena.
 */
#ifndef PHEAP_RECOVERY_VIEW_PROFILE_H
#define PHEAP_RECOVERY_VIEW_PROFILE_H

#include "core/heap/profile_format.h"
#include "recovery/view/blocks.h"

struct profile_reading {
    uint64_t rate_bytes; /* 0: the heap was not profiled */
    uint64_t taken, lost;
    struct profile_sample *samples; /* live ones, ascending addresses */
    uint32_t sample_count;
    struct profile_stack *stacks; /* number n is stacks[n - 1] */
    uint32_t stack_count;
};

MUST_CHECK int profile_read(struct profile_reading *out, const struct block_map *map,
                            struct problem *why);

/* For how many blocks of its size a sample stands: at least 1. */
double profile_weight(const struct profile_reading *reading, const struct profile_sample *sample);

/* The sample of the block that begins at address, or NULL. */
const struct profile_sample *profile_of_block(const struct profile_reading *reading,
                                              uint64_t address);

struct profile_total { /* of one stack, estimated */
    double bytes, blocks;
    uint64_t samples;
};

/* Sums the samples whose block has its bit set into totals[stack - 1]. */
void profile_sum(const struct profile_reading *reading, const struct block_map *map,
                 const uint64_t *bits, struct profile_total *totals);

#endif
