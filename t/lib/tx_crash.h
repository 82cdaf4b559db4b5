/*
 * tx_crash.h - a heap's life (it is made; transactions that store, allocate and free, nested and
 * aborted and interleaved ones; checkpoints; a log that grows; lives that end without a word),
 * recorded once, and the judge of the files that a power cut at each point of it could leave: each
 * is opened and compared with what is known, every word, every object and its bytes, the number of
 * objects; a share of them is gone on with, and cut again meanwhile.
 */
#ifndef PHEAP_T_LIB_TX_CRASH_H
#define PHEAP_T_LIB_TX_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include "t/lib/crash_states.h"

#define TX_CRASH_SEED 20260202

struct tx_crash_result {
    unsigned long states;
    unsigned long written;       /* of them gone on with */
    unsigned long nested_states; /* of cuts during that */
    size_t operations;
    unsigned acknowledged;
    const char *text; /* the first thing that is wrong; "": nothing */
};

void tx_crash_begin(void);
void tx_crash_end(void);

/* spoil(true) before the life, spoil(false) when all is over. */
struct tx_crash_result tx_crash_try(enum crash_media on, bool may_write, void (*spoil)(bool on));

#endif
