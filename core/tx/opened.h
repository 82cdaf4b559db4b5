/*
 * opened.h - a heap that was opened by path: attached, loaded, checkpointed, closed.
 *
 *     opened_attach()   the pool is open and locked; nothing is known of the heap yet
 *     opened_load()     the newest generation is in memory and the log is applied to it; a pool
 *                       without generations gets its first one
 *     opened_checkpoint(), transactions (transaction.h), roots, walking
 *     opened_close()
 *
 * A checkpoint copies what has changed while transactions go on, closes the gate (gate.h) until it
 * has the rest, and opens it again before it writes the generation.
 *
 * The pool is used under log.pool_lock, scratch and writer under
 * checkpoint_lock (lock_rank.h has the order).
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
#include "core/tx/gate.h"
#include "core/tx/decisions.h"
#include "core/tx/log.h"
#include "core/tx/replay.h"
#include "core/tx/service.h"
#include "core/tx/slot_memory.h"
#include "core/tx/stripes.h"

struct pheap {
    struct arena arena;   /* this, the pool, the writer: as long as it is open */
    struct arena scratch; /* records that are replayed, maps */
    struct arena blocks_arena;
    struct pool pool;
    struct slot_memory memory;
    struct address_range window; /* for the pool on DAX */
    log_clock *clock;            /* or NULL */
    struct blocks blocks;
    struct log log;
    struct decisions decisions;
    struct promises promises;   /* while it is loaded */
    enum log_outcome settle_as; /* what is in doubt; 0: it stays so. Set before opened_load() */
    bool decides; /* its log says that it has been opened: copies of before are older than that */
    uint32_t settled, in_doubt; /* promises, by opened_load() */
    struct stripes stripes;
    struct lock checkpoint_lock;
    struct image_writer *writer; /* NULL before the first checkpoint */
    int writer_pid;              /* whose descriptors it has */
    image_writer_step *step;     /* for the agent's writer */
    void *step_context;
    struct address_space space; /* of the checkpoint at hand */

    struct service service;

    /* seldom written, read by each transaction */
    _Alignas(64) struct gate gate; /* its passes are of transaction.c */
    uint32_t tx_count;             /* of those passes */
    uint64_t id;                   /* no other heap of this process ever has the same */
    uint32_t *alive;               /* 1; in a forked child 0 */
    int failed;                    /* a status: the pool takes no more */
    bool read_only;
    bool commits_soon; /* commits return before they are durable */
    bool direct_only;  /* no optimistic transactions: direct ones hold nothing */
};

/* Takes memory and opens the pool (locked for writing, unless read_only). As pool_open(). */
MUST_CHECK int opened_attach(struct pheap **out, const char *path, bool read_only,
                             struct problem *why);

/* After opened_attach(), for writing: the DAX back end where it can be had, and clock_gettime() for
 * the lanes of its log. */
void opened_use_dax(struct pheap *heap, const struct persist_pmem *pmem, log_clock *clock);

/*
 * STATUS_REFUSED: the pool holds a program's checkpoints. STATUS_DAMAGED: its newest generation or
 * its log's place is damaged. STATUS_NO_GENERATION: read_only, and there is nothing to read.
 * -EEXIST: the slot is taken. STATUS_IN_DOUBT: for writing, and another pool's decision is missing
 * (settle.h). After a failure only opened_close() may follow.
 *
 * Crash: nothing was written, or the first generation is there or not; what was promised to another
 * heap's transaction is settled, or will be.
 */
MUST_CHECK int opened_load(struct pheap *heap, struct problem *why);

/*
 * The next generation, its number; the log begins anew behind what is in it. Waits timeout_ns for
 * another checkpoint, or for open transactions, to end: STATUS_DEFERRED. Other errors as
 * pool_commit(): the heap goes on, unless heap->failed is set. For a heap that has an agent the
 * agent alone calls this; others ask it (service.h).
 *
 * Crash: the generation before with its log, or the new one. Both show the same.
 */
MUST_CHECK int64_t opened_checkpoint(struct pheap *heap, uint64_t timeout_ns, struct problem *why);

/* Closes the descriptors of the writer, if they are this process's; the next checkpoint makes one.
 */
void opened_drop_writer(struct pheap *heap);

/* By the agent, if there is one. Beyond timeout_ns waits for the generation to be written. */
MUST_CHECK int64_t opened_request_checkpoint(struct pheap *heap, uint64_t timeout_ns);

/* STATUS_DEFERRED: a transaction is open, and the heap stays. Takes no checkpoint; makes durable
 * what is not yet, and has ended whether or not that succeeds. */
int opened_close(struct pheap *heap);

/* Until all commits up to this one (log_write()'s sequence) are durable; 0: all there are. */
MUST_CHECK int opened_wait(struct pheap *heap, uint64_t sequence);

/* After something was written to the log, or not: if it takes no more, nor does the heap. */
void opened_note_log(struct pheap *heap, int status);

/* The heap takes no more changes. */
void opened_fail(struct pheap *heap, int status);

/* 0, or why no transaction may begin or commit: forked, read-only, failed. */
int opened_may_change(const struct pheap *heap);

bool opened_is_valid(struct pheap *heap);

#endif
