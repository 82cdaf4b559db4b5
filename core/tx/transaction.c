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
#include "core/tx/mutant.h"
#include "core/tx/opened_cut.h"

#define TX_ARENA_BYTES (8ull << 30)

enum op_kind { OP_RANGE, OP_ALLOC, OP_FREE, OP_ON_COMMIT, OP_ON_ABORT };

struct op {
    struct op *before, *after;
    enum op_kind kind;
    union {
        struct {
            uint8_t *start;
            uint64_t bytes;
        } range; /* the bytes that were there follow */
        struct block block;
        struct {
            tx_call *function;
            void *context;
        } call;
    };
};

/* Where a nested transaction began. */
struct level {
    struct level *outer;
    struct op *last;
};

struct pheap_tx {
    struct gate_pass pass; /* open: it is inside heap->gate */
    struct pheap *heap;
    struct arena arena;
    struct op *first, *last;
    struct level *level; /* NULL: the outermost one */
};

/* The transaction that this thread had last, as long as that heap is open: a guess. Others may take
 * it too, so nothing need be done when a thread ends. */
struct last_tx {
    uint64_t heap_id;
    struct pheap_tx *tx;
};
static __thread struct last_tx last_tx __attribute__((tls_model("initial-exec")));

struct pheap *tx_heap(const struct pheap_tx *tx)
{
    return tx->heap;
}

/* --- beginning and ending --- */

/* One of the heap's that is not open, or NULL. */
static struct pheap_tx *enter_any(struct pheap *heap)
{
    struct gate_pass *pass = __atomic_load_n(&heap->gate.passes, __ATOMIC_ACQUIRE);

    while (pass && !gate_enter(&heap->gate, pass))
        pass = pass->next;
    return (struct pheap_tx *)pass;
}

static struct pheap_tx *enter_new(struct pheap *heap)
{
    struct arena arena;
    struct pheap_tx *tx;

    if (arena_create(&arena, TX_ARENA_BYTES) < 0)
        return NULL;
    tx = arena_alloc(&arena, sizeof *tx, 64);
    if (!tx) {
        arena_destroy(&arena);
        return NULL;
    }
    tx->heap = heap;
    tx->arena = arena;
    tx->pass.presence = GATE_INSIDE; /* nobody else's once it is known */
    gate_add(&heap->gate, &tx->pass);
    gate_queue(&heap->gate, &tx->pass);
    return tx;
}

void tx_drop_all(struct pheap *heap)
{
    struct gate_pass *pass = heap->gate.passes;

    heap->gate.passes = NULL;
    while (pass) {
        struct pheap_tx *tx = (struct pheap_tx *)pass;
        struct arena arena = tx->arena; /* tx lies in it */

        pass = pass->next;
        arena_destroy(&arena);
    }
}

