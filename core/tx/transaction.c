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
#include "core/tx/commit.h"
#include "core/tx/ending.h"
#include "core/tx/mutant.h"
#include "core/tx/operation.h"
#include "core/tx/optimistic_commit.h"
#include "core/tx/opened_cut.h"

#define TX_ARENA_BYTES  (8ull << 30)
#define TX_UNSHARED_MAX 64 /* when there are so many, threads take what is free */

struct pheap *tx_heap(const struct pheap_tx *tx)
{
    return tx->heap;
}

void **tx_user(struct pheap_tx *tx)
{
    return &tx->whole->user;
}

/* --- beginning and ending --- */

/* The transaction that this thread had last, as long as that heap is open: a guess. Others may take
 * it too, so nothing need be done when a thread ends. */
struct last_tx {
    uint64_t heap_id;
    struct pheap_tx *tx;
};
static __thread struct last_tx last_tx __attribute__((tls_model("initial-exec")));

/* One of the heap's that nobody has, or NULL. */
static struct pheap_tx *take_any(struct pheap *heap)
{
    struct gate_pass *pass = __atomic_load_n(&heap->gate.passes, __ATOMIC_ACQUIRE);

    while (pass && !gate_take(pass))
        pass = pass->next;
    return (struct pheap_tx *)pass;
}

static struct pheap_tx *make_tx(struct pheap *heap)
{
    struct arena arena;
    struct pheap_tx *tx;

    if (arena_create(&arena, TX_ARENA_BYTES) < 0)
        return NULL;
    tx = arena_alloc(&arena, sizeof *tx, 64);
    if (!tx || stripe_set_create(&tx->held, &arena) < 0) {
        arena_destroy(&arena);
        return NULL;
    }
    tx->heap = heap;
    tx->arena = arena;
    tx->arena_start = arena_mark(&arena);
    tx->pass.presence = GATE_HELD;
    gate_add(&heap->gate, &tx->pass);
    __atomic_fetch_add(&heap->tx_count, 1, __ATOMIC_RELAXED);
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
        if (tx->optimistic)
            optimistic_destroy(tx->optimistic);
        arena_destroy(&arena);
    }
}

static int make_optimistic(struct pheap_tx *tx)
{
    int status = tx->optimistic ? 0 : optimistic_create(&tx->optimistic, &tx->heap->stripes);

    if (status < 0)
        return status;
    tx->is_optimistic = true;
    optimistic_begin(tx->optimistic);
    return 0;
}

/* The heap may be closed from here on by others. */
static void recycle(struct pheap_tx *tx)
{
    arena_drop(&tx->arena, tx->arena_start);
    tx->first = tx->last = NULL;
    tx->level = NULL;
    tx->part = NULL;
    tx->user = NULL;
    tx->is_optimistic = tx->has_lost = tx->soon = false;
    gate_leave(&tx->heap->gate, &tx->pass, GATE_FREE);
}

/* Does another thread have what this one had last? Two that share one slow each other down. */
static bool is_shared(const struct pheap_tx *tx)
{
    return tx && __atomic_load_n(&tx->thread, __ATOMIC_RELAXED) != heap_holder();
}

/* `last` is not to be had. */
static struct pheap_tx *take_another(struct pheap *heap, const struct pheap_tx *last)
{
    struct pheap_tx *tx = NULL;

    if (!is_shared(last) || __atomic_load_n(&heap->tx_count, __ATOMIC_RELAXED) >= TX_UNSHARED_MAX)
        tx = take_any(heap);
    if (!tx)
        tx = make_tx(heap);
    last_tx = (struct last_tx){heap->id, tx};
    return tx;
}

static struct pheap_tx *take_tx(struct pheap *heap)
{
    struct pheap_tx *tx = last_tx.heap_id == heap->id ? last_tx.tx : NULL;

    return tx && gate_take(&tx->pass) ? tx : take_another(heap, tx);
}

static int begin_optimistic(struct pheap *heap, struct pheap_tx **out)
{
    struct pheap_tx *tx = heap->direct_only ? NULL : take_tx(heap);
    int status = heap->direct_only ? -EINVAL : -ENOMEM;

    if (tx)
        status = make_optimistic(tx);

    if (status < 0 && tx)
        recycle(tx);
    else if (status == 0)
        *out = tx;
    return status;
}

