/*
 * busy.h - the neighbourhoods (rewrite.h) that the program writes to all over in every generation,
 * and when a round of the pre-copy looks at them.
 *
 * Nearly each page of such a neighbourhood would take a write fault between two generations, only
 * to say what is known already. So it is left unprotected from the cut to the next round, which
 * looks at all of it: one page too many costs a comparison, half as much as a fault.
 *
 *     quiet --> once --> busy --> on trust --> ... --> once
 *       ^________|        ^__________|
 *
 * Half of its pages were found written in two generations: it is busy. From then on only what has
 * changed is known of it. Half of its pages: it stays busy. Less: it may be that the program writes
 * what was there before (a block is freed, allocated, and filled as it was), so it is unprotected
 * on trust for some generations more; then it is protected for one, which tells. No more than
 * BUSY_TRUSTED neighbourhoods at a time are trusted.
 *
 * A round protects and copies busy neighbourhoods two by two, one pair after the other, when
 * everything else is done: a store before a page's turn costs no fault, and what it changes is
 * copied once. A store after it costs a fault and perhaps a second copy. So the hot ones, which the
 * program stores to most, have their turn last: the less time is left until the cut, the fewer of
 * their pages are stored to.
 */
#ifndef PHEAP_IMAGE_BUSY_H
#define PHEAP_IMAGE_BUSY_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/image/page_set.h"
#include "core/image/rewrite.h"

#define BUSY_TURNS       2u /* what is not hot, what is */
#define BUSY_TRUSTED     512u
#define BUSY_TRUST_TURNS 8u /* generations */

struct busy {
    uint64_t slot_page; /* the first page of neighbourhood 0 */
    uint8_t *state;     /* of each neighbourhood: see busy.c */
    uint16_t *found;    /* of each: pages found written by the first round of this generation */
    uint16_t *again;    /* of each: by the others */
    uint32_t end;       /* neighbourhoods from here on were never found written */
    bool has_begun;     /* the first round of this generation is over */
    struct page_set all, turns[BUSY_TURNS];
};

MUST_CHECK int busy_create(struct busy *busy, struct arena *arena, uint32_t slot);

/* A round has found pages [page, end) written. Those outside the slot, and beyond its first 64 GiB,
 * are ignored. */
void busy_note(struct busy *busy, uint64_t page, uint64_t end);

/* A round is over. */
void busy_round_done(struct busy *busy);

/* The checkpoint is put off: its rounds will begin anew. */
void busy_begin_again(struct busy *busy);

/* Decides anew what is busy, for the rounds of the next generation: after the cut. */
void busy_decide(struct busy *busy, const struct rewriter *rewriter);

/* Whether anything has this turn. */
bool busy_has(const struct busy *busy, unsigned turn);

/*
 * The next part of [*page, end) that has this turn, of two neighbourhoods: [*page, *stop). With
 * turn BUSY_TURNS: that is in no busy one, as long as it may be. False: there is none. To go on,
 * set *page to *stop.
 */
bool busy_next(const struct busy *busy, unsigned turn, uint64_t *page, uint64_t end,
               uint64_t *stop);

#endif