static int begin_outermost(struct pheap *heap, struct pheap_tx **out)
{
    struct pheap_tx *tx = last_tx.heap_id == heap->id ? last_tx.tx : NULL;
    int status = opened_may_change(heap);

    if (status < 0)
        return status;
    if (__atomic_load_n(&heap->is_due, __ATOMIC_RELAXED))
        opened_checkpoint_if_due(heap);
    if (!tx || !gate_enter(&heap->gate, &tx->pass)) {
        tx = enter_any(heap);
        if (!tx)
            tx = enter_new(heap);
        if (!tx)
            return -ENOMEM;
        last_tx = (struct last_tx){heap->id, tx};
    }
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

/* The heap may be closed from here on by others. */
static void recycle(struct pheap_tx *tx)
{
    arena_rewind(&tx->arena, (uintptr_t)(tx + 1));
    tx->first = tx->last = NULL;
    tx->level = NULL;
    gate_leave(&tx->heap->gate, &tx->pass);
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

/* --- the record --- */

static uint64_t write_bytes(uint64_t bytes)
{
    return sizeof(struct log_entry) + ((bytes + 7) & ~7ull);
}

static uint64_t op_bytes(const struct op *op)
{
    switch (op->kind) {
    case OP_RANGE:
        return write_bytes(op->range.bytes);
    case OP_ALLOC:
        return sizeof(struct log_entry) + write_bytes(block_bytes(&op->block));
    case OP_FREE:
        return sizeof(struct log_entry);
    default:
        return 0;
    }
}

/* A record under construction. */
struct draft {
    struct log_record *record;
    uint8_t *at;
};

static void put_entry(struct draft *draft, const struct log_entry *entry)
{
    memcpy(draft->at, entry, sizeof *entry);
    draft->at += sizeof *entry;
    draft->record->entry_count++;
}

static void put_write(struct draft *draft, uintptr_t address, uint64_t bytes)
{
    put_entry(draft, &(struct log_entry){.kind = LOG_WRITE, .address = address, .bytes = bytes});
    memcpy(draft->at, (const void *)address, bytes);
    draft->at += (bytes + 7) & ~7ull;
}

static void put_alloc(struct draft *draft, const struct block *block)
{
    put_entry(draft, &(struct log_entry){.kind = LOG_ALLOC,
                                         .type = block_type(block),
                                         .address = block->address,
                                         .bytes = block_bytes(block),
                                         .slice = block->slice,
                                         .size_class = block->span->size_class});
}

static void put_op(struct draft *draft, const struct op *op, enum log_entry_kind kind)
{
    if (kind == LOG_ALLOC && op->kind == OP_ALLOC)
        put_alloc(draft, &op->block);
    else if (kind == LOG_WRITE && op->kind == OP_RANGE)
        put_write(draft, (uintptr_t)op->range.start, op->range.bytes);
    else if (kind == LOG_WRITE && op->kind == OP_ALLOC &&
             !TX_MUTANT(TX_MUTANT_NEW_BLOCK_NOT_WRITTEN))
        put_write(draft, op->block.address, block_bytes(&op->block));
    else if (kind == LOG_FREE && op->kind == OP_FREE)
        put_entry(draft, &(struct log_entry){.kind = LOG_FREE, .address = op->block.address});
}

static struct log_record *draft_record(struct pheap_tx *tx, uint64_t bytes)
{
    struct draft draft = {.record = arena_alloc(&tx->arena, bytes, 64)};

    if (!draft.record)
        return NULL;
    draft.at = (uint8_t *)(draft.record + 1);
    for (enum log_entry_kind kind = LOG_ALLOC; kind <= LOG_FREE; kind++)
        for (const struct op *op = tx->first; op; op = op->after)
            put_op(&draft, op, kind);
    draft.record->bytes = bytes;
    return draft.record;
}

/* --- committing --- */

static int append_record(struct pheap *heap, struct log_record *record, uint64_t *sequence,
                         bool soon)
{
    int status = opened_may_change(heap);

    if (status == 0)
        status = log_write(&heap->log, record, sequence, NULL);
    if (status == 0 && !soon)
        status = log_wait(&heap->log, *sequence, NULL);
    if (log_bytes(&heap->log) >= __atomic_load_n(&heap->checkpoint_at_bytes, __ATOMIC_RELAXED))
        __atomic_store_n(&heap->is_due, true, __ATOMIC_RELAXED);
    if (status < 0)
        opened_note_failure(heap);
    return status;
}

/* Steps 1 and 2. A transaction that has changed nothing writes nothing. */
static int write_out(struct pheap_tx *tx, uint64_t *sequence, bool soon)
{
    uint64_t bytes = sizeof(struct log_record);
    struct log_record *record;

    for (const struct op *op = tx->first; op; op = op->after)
        bytes += op_bytes(op);
    if (bytes == sizeof(struct log_record))
        return 0;
    record = draft_record(tx, (bytes + LOG_ALIGN - 1) & ~(uint64_t)(LOG_ALIGN - 1));
    return record ? append_record(tx->heap, record, sequence, soon) : -ENOMEM;
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

static int commit_level(struct pheap_tx *tx, uint64_t *sequence, bool soon)
{
    int status;

    *sequence = 0;
    if (tx->level) {
        tx->level = tx->level->outer;
        return 0;
    }
    status = tx->first ? write_out(tx, sequence, soon) : 0;
    if (status < 0) {
        tx_abort(tx);
        return status;
    }
    finish(tx);
    recycle(tx);
    return 0;
}

int tx_commit(struct pheap_tx *tx)
{
    uint64_t sequence;

    return commit_level(tx, &sequence, tx->heap->commits_soon);
}

int tx_commit_soon(struct pheap_tx *tx, uint64_t *sequence)
{
    return commit_level(tx, sequence, true);
}