static int begin_direct(struct pheap *heap, struct pheap_tx **out)
{
    struct pheap_tx *tx = last_tx.heap_id == heap->id ? last_tx.tx : NULL;

    if (__atomic_load_n(&heap->log.is_long, __ATOMIC_RELAXED))
        opened_checkpoint_if_due(heap);
    if (!tx || !gate_take_and_enter(&heap->gate, &tx->pass)) {
        tx = take_another(heap, tx);
        if (!tx)
            return -ENOMEM;
        gate_enter(&heap->gate, &tx->pass);
    }
    *out = tx;
    return 0;
}

static int begin_outermost(struct pheap *heap, struct pheap_tx **out, bool optimistic)
{
    int status = opened_may_change(heap);

    if (status == 0)
        status = optimistic ? begin_optimistic(heap, out) : begin_direct(heap, out);
    if (status < 0)
        return status;
    (*out)->whole = *out;
    __atomic_store_n(&(*out)->thread, heap_holder(), __ATOMIC_RELAXED);
    return 0;
}

static int push_level(struct pheap_tx *tx)
{
    struct level *level = arena_alloc(&tx->arena, sizeof *level, 8);

    if (!level)
        return -ENOMEM;
    *level = (struct level){.outer = tx->level, .last = tx->last};
    if (tx->is_optimistic)
        level->before = write_buffer_mark(&tx->optimistic->buffer);
    tx->level = level;
    return 0;
}

static void pop_level(struct pheap_tx *tx)
{
    struct level *level = tx->level;

    tx->level = level->outer;
    arena_drop(&tx->arena, (uintptr_t)level);
}

/* In all parts, or in none. */
static int begin_nested(struct pheap_tx *tx)
{
    struct pheap_tx *part = tx;
    int status = tx->whole == tx ? 0 : -EINVAL;

    for (; status == 0 && part; part = part->part)
        status = push_level(part);
    if (status < 0 && tx->whole == tx)
        for (struct pheap_tx *done = tx; done->part != part; done = done->part)
            pop_level(done);
    return status;
}

static int begin_any(struct pheap *heap, struct pheap_tx **tx, bool optimistic)
{
    if (!*tx)
        return begin_outermost(heap, tx, optimistic);
    return (*tx)->heap == heap ? begin_nested(*tx) : -EINVAL;
}

int tx_begin(struct pheap *heap, struct pheap_tx **tx)
{
    return begin_any(heap, tx, false);
}

int tx_begin_optimistic(struct pheap *heap, struct pheap_tx **tx)
{
    return begin_any(heap, tx, true);
}

/* --- other heaps --- */

/* As deep as the whole is. */
static int sink(struct pheap_tx *part, const struct level *level)
{
    int status = 0;

    for (; status == 0 && level; level = level->outer)
        status = push_level(part);
    return status;
}

static int add_part(struct pheap_tx *tx, struct pheap_tx *last, struct pheap *heap,
                    struct pheap_tx **out)
{
    struct pheap_tx *part = NULL;
    int status = begin_outermost(heap, &part, tx->is_optimistic);

    if (status < 0)
        return status;
    status = sink(part, tx->level);
    if (status < 0) {
        recycle(part);
        return status;
    }
    part->whole = tx;
    last->part = part;
    if (tx->is_optimistic)
        optimistic_join(part->optimistic, tx->optimistic);
    *out = part;
    return 0;
}

int tx_join(struct pheap_tx *tx, struct pheap *heap, struct pheap_tx **out)
{
    struct pheap_tx *part = tx;
    unsigned count = 0;

    if (tx->whole != tx)
        return -EINVAL;
    for (; part->heap != heap && part->part; part = part->part)
        count++;
    if (part->heap == heap) {
        *out = part;
        return 0;
    }
    return count < TX_PARTICIPANTS ? add_part(tx, part, heap, out) : (int)STATUS_LIMIT;
}

/* --- operations --- */

