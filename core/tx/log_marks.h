/*
 * log_marks.h - on DAX: all records up to a sequence are durable, said by who has written that one
 * (log.h, struct log_mark). Internal to log_append.c.
 */
#ifndef PHEAP_TX_LOG_MARKS_H
#define PHEAP_TX_LOG_MARKS_H

#include "core/base/sys.h"
#include "core/tx/log.h"

#define LOG_MARK_SPINS 200u /* until another thread has stored its record */

static inline void wait_for(const uint64_t *word, uint64_t value)
{
    for (unsigned i = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) < value; i++)
        if (i < LOG_MARK_SPINS)
            __builtin_ia32_pause();
        else
            (void)sys_call(SYS_sched_yield);
}

static inline struct log_mark *mark_of(struct log *log, uint64_t sequence)
{
    return &log->marks[sequence % LOG_MARKS];
}

static inline void wait_for_mark(struct log *log, uint64_t sequence)
{
    wait_for(&mark_of(log, sequence)->sequence, sequence);
}

/* The last record up to there is this one. */
static inline void set_mark(struct log *log, uint64_t sequence, const struct log_record *record)
{
    struct log_mark *mark = mark_of(log, sequence);

    mark->checksum = record->checksum;
    __atomic_store_n(&mark->sequence, sequence, __ATOMIC_RELEASE);
}

/* What was read is durable. */
static inline void set_first_marks(struct log *log)
{
    uint64_t sequence = log->sequence;

    for (uint64_t back = 0; back < LOG_MARKS && back <= sequence; back++)
        mark_of(log, sequence - back)->sequence = sequence - back;
    mark_of(log, sequence)->checksum = log->checksum;
}

#endif
