/*
 * crash_pair.h - as crash_states.h, for two files, on block devices or on persistent memory, that
 * are cut at the same moment: what a sync or a fence for one has covered says nothing of the other.
 * Their operations are ordered by `when`.
 *
 * At each point of the common trace, for each file on its own: all that is pending is there, none
 * of it, each single operation lost or alone, the last one torn, random sectors (cache lines). Each
 * of these is combined with all and with none of the other file's; and random ones of both.
 */
#ifndef PHEAP_T_LIB_CRASH_PAIR_H
#define PHEAP_T_LIB_CRASH_PAIR_H

#include <stdbool.h>
#include <stdint.h>
#include "t/lib/crash_states.h"

#define CRASH_PAIR_RANDOM 6

/* As crash_judge. when: of the last operation before the cut. The files may be changed. */
typedef bool crash_pair_judge(void *context, uint64_t when);

struct crash_pair {
    enum crash_media media;
    const struct recording *recordings[2];
    const char *paths[2]; /* scratch files, made and left */
    size_t first_judged;  /* points before this operation of the common trace are not tried */
    uint64_t seed;
    crash_pair_judge *judge;
    void *context;
    unsigned long states; /* out */
    bool failed;          /* out */
};

void crash_pair_run(struct crash_pair *run);

#endif