/* Of a direct one, where there may be optimistic ones too. */
static void hold(struct pheap_tx *tx, uintptr_t address, uint64_t bytes)
{
    if (!tx->heap->direct_only)
        stripes_hold(&tx->heap->stripes, &tx->held, address, bytes);
}

int tx_add(struct pheap_tx *tx, void *start, size_t bytes)
{
    if (tx->is_optimistic || !slot_memory_may_write(&tx->heap->memory, (uintptr_t)start, bytes))
        return -EINVAL;
    hold(tx, (uintptr_t)start, bytes);
    return operation_add_range(tx, start, bytes);
}

int tx_read(struct pheap_tx *tx, void *to, const void *from, size_t bytes)
{
    int status = 0;

    if (!slot_memory_may_write(&tx->heap->memory, (uintptr_t)from, bytes))
        return -EINVAL;
    if (tx->whole->has_lost)
        return STATUS_CONFLICT;
    if (tx->is_optimistic) {
        status = optimistic_read(tx->optimistic, to, (uintptr_t)from, bytes);
    } else {
        hold(tx, (uintptr_t)from, bytes);
        memcpy(to, from, bytes);
    }
    if (status == STATUS_CONFLICT)
        tx->whole->has_lost = true;
    return status;
}

int tx_write(struct pheap_tx *tx, void *to, const void *from, size_t bytes)
{
    int status;

    if (tx->whole->has_lost)
        return STATUS_CONFLICT;
    if (!tx->is_optimistic) {
        status = tx_add(tx, to, bytes);
        if (status == 0)
            memcpy(to, from, bytes);
        return status;
    }
    if (!slot_memory_may_write(&tx->heap->memory, (uintptr_t)to, bytes))
        return -EINVAL;
    return write_buffer_put(&tx->optimistic->buffer, (uintptr_t)to, from, bytes, tx->level != NULL);
}

int tx_alloc(struct pheap_tx *tx, size_t bytes, uint32_t type, void **block)
{
    return tx_alloc_aligned(tx, 1, bytes, type, block);
}

int tx_alloc_aligned(struct pheap_tx *tx, size_t alignment, size_t bytes, uint32_t type,
                     void **block)
{
    struct op *op = operation_new(tx, OP_ALLOC, 0);
    int status;

    if (alignment == 0 || alignment > SLICE_BYTES || (alignment & (alignment - 1)) != 0)
        return -EINVAL;
    if (!op)
        return -ENOMEM;
    operation_enter(tx);
    status =
        blocks_take(&tx->heap->blocks, &tx->hand, bytes, (uint32_t)alignment, type, &op->block);
    if (status < 0)
        return status;
    operation_append(tx, op);
    *block = (void *)op->block.address;
    return 0;
}

/* Nothing that can be freed starts there. The transaction may only be late: another one has freed
 * it, and what led here has changed, or is about to. */
static int not_there(struct pheap_tx *tx, bool by_another)
{
    if (!by_another && optimistic_look_again(tx->optimistic) == 0)
        return -EINVAL;
    tx->whole->has_lost = true;
    return STATUS_CONFLICT;
}

static bool find_block(struct pheap *heap, const void *start, struct op *op,
                       enum tx_block_state *state)
{
    return blocks_find(&heap->blocks, (uintptr_t)start, &op->block, state, &op->freed_bytes);
}

/* Where a block that the caller may free does not change meanwhile, the first look at it takes no
 * lock; the second one, that marks it, decides. */
static bool look_at_block(const struct pheap *heap, const void *start, struct op *op)
{
    return block_find(&heap->memory, (uintptr_t)start, &op->block) &&
           block_state(&op->block) != TX_FREE;
}

/* It is held before it is marked, so that a reader who came by an older pointer learns of it, and
 * whoever is about to free it has done so or given up. */
static int free_directly(struct pheap_tx *tx, const void *start, struct op *op)
{
    struct pheap *heap = tx->heap;
    enum tx_block_state state;

    if (heap->direct_only)
        return look_at_block(heap, start, op) && operation_mark_freed(tx, op) ? 0 : -EINVAL;
    if (!find_block(heap, start, op, &state))
        return -EINVAL;
    stripes_hold(&heap->stripes, &tx->held, op->block.address, op->freed_bytes);
    return operation_mark_freed(tx, op) ? 0 : -EINVAL;
}

