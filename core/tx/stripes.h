/*
 * stripes.h - versions of memory: what tells an optimistic transaction that what it has read is no
 * longer so.
 *
 * Every 64 bytes of a heap belong to one of STRIPE_COUNT stripes. A stripe's word lies outside the
 * slot, is never saved, and holds
 *
 *     bit 0        EXCLUSIVE: an optimistic transaction commits what lies there
 *     bits 1-15    how many direct transactions hold it: they may be storing there
 *     bits 16-63   version: one more than the clock was when somebody who may have stored there
 *                  let go last
 *
 * The clock is one for all heaps of the process, so that one reading of it stands for all that a
 * transaction across heaps has read. Who lets go of stripes looks at it while they are still taken,
 * and leaves it as it is: its word is everybody's, and commits on disjoint data share nothing that
 * is written to. Who finds a version that the clock has not reached raises the clock to it.
 *
 * Hence: if a stripe was free when the clock stood at c, or higher, and its version at most c, and
 * it is so now (same c), nobody has stored there since: who takes it later finds the clock at c,
 * and leaves at least c + 1. A version above c says nothing: several may have left the same one.
 *
 * A set of stripes belongs to one transaction: those it holds, or those it has read.
 *
 * Who waits: a holder (direct) for an exclusive one, which ends by itself, being in the middle of a
 * commit; a reader for either, but not for ever; who wants one exclusively for nobody. So nobody
 * waits in a circle. The stores of the program are plain ones, their order that of x86-64: after
 * the word was taken, before it is given up.
 *
 * The token says which transaction has lost too often: others let it go first, for a while.
 */
#ifndef PHEAP_TX_STRIPES_H
#define PHEAP_TX_STRIPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

#define STRIPE_SHIFT     6
#define STRIPE_BYTES     (1u << STRIPE_SHIFT)
#define STRIPE_COUNT     (1u << 18)
#define STRIPE_EXCLUSIVE 1ull
#define STRIPE_HOLDER    2ull
#define STRIPE_TAKEN     0xffffull /* any of both */

struct stripes {
    uint64_t *words;
    const void *token; /* whose it is; NULL: nobody's */
    uint64_t patience; /* so many ns others wait for who has it */
};

/* Invariant: bit i is set if and only if i stands in the list, once. */
struct stripe_set {
    uint64_t *bits;
    uint32_t *list;
    uint32_t count;
};

MUST_CHECK int stripes_create(struct stripes *stripes, struct arena *arena);
MUST_CHECK int stripe_set_create(struct stripe_set *set, struct arena *arena);
void stripe_set_empty(struct stripe_set *set);
bool stripe_set_has(const struct stripe_set *set, uint32_t stripe);
void stripe_set_put(struct stripe_set *set, uint32_t stripe);

uint64_t stripes_clock(void);
/* Not before it has reached `version`, which a stripe has; the clock. */
uint64_t stripes_raise_clock(uint64_t version);

static inline uint32_t stripe_of(uintptr_t address)
{
    return (uint32_t)(address >> STRIPE_SHIFT) & (STRIPE_COUNT - 1);
}

/* How many stripes so many bytes at address lie in; they follow each other, from stripe_of(). */
uint64_t stripe_span(uintptr_t address, uint64_t bytes);

/* For a direct transaction, until stripe_set_release(): nobody else commits to these bytes, and no
 * optimistic one reads them. */
void stripes_hold(struct stripes *stripes, struct stripe_set *held, uintptr_t address,
                  uint64_t bytes);

/* Exclusively; false: somebody has one of them. What was taken stays in the set. */
bool stripes_lock(struct stripes *stripes, struct stripe_set *locked, uintptr_t address,
                  uint64_t bytes);

/* Lets go of all; empties the set. changed: what lies there may have been stored to. The clock, if
 * it was looked at; they have at least one more as their version. */
uint64_t stripe_set_release(struct stripes *stripes, struct stripe_set *held, bool exclusive,
                            bool changed);

/* Has nobody stored to these, or is about to, since the clock stood at `since`? Those in `own` are
 * locked by the caller (it may be NULL). */
bool stripes_unchanged(const struct stripes *stripes, const struct stripe_set *read, uint64_t since,
                       const struct stripe_set *own);

/*
 * Copies bytes that lie in one stripe as they were when it was free, and says its version.
 * STATUS_CONFLICT: somebody keeps it.
 */
MUST_CHECK int stripes_copy(const struct stripes *stripes, void *to, uintptr_t from, size_t bytes,
                            uint64_t *version);

/* Rounds of waiting become longer: 0, 1, 2 ... */
void stripes_pause(unsigned round);

/* For who has failed so often. Waits for the present owner first, but not for ever. */
void stripes_take_token(struct stripes *stripes, const void *owner, unsigned failures);
void stripes_drop_token(struct stripes *stripes, const void *owner);
/* Before taking stripes, when none is held: lets the token's owner go first, for a while. */
void stripes_yield_to_token(const struct stripes *stripes, const void *me);

#endif
