/*
 * operation.h - a transaction from within: what it has done, oldest first (transaction.h says what
 * each means), and where it stands. Internal to core/tx.
 */
#ifndef PHEAP_TX_OPERATION_H
#define PHEAP_TX_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/tx/blocks.h"
#include "core/tx/gate.h"
#include "core/tx/log.h"
#include "core/tx/optimistic.h"

enum op_kind { OP_RANGE, OP_ALLOC, OP_FREE, OP_ON_COMMIT, OP_ON_ABORT };

struct op {
    struct op *before, *after;
    enum op_kind kind;
    bool is_marked;       /* OP_FREE: its block is TX_FREEING */
    uint64_t freed_bytes; /* OP_FREE: how long that was when it was found */
    union {
        struct {
            uint8_t *start;
            uint64_t bytes;
        } range; /* the bytes that were there follow */
        struct block block;
        struct {
            void (*function)(void *context);
            void *context;
        } call;
    };
};

/* Where a nested transaction began. */
struct level {
    struct level *outer;
    struct op *last;
    const struct line_before *before; /* of what is written optimistically */
};

struct pheap_tx {
    struct gate_pass pass; /* inside: a checkpoint waits for it */
    struct pheap *heap;
    const void *thread; /* heap_holder() of who has it, or had it last */
    struct arena arena; /* this lies in it */
    uintptr_t arena_start;
    struct op *first, *last;
    struct level *level;           /* NULL: the outermost one */
    struct pheap_tx *whole;        /* the one this is a part of: itself, unless it was joined */
    struct pheap_tx *part;         /* the next part of the whole, in another heap */
    void *user;                    /* tx_user() */
    struct stripe_set held;        /* exclusively, if it is optimistic: in its commit alone */
    struct optimistic *optimistic; /* NULL: it was never */
    struct log_lane lane;          /* so does this */
    struct blocks_hand hand;       /* goes with this, from one transaction to the next */
    bool is_optimistic;
    bool has_lost;      /* optimistic: nothing but beginning anew is left */
    bool soon;          /* its commit need not be durable when it returns, */
    uint64_t promised;  /* in a commit across heaps: the sequence of its record; 0: none */
    uint64_t durable;   /* a sequence up to which its heap's log is, since one of its commits */
    uint64_t *sequence; /* but this is what to wait for, if anything is; NULL: nobody asks */
};

/* With room for so many bytes behind it; NULL: no memory. Not in the list yet. */
struct op *operation_new(struct pheap_tx *tx, enum op_kind kind, size_t more_bytes);
void operation_append(struct pheap_tx *tx, struct op *op);

/* Keeps the bytes that are there. -ENOMEM. */
MUST_CHECK int operation_add_range(struct pheap_tx *tx, void *start, size_t bytes);

/* Ranges added since `mark` was the last one: put back, and out of the list. */
void operation_take_back(struct pheap_tx *tx, struct op *mark);

/* The block of a FREE is TX_FREEING from here on; false: it is not in use. */
bool operation_mark_freed(struct pheap_tx *tx, struct op *op);

/* Is there anything for a record? Of a transaction across heaps: in this part. */
bool operation_has_changed(const struct pheap_tx *tx);

/* Its heap's log is durable up to there. Sequences of a lane's records are older ones. */
static inline void operation_note_durable(struct pheap_tx *tx, uint64_t sequence)
{
    if (tx->durable < sequence)
        tx->durable = sequence;
}

/* From here on, until it leaves, a checkpoint waits for the transaction. */
void operation_enter(struct pheap_tx *tx);
void operation_leave(struct pheap_tx *tx);

#endif
