/*
 * opened.h - a heap that was opened by path: attached, loaded, checkpointed, closed.
 *
 *     opened_attach()   the pool is open and locked; nothing is known of the heap yet
 *     opened_load()     the newest generation is in memory and the log is applied to it; a pool
 *                       without generations gets its first one
 *     opened_checkpoint(), transactions (transaction.h), roots, walking
 *     opened_close()
 *
 * The gate keeps cuts and transactions apart: it is OPEN, WANTED (a checkpoint waits until the open
 * transactions have ended; new ones wait a little, and then begin all the same, since who begins
 * one may be who has another one open), or CLOSED (no transaction is open, none begins).
 *
 *     OPEN -> WANTED     [opened_checkpoint]
 *     WANTED -> CLOSED   [opened_checkpoint], when open_count is 0
 *     WANTED -> OPEN     [opened_checkpoint], when that takes too long: STATUS_DEFERRED
 *     CLOSED -> OPEN     [opened_checkpoint]
 *
 * `lock` guards the gate, open_count, the blocks and the list of spare transactions; log_lock the
 * log and all writing to the pool. Neither is taken while the other is held. Behind a CLOSED gate
 * the checkpoint has everything to itself.
 *
 * Thread safety: any thread, but for attach, load and close.
 */
#ifndef PHEAP_TX_OPENED_H
#define PHEAP_TX_OPENED_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/lock.h"
#include "core/base/status.h"
#include "core/image/image_writer.h"
#include "core/pool/pool.h"
#include "core/tx/blocks.h"
#include "core/tx/log.h"
#include "core/tx/slot_memory.h"
#include "core/tx/stripes.h"

enum opened_gate { GATE_OPEN, GATE_WANTED, GATE_CLOSED };

struct pheap {
    struct arena arena;   /* this, the pool, the blocks, the writer: as long as it is open */
    struct arena scratch; /* records that are replayed, maps */
    struct pool pool;
    struct slot_memory memory;
    struct address_range window; /* for the pool on DAX */
    struct blocks blocks;
    struct log log;
    struct stripes stripes;
    struct lock lock, log_lock;
    uint32_t gate;       /* enum opened_gate; a futex */
    uint32_t open_count; /* of outermost transactions; a futex */
    int failed;          /* a status: the pool takes no more */
    bool read_only;
    uint32_t *alive;              /* 1; in a forked child 0 */
    struct pheap_tx *spare;       /* of transaction.c */
    struct image_writer *writer;  /* NULL before the first checkpoint */
    struct address_space space;   /* of the checkpoint at hand */
    uint64_t checkpoint_at_bytes; /* of log: one is due; under log_lock */
    bool is_due;
};

/* Takes memory and opens the pool (locked for writing, unless read_only). As pool_open(). */
MUST_CHECK int opened_attach(struct pheap **out, const char *path, bool read_only,
                             struct problem *why);

/* After opened_attach(), for writing: the DAX back end where it can be had. */
void opened_use_dax(struct pheap *heap, const struct persist_pmem *pmem);

/*
 * STATUS_REFUSED: the pool holds a program's checkpoints. STATUS_DAMAGED: its newest generation or
 * its log's place is damaged. STATUS_NO_GENERATION: read_only, and there is nothing to read.
 * -EEXIST: the slot is taken. After a failure only opened_close() may follow.
 *
 * Crash: nothing was written, or the first generation is there or not.
 */
MUST_CHECK int opened_load(struct pheap *heap, struct problem *why);

/*
 * The next generation, its number; the log is empty then. Waits timeout_ns for open transactions to
 * end: STATUS_DEFERRED. Other errors as pool_commit(): the heap goes on, unless heap->failed is
 * set.
 *
 * Crash: the generation before with its log, or the new one. Both show the same.
 */
MUST_CHECK int64_t opened_checkpoint(struct pheap *heap, uint64_t timeout_ns, struct problem *why);

/* STATUS_DEFERRED: a transaction is open. Takes no checkpoint: what is committed is durable. */
int opened_close(struct pheap *heap);

/* 0, or why no transaction may begin or commit: forked, read-only, failed. */
int opened_may_change(const struct pheap *heap);

/* The gate, for transactions: opened_enter() before the first change, opened_leave() after the
 * last. */
void opened_enter(struct pheap *heap);
void opened_leave(struct pheap *heap);

bool opened_is_valid(struct pheap *heap);

#endif
