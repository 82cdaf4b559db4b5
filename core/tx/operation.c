/*
 * operation.c - see operation.h.
 */
#include "core/tx/operation.h"

#include <errno.h>
#include <string.h>
#include "core/tx/mutant.h"
#include "core/tx/opened_cut.h"

struct op *operation_new(struct pheap_tx *tx, enum op_kind kind, size_t more_bytes)
{
    struct op *op = arena_alloc(&tx->arena, sizeof *op + more_bytes, 16);

    if (op) {
        op->after = NULL;
        op->kind = kind;
        op->is_marked = false;
    }
    return op;
}

void operation_append(struct pheap_tx *tx, struct op *op)
{
    op->before = tx->last;
    if (tx->last)
        tx->last->after = op;
    else
        tx->first = op;
    tx->last = op;
}

int operation_add_range(struct pheap_tx *tx, void *start, size_t bytes)
{
    struct op *op = operation_new(tx, OP_RANGE, bytes);

    if (!op)
        return -ENOMEM;
    op->range.start = start;
    op->range.bytes = bytes;
    memcpy(op + 1, start, bytes);
    operation_append(tx, op);
    return 0;
}

void operation_take_back(struct pheap_tx *tx, struct op *mark)
{
    for (struct op *op = tx->last; op != mark; op = op->before)
        memcpy(op->range.start, op + 1, op->range.bytes);
    tx->last = mark;
    if (mark)
        mark->after = NULL;
    else
        tx->first = NULL;
}

bool operation_mark_freed(struct pheap_tx *tx, struct op *op)
{
    op->is_marked = blocks_mark_freed(&tx->heap->blocks, &op->block);
    if (op->is_marked && TX_MUTANT(TX_MUTANT_FREE_AT_ONCE))
        blocks_free(&tx->heap->blocks, &tx->hand, &op->block);
    return op->is_marked;
}

bool operation_has_changed(const struct pheap_tx *tx)
{
    for (const struct op *op = tx->first; op; op = op->after)
        if (op->kind <= OP_FREE)
            return true;
    return tx->is_optimistic && tx->optimistic->buffer.first;
}

/* --- the gate --- */

void operation_enter(struct pheap_tx *tx)
{
    if (gate_is_inside(&tx->pass))
        return;
    if (__atomic_load_n(&tx->heap->log.is_long, __ATOMIC_RELAXED))
        opened_checkpoint_if_due(tx->heap);
    gate_enter(&tx->heap->gate, &tx->pass);
}

void operation_leave(struct pheap_tx *tx)
{
    if (gate_is_inside(&tx->pass))
        gate_leave(&tx->heap->gate, &tx->pass, GATE_HELD);
}
