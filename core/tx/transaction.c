/*
 * transaction.c - see transaction.h.
 *
 * What must always be true: nothing of a transaction is in the pool before tx_commit() of the
 * outermost one writes its record; whatever an open one has done to memory can be undone from its
 * list.
 */
#include "core/tx/transaction.h"

#include <errno.h>
#include <string.h>
#include "core/heap/slot.h"
#include "core/tx/draft.h"
#include "core/tx/mutant.h"
#include "core/tx/operation.h"
#include "core/tx/opened_cut.h"

#define TX_ARENA_BYTES (8ull << 30)

/* Where a nested transaction began. */
struct level {
    struct level *outer;
    struct op *last;
};

struct pheap_tx {
    struct pheap *heap;
    struct arena arena;
    struct op *first, *last;
    struct level *level;   /* NULL: the outermost one */
    struct pheap_tx *next; /* in heap->spare */
};

struct pheap *tx_heap(const struct pheap_tx *tx)
{
    return tx->heap;
}

/* --- beginning and ending --- */

static struct pheap_tx *take_spare(struct pheap *heap)
{
    struct pheap_tx *tx;

    lock_acquire(&heap->lock, heap_holder());
    tx = heap->spare;
    if (tx)
        heap->spare = tx->next;
    lock_release(&heap->lock);
    return tx;
}

static struct pheap_tx *make_tx(struct pheap *heap)
{
    struct arena arena;
    struct pheap_tx *tx;

    if (arena_create(&arena, TX_ARENA_BYTES) < 0)
        return NULL;
    tx = arena_alloc(&arena, sizeof *tx, 16);
    if (!tx) {
        arena_destroy(&arena);
        return NULL;
    }
    tx->heap = heap;
    tx->arena = arena;
    return tx;
}

void tx_drop_spares(struct pheap *heap)
{
    struct pheap_tx *tx;

    while ((tx = heap->spare)) {
        struct arena arena = tx->arena;

        heap->spare = tx->next;
        arena_destroy(&arena);
    }
}

static int begin_outermost(struct pheap *heap, struct pheap_tx **out)
{
    struct pheap_tx *tx;
    int status = opened_may_change(heap);

    if (status < 0)
        return status;
    opened_checkpoint_if_due(heap);
    tx = take_spare(heap);
    if (!tx)
        tx = make_tx(heap);
    if (!tx)
        return -ENOMEM;
    opened_enter(heap);
    *out = tx;
    return 0;
}

int tx_begin(struct pheap *heap, struct pheap_tx **tx)
{
    struct level *level;

    if (!*tx)
        return begin_outermost(heap, tx);
    if ((*tx)->heap != heap)
        return -EINVAL;
    level = arena_alloc(&(*tx)->arena, sizeof *level, 8);
    if (!level)
        return -ENOMEM;
    *level = (struct level){(*tx)->level, (*tx)->last};
    (*tx)->level = level;
    return 0;
}

/* The heap may be closed from here on by others, but for the calls that are still to be made. */
static void recycle(struct pheap_tx *tx)
{
    struct pheap *heap = tx->heap;

    arena_rewind(&tx->arena, (uintptr_t)(tx + 1));
    tx->first = tx->last = NULL;
    tx->level = NULL;
    lock_acquire(&heap->lock, heap_holder());
    tx->next = heap->spare;
    heap->spare = tx;
    lock_release(&heap->lock);
    opened_leave(heap);
}

/* --- operations --- */

static struct op *new_op(struct pheap_tx *tx, enum op_kind kind, size_t more_bytes)
{
    struct op *op = arena_alloc(&tx->arena, sizeof *op + more_bytes, 16);

    if (op)
        op->kind = kind;
    return op;
}

static void append_op(struct pheap_tx *tx, struct op *op)
{
    op->before = tx->last;
    if (tx->last)
        tx->last->after = op;
    else
        tx->first = op;
    tx->last = op;
}

int tx_add(struct pheap_tx *tx, void *start, size_t bytes)
{
    struct op *op;

    if (!slot_memory_may_write(&tx->heap->memory, (uintptr_t)start, bytes))
        return -EINVAL;
    op = new_op(tx, OP_RANGE, bytes);
    if (!op)
        return -ENOMEM;
    op->range.start = start;
    op->range.bytes = bytes;
    memcpy(op + 1, start, bytes);
    append_op(tx, op);
    return 0;
}

int tx_alloc(struct pheap_tx *tx, size_t bytes, uint32_t type, void **block)
{
    struct pheap *heap = tx->heap;
    struct op *op = new_op(tx, OP_ALLOC, 0);
    int status;

    if (!op)
        return -ENOMEM;
    lock_acquire(&heap->lock, heap_holder());
    status = blocks_take(&heap->blocks, bytes, type, &op->block);
    lock_release(&heap->lock);
    if (status < 0)
        return status;
    append_op(tx, op);
    *block = (void *)op->block.address;
    return 0;
}

