/*
 * log.h - the redo log: read from its beginning, appended to at its end, begun anew behind each
 * cut.
 *
 * The log lies in extents. A record lies in one of them, behind the record before or at the
 * beginning of an extent that no record of the log lies in; so the space of records that a
 * generation has made needless is used again, and nothing is ever moved.
 *
 *     reading    [log_begin], then log_next() until it returns 0; positioned behind a record
 *     appending  behind the last record                          [log_next() == 0, log_open]
 *
 * A record goes through these states, in the order of sequences:
 *
 *     placed     it has a sequence and a place                  [place_record]
 *     written    it is in the file; the writer dies: it is there  [log_write]
 *     durable    so are all before it                            [log_write on DAX; log_wait]
 *
 * A crash leaves all that is durable and, of what was only written, any part of each record; of
 * these the ones up to the first that is not whole count. So what is there after a crash is a
 * prefix of the log, whatever was in flight.
 *
 * On ordinary files one thread at a time makes durable what all have written meanwhile (the others
 * wait for it); on DAX each stores its own record, beside others, makes its own fence, waits for
 * the mark of the record before, and sets its own. A mark is written by its record's thread and
 * read by the next one's alone; one word for all would be written and read by all.
 *
 * Lanes. On DAX, threads that meet in the log get pieces of it for themselves: a record that has no
 * entries gives a lane, which lies behind it. There a thread writes record after record, each
 * durable before the next, and shares nothing with others. Who reads puts them in order by their
 * stamps, all of one clock: what a transaction builds upon was durable, and so had its stamp,
 * before it got its own. A lane lasts until it is full, or the session ends (with each cut, and
 * each opening); whatever comes in a later session lies behind.
 *
 * Locks: `lock` for places and, on ordinary files, for writing; then, below it, `pool_lock` for the
 * pool: its frames, superblock and struct persist. The log itself is written through a persist
 * of its own. A generation is committed under pool_lock while the log goes on.
 *
 * Thread safety: reading, log_cut() and log_cut_committed() as said there; all else any thread.
 */
#ifndef PHEAP_TX_LOG_H
#define PHEAP_TX_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "core/base/arena.h"
#include "core/base/lock.h"
#include "core/base/status.h"
#include "core/pool/pool.h"
#include "core/tx/log_format.h"

#ifndef LOG_FIRST_FRAMES      /* a test has a small one */
#define LOG_FIRST_FRAMES 256u /* 1 MiB; each growth doubles it */
#endif

/* Syncs on ordinary files, of whoever makes one: how many records it waits for, and how long. */
struct log_company {
    uint32_t expected;
    uint32_t misses, alone; /* waits in vain, one after the other; so many syncs wait for no more
                             * than the one before them had */
    uint64_t patience_ns;
};

#define LOG_MARKS 16u /* a power of two */

/* On DAX: all records up to this sequence are durable. Of those with the same remainder by
 * LOG_MARKS the last one: marks are set in the order of sequences, so a later one says the same and
 * more. Two cache lines each: processors fetch them in pairs. */
struct log_mark {
    _Alignas(128) uint64_t sequence;
    uint64_t checksum; /* of that record */
};

/* clock_gettime(), which without a system call is the C library's alone. */
typedef int log_clock(clockid_t clock, struct timespec *now);

/* A lane that is read: where its next record lies. */
struct log_lane_read {
    uint64_t session;  /* of its records; 0: no lane has this number */
    uint64_t at, end;  /* in extent */
    uint64_t sequence; /* of the last record that was read */
    uint64_t next;     /* stamp of the next one, if it is_seen */
    uint32_t extent;
    bool is_seen, has_ended; /* nothing more will come */
};

struct log_lanes {
    bool any;
    bool break_off; /* one that was closed did */
    bool is_seen;   /* the next record outside lanes, and its stamp */
    bool has_ended; /* there is none, and nobody writes */
    uint64_t next;
    bool is_written;                     /* somebody was seen to write meanwhile */
    struct log_lane_read one[LOG_LANES]; /* by number */
};

/*
 * A lane that is written: space of the log's that one transaction object after the other has for
 * itself. Begins as zeroes; who writes has it alone.
 */
struct log_lane {
    uint64_t in;          /* session of the log that it was given in: with another it is used up */
    uint64_t session;     /* of its records */
    uint64_t offset, end; /* in the file: where its next record goes */
    uint64_t sequence;    /* of its last record */
    uint64_t stamp;       /* of that, or of what gave it */
    uint64_t given;       /* sequence of the record that gave it */
    uint64_t bytes;       /* its length */
    uint32_t number;      /* one more than it; 0: it has none yet */
    uint32_t meetings;    /* how often another's record lay before its own outside lanes */
};

/* Invariant: used is a multiple of LOG_ALIGN, within extent; durable <= sequence; an extent whose
 * bit is not in `busy` has no record that a reader of the durable superblock needs. */
struct log {
    struct pool *pool;
    struct persist persist; /* for records alone */
    uint64_t uuid;          /* of the pool's, the first half: a commit writes its superblock anew */
    struct lock pool_lock;
    uint32_t listed;   /* extents that a durable superblock lists, at least; `lock` is its */
    uint32_t busy;     /* bits of extents */
    uint32_t cut_busy; /* the same with the records since the last cut alone */
    uint64_t cut;      /* sequence of the last record before it */
    uint64_t session;  /* of the records to come, and what they have as `previous` */
    uint64_t root;
    log_clock *clock; /* NULL: no lanes */
    bool clock_is_fine;
    int failed;       /* nothing more is written: what is durable is not known any more */
    bool may_give;    /* lanes: the pool's format has them, on DAX, and there is a clock */
    uint32_t numbers; /* of lanes that have been given, since it was opened; `lock` is its */
    bool has_given;   /* in this session; `lock` is its */
    bool cannot_give; /* in this session: the room for a lane is beyond the mapping */
    uint64_t records; /* that have been read, */
    uint64_t last_at; /* and where the last one lies */
    uint32_t last_extent;
    uint64_t looked;  /* bytes of what might have been records: log_may_look() */
    uint64_t long_at; /* when it has so many bytes since the last cut it is_long */
    bool is_long;     /* until who looks at it says otherwise */

