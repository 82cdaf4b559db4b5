/*
 * log.h - the redo log: read from its beginning, appended to at its end, started anew by each
 * generation.
 *
 * States of a log:
 *
 *     reading    [log_begin], then log_next() until it returns 0; positioned behind a record
 *     appending  behind the last record; memory equals what is durable   [log_next() == 0,
 * log_append, log_restart]
 *
 * A record is durable when log_append() has returned 0. Nothing that was read is trusted but for
 * its checksum: what an entry says is for the caller to check.
 *
 * Thread safety: one user at a time.
 */
#ifndef PHEAP_TX_LOG_H
#define PHEAP_TX_LOG_H

#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/pool.h"
#include "core/tx/log_format.h"

#ifndef LOG_FIRST_FRAMES      /* a test has a small one */
#define LOG_FIRST_FRAMES 256u /* 1 MiB; each growth doubles it */
#endif

/* Invariant: used <= capacity; used is a multiple of LOG_RECORD_ALIGN. */
struct log {
    struct pool *pool;
    uint64_t capacity; /* bytes of all extents */
    uint64_t used;
    uint64_t sequence; /* of the last record, 0: none */
    uint64_t previous; /* its checksum, or the nonce */
    uint64_t session;
    uint64_t generation; /* that it follows */
};

/* A random number that is not 0, for nonces and sessions. */
uint64_t log_random(void);

/* At the beginning of the log that pool's superblock lists (which may have none). */
void log_begin(struct log *log, struct pool *pool);

/* 1: the next record, whole, in the arena; 0: the log ends here; negative: the file cannot be
 * read. */
MUST_CHECK int log_next(struct log *log, struct arena *arena, const struct log_record **record);

/*
 * Where the log ends: 1 if a whole record lies behind that should not be there, since it was
 * written after one that does not count, or to the log of a later generation; 0, or negative. A
 * record is written when the one before is durable, so no crash brings that about: a record in the
 * middle, or the newest superblock, is damaged. (While a writer is at work a reader may see it for
 * a moment.)
 */
MUST_CHECK int log_has_later(const struct log *log, struct arena *arena);

/*
 * Makes a record durable: `bytes` long, entries and entry_count filled in by the caller, the rest
 * of the header here. -ENOSPC, -ENOMEM and the like: the log is as before. If pool->persist.failed
 * is set then, it is unknown whether the record is durable.
 */
MUST_CHECK int log_append(struct log *log, struct log_record *record, struct problem *why);

/* Frames for a log that has none, or more of them: of pool->next_log only, not listed yet.
 * Overwrites them with zeroes, so that later writes are of space that has been written. */
MUST_CHECK int log_extend(struct log *log, uint64_t frames, struct problem *why);

/* A generation was committed, with this nonce: the log is empty. */
void log_restart(struct log *log);

#endif