static void set_state(struct pheap *heap, const struct block *block, enum tx_block_state state)
{
    lock_acquire(&heap->lock, heap_holder());
    blocks_set_state(&heap->blocks, block, state);
    lock_release(&heap->lock);
}

int tx_free(struct pheap_tx *tx, void *start)
{
    struct pheap *heap = tx->heap;
    struct op *op = new_op(tx, OP_FREE, 0);
    int status = -EINVAL;

    if (!op)
        return -ENOMEM;
    lock_acquire(&heap->lock, heap_holder());
    if (block_find(&heap->memory, (uintptr_t)start, &op->block) &&
        block_state(&op->block) == TX_USED) {
        blocks_set_state(&heap->blocks, &op->block,
                         TX_MUTANT(TX_MUTANT_FREE_AT_ONCE) ? TX_FREE : TX_FREEING);
        status = 0;
    }
    lock_release(&heap->lock);
    if (status == 0)
        append_op(tx, op);
    return status;
}

static int add_call(struct pheap_tx *tx, enum op_kind kind, tx_call *call, void *context)
{
    struct op *op = new_op(tx, kind, 0);

    if (!op)
        return -ENOMEM;
    op->call.function = call;
    op->call.context = context;
    append_op(tx, op);
    return 0;
}

int tx_on_commit(struct pheap_tx *tx, tx_call *call, void *context)
{
    return add_call(tx, OP_ON_COMMIT, call, context);
}

int tx_on_abort(struct pheap_tx *tx, tx_call *call, void *context)
{
    return add_call(tx, OP_ON_ABORT, call, context);
}

/* --- aborting --- */

static void undo_op(struct pheap *heap, const struct op *op)
{
    switch (op->kind) {
    case OP_RANGE:
        if (!TX_MUTANT(TX_MUTANT_UNDO_NOT_APPLIED))
            memcpy(op->range.start, op + 1, op->range.bytes);
        break;
    case OP_ALLOC:
        set_state(heap, &op->block, TX_FREE);
        break;
    case OP_FREE:
        if (!TX_MUTANT(TX_MUTANT_FREE_AT_ONCE))
            set_state(heap, &op->block, TX_USED);
        break;
    default:
        break;
    }
}

/* Newest first, down to `keep`, which stays. The calls come when memory is as it was. */
static void undo_to(struct pheap_tx *tx, struct op *keep)
{
    for (struct op *op = tx->last; op != keep; op = op->before)
        undo_op(tx->heap, op);
    for (struct op *op = tx->last; op != keep; op = op->before)
        if (op->kind == OP_ON_ABORT)
            op->call.function(op->call.context);
    tx->last = keep;
    if (keep)
        keep->after = NULL;
    else
        tx->first = NULL;
}

static void abort_nested(struct pheap_tx *tx)
{
    struct level *level = tx->level;

    tx->level = level->outer;
    undo_to(tx, level->last);
    arena_rewind(&tx->arena, (uintptr_t)level);
}

void tx_abort(struct pheap_tx *tx)
{
    if (tx->level) {
        abort_nested(tx);
        return;
    }
    undo_to(tx, NULL);
    recycle(tx);
}

/* --- committing --- */

static int append_record(struct pheap *heap, struct log_record *record)
{
    int status;

    lock_acquire(&heap->log_lock, heap_holder());
    status = opened_may_change(heap);
    if (status == 0)
        status = log_append(&heap->log, record, NULL);
    if (heap->log.used >= heap->checkpoint_at_bytes)
        __atomic_store_n(&heap->is_due, true, __ATOMIC_RELAXED);
    if (status < 0 && heap->pool.persist.failed)
        __atomic_store_n(&heap->failed, heap->pool.persist.failed, __ATOMIC_RELAXED);
    lock_release(&heap->log_lock);
    return status;
}

/* Steps 1 and 2. A transaction that has changed nothing writes nothing. */
static int make_durable(struct pheap_tx *tx)
{
    struct log_record *record;
    int status = draft_record(tx->first, &tx->arena, &record);

    return status == 1 ? append_record(tx->heap, record) : status;
}

/* Step 3. */
static void finish(struct pheap_tx *tx)
{
    for (const struct op *op = tx->first; op && !TX_MUTANT(TX_MUTANT_FREE_AT_ONCE); op = op->after)
        if (op->kind == OP_FREE)
            set_state(tx->heap, &op->block, TX_FREE);
    for (const struct op *op = tx->first; op; op = op->after)
        if (op->kind == OP_ON_COMMIT)
            op->call.function(op->call.context);
}

int tx_commit(struct pheap_tx *tx)
{
    int status;

    if (tx->level) {
        tx->level = tx->level->outer;
        return 0;
    }
    status = make_durable(tx);
    if (status < 0) {
        tx_abort(tx);
        return status;
    }
    finish(tx);
    recycle(tx);
    return 0;
}