/* Its commit locks and marks it. */
static int free_optimistically(struct pheap_tx *tx, const void *start, struct op *op)
{
    enum tx_block_state state;

    find_block(tx->heap, start, op, &state);
    return state == TX_USED ? 0 : not_there(tx, state == TX_FREEING);
}

int tx_free(struct pheap_tx *tx, void *start)
{
    struct op *op = operation_new(tx, OP_FREE, 0);
    int status;

    if (tx->whole->has_lost)
        return STATUS_CONFLICT;
    if (!op)
        return -ENOMEM;
    operation_enter(tx);
    status = tx->is_optimistic ? free_optimistically(tx, start, op) : free_directly(tx, start, op);
    if (status == 0)
        operation_append(tx, op);
    return status;
}

static int add_call(struct pheap_tx *tx, enum op_kind kind, tx_call *call, void *context)
{
    struct op *op = operation_new(tx, kind, 0);

    if (!op)
        return -ENOMEM;
    op->call.function = call;
    op->call.context = context;
    operation_append(tx, op);
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

/* The first part goes last: what the others know of it is in it. */
static void end_all(struct pheap_tx *tx)
{
    struct pheap_tx *next;

    for (struct pheap_tx *part = tx->part; part; part = next) {
        next = part->part;
        if (part->is_optimistic)
            optimistic_end(part->optimistic);
        recycle(part);
    }
    if (tx->is_optimistic)
        optimistic_end(tx->optimistic);
    recycle(tx);
}

void tx_abort(struct pheap_tx *tx)
{
    tx = tx->whole;
    if (tx->level) {
        for (struct pheap_tx *part = tx; part; part = part->part)
            ending_undo_nested(part);
        return;
    }
    ending_undo(tx);
    end_all(tx);
}

/* --- optimistic transactions: losing, and what comes before a commit is that of a direct one ---
 */

static int lose(struct pheap_tx *tx)
{
    ending_undo(tx);
    for (struct pheap_tx *part = tx; part; part = part->part) {
        operation_leave(part);
        optimistic_forget(part->optimistic);
    }
    tx->has_lost = true;
    return STATUS_CONFLICT;
}

int tx_retry(struct pheap_tx *tx)
{
    int status = opened_may_change(tx->heap);

    if (!tx->is_optimistic || tx->whole != tx)
        return -EINVAL;
    (void)lose(tx);
    if (status < 0) {
        tx_abort(tx);
        return status;
    }
    optimistic_back_off(tx->optimistic);
    tx->has_lost = false;
    optimistic_begin_again(tx->optimistic);
    return 0;
}

/* --- committing --- */

static void commit_nested(struct pheap_tx *tx)
{
    for (struct pheap_tx *part = tx; part; part = part->part)
        part->level = part->level->outer;
}

static int commit_outermost(struct pheap_tx *tx)
{
    bool changed = false;
    int status = 0;

    for (const struct pheap_tx *part = tx; part; part = part->part)
        changed = changed || operation_has_changed(part);
    if (changed && tx->is_optimistic)
        status = optimistic_commit(tx);
    if (changed && status == 0)
        status = commit_durably(tx);
    return status;
}

static int commit(struct pheap_tx *tx)
{
    int status;

    if (tx->whole != tx)
        return -EINVAL;
    if (tx->level) {
        commit_nested(tx);
        return tx->has_lost ? (int)STATUS_CONFLICT : 0;
    }
    if (tx->has_lost)
        return lose(tx);
    status = commit_outermost(tx);
    if (status == STATUS_CONFLICT)
        return lose(tx);
    if (status < 0) {
        tx_abort(tx);
        return status;
    }
    ending_finish(tx);
    end_all(tx);
    return 0;
}

int tx_commit(struct pheap_tx *tx)
{
    tx->soon = tx->heap->commits_soon;
    tx->sequence = NULL;
    return commit(tx);
}

int tx_commit_soon(struct pheap_tx *tx, uint64_t *sequence)
{
    *sequence = 0;
    tx->soon = true;
    tx->sequence = sequence;
    return commit(tx);
}
