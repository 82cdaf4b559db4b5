/*
 * optimistic_commit.c - see optimistic_commit.h.
 */
#include "core/tx/optimistic_commit.h"

#include <errno.h>
#include "core/tx/mutant.h"
#include "core/tx/opened.h"

/* What it has written, and the blocks that it frees. */
static int lock_part(struct pheap_tx *tx)
{
    struct stripes *stripes = &tx->heap->stripes;
    int status = optimistic_lock(tx->optimistic, &tx->held);

    for (const struct op *op = tx->first; status == 0 && op; op = op->after)
        if (op->kind == OP_FREE && !TX_MUTANT(TX_MUTANT_FREE_NOT_LOCKED) &&
            !stripes_lock(stripes, &tx->held, op->block.address, block_bytes(&op->block)))
            status = STATUS_CONFLICT;
    return status;
}

/* Only now is it certain that these are the blocks it means. Not in use: it has itself freed it
 * before. */
static int mark_part(struct pheap_tx *tx)
{
    for (struct op *op = tx->first; op; op = op->after)
        if (op->kind == OP_FREE && !operation_mark_freed(tx, op))
            return TX_MUTANT(TX_MUTANT_FREE_NOT_LOCKED) ? STATUS_CONFLICT : -EINVAL;
    return 0;
}

static int store_part(struct pheap_tx *tx)
{
    const struct write_buffer *buffer = &tx->optimistic->buffer;
    struct run run = {0};
    int status = 0;

    while (status == 0 && write_buffer_next(buffer, &run)) {
        status = operation_add_range(tx, (void *)run.start, run.bytes);
        TX_WINDOW();
        if (status == 0)
            write_buffer_apply(buffer, &run);
    }
    return status;
}

/* Afterwards it is a direct transaction that has stored what it will, and holds it exclusively. */
int optimistic_commit(struct pheap_tx *tx)
{
    int status = 0;

    for (struct pheap_tx *part = tx; part; part = part->part) {
        stripes_yield_to_token(&part->heap->stripes, tx->optimistic);
        operation_enter(part);
    }
    for (struct pheap_tx *part = tx; status == 0 && part; part = part->part)
        status = lock_part(part);
    for (struct pheap_tx *part = tx; status == 0 && part; part = part->part)
        status = optimistic_validate(part->optimistic, &part->held);
    for (struct pheap_tx *part = tx; status == 0 && part; part = part->part)
        status = mark_part(part);
    for (struct pheap_tx *part = tx; status == 0 && part; part = part->part)
        status = store_part(part);
    return status;
}
