/*
 * ending.c - see ending.h.
 *
 * What must always be true: memory is as it will be before others may look at it; a block is free
 * only after the versions of its stripes have been raised, so that who comes by an older pointer is
 * told.
 */
#include "core/tx/ending.h"

#include <string.h>
#include "core/tx/mutant.h"
#include "core/tx/opened.h"

/* --- undoing --- */

static void undo_op(struct pheap_tx *tx, const struct op *op)
{
    struct blocks *blocks = &tx->heap->blocks;

    switch (op->kind) {
    case OP_RANGE:
        if (!TX_MUTANT(TX_MUTANT_UNDO_NOT_APPLIED))
            memcpy(op->range.start, op + 1, op->range.bytes);
        break;
    case OP_ALLOC:
        blocks_free(blocks, &tx->hand, &op->block);
        break;
    case OP_FREE:
        if (op->is_marked && !TX_MUTANT(TX_MUTANT_FREE_AT_ONCE))
            blocks_unmark(blocks, &op->block);
        break;
    default:
        break;
    }
}

/* Newest first, down to `keep`. */
static void undo_to(struct pheap_tx *tx, const struct op *keep)
{
    for (struct op *op = tx->last; op != keep; op = op->before)
        undo_op(tx, op);
}

/* When memory is as it was. */
static void call_on_abort(struct pheap_tx *tx, struct op *keep)
{
    for (struct op *op = tx->last; op != keep; op = op->before)
        if (op->kind == OP_ON_ABORT)
            op->call.function(op->call.context);
    tx->last = keep;
    if (keep)
        keep->after = NULL;
    else
        tx->first = NULL;
}

void ending_undo_nested(struct pheap_tx *tx)
{
    struct level *level = tx->level;

    if (tx->is_optimistic)
        write_buffer_undo(&tx->optimistic->buffer, level->before);
    undo_to(tx, level->last);
    call_on_abort(tx, level->last);
    tx->level = level->outer;
    arena_drop(&tx->arena, (uintptr_t)level);
}

/* A commit that has lost before it stored anything leaves no trace. */
static bool has_stored(const struct pheap_tx *tx)
{
    for (const struct op *op = tx->first; op; op = op->after)
        if (op->kind == OP_RANGE)
            return true;
    return !tx->is_optimistic;
}

/* All parts: memory first, then what keeps others away from it, then the calls. */
void ending_undo(struct pheap_tx *tx)
{
    for (struct pheap_tx *part = tx; part; part = part->part)
        undo_to(part, NULL);
    for (struct pheap_tx *part = tx; part; part = part->part)
        (void)stripe_set_release(&part->heap->stripes, &part->held, part->is_optimistic,
                                 has_stored(part));
    for (struct pheap_tx *part = tx; part; part = part->part) {
        call_on_abort(part, NULL);
        part->level = NULL;
        arena_drop(&part->arena, part->arena_start);
    }
}

/* --- step 3 of a commit --- */

static void free_blocks(struct pheap_tx *tx)
{
    for (const struct op *op = tx->first; op; op = op->after)
        if (op->kind == OP_FREE && !TX_MUTANT(TX_MUTANT_FREE_AT_ONCE))
            blocks_free(&tx->heap->blocks, &tx->hand, &op->block);
}

void ending_finish(struct pheap_tx *tx)
{
    for (struct pheap_tx *part = tx; part; part = part->part) {
        uint64_t clock =
            stripe_set_release(&part->heap->stripes, &part->held, part->is_optimistic, true);

        if (clock > 0 && part->is_optimistic)
            part->optimistic->clock = clock;
    }
    for (struct pheap_tx *part = tx; part; part = part->part)
        free_blocks(part);
    for (struct pheap_tx *part = tx; part; part = part->part)
        for (const struct op *op = part->first; op; op = op->after)
            if (op->kind == OP_ON_COMMIT)
                op->call.function(op->call.context);
}
