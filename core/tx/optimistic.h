/*
 * optimistic.h - what an optimistic transaction knows of one heap: which stripes it has read at
 * which clock, and what it has written. transaction.h says how it begins and ends.
 *
 * Opacity. All that a transaction has read was so at one moment, the one when its clock was read: a
 * copy counts if its stripe was free and no newer than the clock. If it is newer, the clock is
 * raised to that, read again, and counts if nothing that was read before has changed since (in any
 * of the transaction's heaps); else the transaction has lost: STATUS_CONFLICT, and its caller
 * begins it anew. So it never sees what no serial order gives, also if it will fail.
 *
 * Serial order. A commit takes the stripes it will store to, then looks whether what was read is
 * still so, stores, makes its record durable, and lets go. Its place in the order is when it held
 * its stripes and its reads were true.
 *
 * Thread safety: as the transaction.
 */
#ifndef PHEAP_TX_OPTIMISTIC_H
#define PHEAP_TX_OPTIMISTIC_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/tx/stripes.h"
#include "core/tx/write_buffer.h"

struct optimistic {
    struct arena arena; /* this lies in it */
    struct stripes *stripes;
    struct stripe_set read;
    struct write_buffer buffer;
    struct optimistic *first, *next; /* of one transaction, a heap each */
    /* of the first: */
    uint64_t clock;    /* or earlier: what is read to be newer has the clock read again */
    unsigned failures; /* in a row */
};

MUST_CHECK int optimistic_create(struct optimistic **out, struct stripes *stripes);
void optimistic_destroy(struct optimistic *optimistic);

/* An attempt begins, in its first heap; the next one, in all that have joined. Its clock is the one
 * that was read last: as good as any earlier one, and the clock's word is everybody's. */
void optimistic_begin(struct optimistic *optimistic);
void optimistic_begin_again(struct optimistic *first);
/* One more heap. (One clock stands for all of them.) */
void optimistic_join(struct optimistic *optimistic, struct optimistic *first);

/* STATUS_CONFLICT: begin anew. */
MUST_CHECK int optimistic_read(struct optimistic *optimistic, void *to, uintptr_t from,
                               size_t bytes);

/* STATUS_CONFLICT: what was read has changed. Else all of it is so at this moment. */
MUST_CHECK int optimistic_look_again(struct optimistic *optimistic);

/* Takes the stripes of what was written. STATUS_CONFLICT: others have them. */
MUST_CHECK int optimistic_lock(struct optimistic *optimistic, struct stripe_set *locked);

/* With all stripes taken. STATUS_CONFLICT: what was read has changed. */
MUST_CHECK int optimistic_validate(const struct optimistic *optimistic,
                                   const struct stripe_set *locked);

/* Nothing is read, nothing written in this heap. */
void optimistic_forget(struct optimistic *optimistic);

/* Of the first, between two attempts: waits the longer the more have failed; at last takes the
 * tokens of all its heaps. */
void optimistic_back_off(struct optimistic *first);

/* It has committed or given up; each of its heaps, the first last. */
void optimistic_end(struct optimistic *optimistic);

#endif