    /* each record writes here */
    _Alignas(64) struct lock lock;
    uint64_t used;               /* of `extent`, where the next record goes, if it has room there */
    uint64_t sequence;           /* of the last record that has a place */
    uint64_t bytes;              /* of records since the last cut */
    uint64_t known;              /* durable up to here, as far as who wrote records knew */
    const struct log_lane *last; /* who wrote the last record; a guess */
    uint32_t extent;

    /* and here, when it is durable; on DAX in its mark alone */
    _Alignas(64) uint64_t durable; /* sequence */
    uint64_t checksum;             /* of the last record that is written */
    uint32_t syncing;              /* odd: somebody makes records durable; a futex */
    uint32_t sleeping;             /* who waits for that futex */
    struct log_company company;
    struct log_mark marks[LOG_MARKS];

    struct log_lanes lanes; /* while it is read */
};

/* A random number that is not 0. */
uint64_t log_random(void);

/* --- reading: one thread, the log to itself --- */

/* At the beginning of the log that pool's superblock lists (which may have none). */
void log_begin(struct log *log, struct pool *pool);

/* 1: the next record, whole, in the arena; 0: the log ends here; negative: the file cannot be
 * read. */
MUST_CHECK int log_next(struct log *log, struct arena *arena, const struct log_record **record);

/*
 * Where the log ends: 1 if a whole record is somewhere that was written when more than this was
 * durable: a record in the middle, or the newest superblock, is damaged. No crash brings that
 * about. 0, or negative. Beside a writer the log may have gone on: that is 0.
 */
MUST_CHECK int log_has_later(struct log *log, struct arena *arena);

/* --- appending --- */

/* After reading, or for a new log: for writing. log_close() in any case. */
MUST_CHECK int log_open(struct log *log);
void log_close(struct log *log);

/*
 * Writes a record that is `bytes` long, entries and entry_count filled in by the caller, zeroes up
 * to a multiple of LOG_ALIGN behind it, and `durable`, up to where the caller knows that the log is
 * (0: it does not know); the rest of the header is filled in here. *sequence is what to wait for. A
 * record that is written later is behind it.
 *
 * -ENOSPC, -ENOMEM, STATUS_LIMIT and the like: it has not been written, the log is as before; but
 * if log->failed is set then, it is unknown whether it will be there.
 */
MUST_CHECK int log_write(struct log *log, struct log_record *record, uint64_t *sequence,
                         struct problem *why);

/* What log_write() has written is durable when it returns. */
static inline bool log_writes_durably(const struct log *log)
{
    return log->persist.dax.window != NULL;
}

/* A sequence up to which all are durable; there may be more meanwhile. */
uint64_t log_durable(const struct log *log);

/* Until all records up to this one are durable. An error: log->failed is set. */
MUST_CHECK int log_wait(struct log *log, uint64_t sequence, struct problem *why);

/*
 * log_write() for a transaction that has changed nothing but this heap: in the lane, if it has room
 * there. What others have written and that it builds upon is durable. On ordinary files:
 * log_write().
 */
MUST_CHECK int log_write_in(struct log *log, struct log_lane *lane, struct log_record *record,
                            uint64_t *sequence, struct problem *why);

/* Both. */
MUST_CHECK int log_append(struct log *log, struct log_record *record, struct problem *why);

/* Under pool_lock, or before others know of the log: frames for one that has none, or more: of
 * pool->next_log only, not listed yet. Overwrites them with zeroes, so that later writes are of
 * space that has been written. */
MUST_CHECK int log_extend(struct log *log, uint64_t frames, struct problem *why);

/*
 * A cut, while nobody writes a record: the generation to come has all that is in the log, and the
 * log that belongs to it begins behind that (in pool->next_log). Records that are written from now
 * on belong to the log before as well, until log_cut_committed(). A second cut replaces the first.
 */
void log_cut(struct log *log);

/* The generation is durable: so is what was written before its cut, and its space is free. */
void log_cut_committed(struct log *log);

/* Are this many bytes in the log? The cut's committer alone asks that with a wrong answer. */
static inline uint64_t log_bytes(const struct log *log)
{
    return __atomic_load_n(&log->bytes, __ATOMIC_RELAXED);
}

/* Records that log_next() has given out, in another pool, or another place, one behind the other
 * and without lanes. */
struct log_rewriting {
    uint64_t uuid;               /* of that pool's; may be set before the first record */
    uint64_t records;            /* so many there are */
    uint64_t sequence, checksum; /* of the last record; at first what the new log begins behind */
    uint64_t session, previous;  /* and what the next ones of it have as `previous` */
};

/* The pool's log, its first `most` records, in a place where the last one gets the sequence that
 * the log ended with: never more, so that nobody takes a copy for newer than it is, nor less. That
 * is never before where it began: there are no more records than sequences. */
MUST_CHECK int log_rewriting_begin(struct log_rewriting *rewriting, struct pool *pool,
                                   uint64_t most, struct arena *arena);

/* The next one, its header and checksum made to fit. */
void log_rewrite(struct log_rewriting *rewriting, struct log_record *record);

bool log_is_valid(const struct log *log);

_Static_assert(__builtin_offsetof(struct log, durable) - __builtin_offsetof(struct log, lock) == 64,
               "what each record writes is one cache line");

#endif
