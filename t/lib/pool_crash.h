/*
 * pool_crash.h - a pool's life (create, commits of all shapes, updates, a pinned and a locked
 * generation, generations dropped by name, reopening, an abandoned generation, building on an older
 * one), recorded once, and the judge of the files that a power cut at each point of it could leave:
 * each is opened and compared with the oracle, a share of them is written to again, and some of
 * those are cut once more.
 */
#ifndef PHEAP_T_LIB_POOL_CRASH_H
#define PHEAP_T_LIB_POOL_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "t/lib/crash_states.h"

#define POOL_CRASH_SEED 20260101

/* How the pool is written, and what a cut does to that. */
struct pool_medium {
    const char *name;
    enum crash_media media;
    uint64_t window_bytes; /* of the DAX back end; 0: the file back end */
};

extern const struct pool_medium pool_on_block, pool_on_dax, pool_on_dax_in_part;

struct pool_crash_result {
    unsigned long states;
    unsigned long written;       /* of them committed to again */
    unsigned long nested_states; /* of cuts during that */
    size_t operations;
    char broken[256]; /* what failed in the life itself; "": nothing */
    char text[512];   /* the first state that is wrong; "": none */
};

void pool_crash_begin(void);
void pool_crash_end(void);

/* spoil(true) before the life, spoil(false) before it is judged. */
struct pool_crash_result pool_crash_try(const struct pool_medium *on, bool may_write,
                                        void (*spoil)(bool on));

#endif
