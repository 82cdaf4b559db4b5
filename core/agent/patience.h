/*
 * patience.h - how long memory is copied while the program runs, how much may be left for the
 * freeze, and what is done when it is more.
 *
 * A program that is making its heap, or that we could not keep up with for a moment, is not stopped
 * for all that it has written since: the checkpoint is put off, unless that goes on for long. While
 * it is, rounds take a fifth of the time at most: they cost the program write faults, and what they
 * write is written again. For the same reason a cut may be large: a program that always writes fast
 * is stopped for 16 ms rather than copied twice.
 *
 * Only numbers: nothing here waits or looks at a clock. Times are of CLOCK_MONOTONIC.
 */
#ifndef PHEAP_AGENT_PATIENCE_H
#define PHEAP_AGENT_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

#define PATIENCE_ROUNDS       4u
#define PATIENCE_ENOUGH_PAGES 2048u  /* a cut takes 1 ms for them, a round three times that */
#define PATIENCE_CUT_PAGES    16384u /* some 16 ms; the scratch of a cut holds so many */

struct patience {
    uint64_t large_since_ns; /* since when too much was left for a cut; 0: it is not */
    uint64_t wait_ns;        /* nothing is tried for so long after the attempt at hand */
};

/* What a cut will find, when the last round copied so many pages, and the one before so many
 * (UINT64_MAX: there was none). */
uint64_t patience_left(uint64_t copied, uint64_t before);

/* Whether another round helps after so many: the program would be stopped for less, and the pages
 * that are copied once more are worth it. */
bool patience_goes_on(unsigned rounds, uint64_t copied, uint64_t before);

/* How many pages a cut may copy; 0: as many as it must. interval_ns 0: there is none. */
uint64_t patience_limit(const struct patience *patience, uint64_t interval_ns, uint64_t now_ns);

/* More is left than that, after rounds that took spent_ns. */
void patience_exceeded(struct patience *patience, uint64_t interval_ns, uint64_t now_ns,
                       uint64_t spent_ns);

/* A generation is committed: all that is over. */
void patience_committed(struct patience *patience);

#endif
