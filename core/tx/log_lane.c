/*
 * log_lane.c - lanes of the log that are written (log.h): given to threads that meet in the log, on
 * persistent memory.
 *
 * What must always be true: the record that gives a lane is durable before anything is written in
 * it, and each record in it before the next one; a record gets its stamp when all that it builds
 * upon is durable; nothing is written in a lane of a session that is over.
 */
#include <errno.h>
#include <string.h>
#include "core/heap/slot.h"
#include "core/tx/log_place.h"
#include "core/tx/mutant.h"

#ifndef LOG_LANE_FIRST_BYTES /* a test has small ones, and gives them sooner */
#define LOG_LANE_FIRST_BYTES (4u << 10)
#define LOG_LANE_MEETINGS    4u
#endif
#define LOG_LANE_BYTES (64u << 10) /* each is twice the one before, up to this */
#define LOG_LANE_PARTS 4u          /* no record there is longer than such a part of it */
#define CLOCK_LOOKS    32

#ifndef LOG_BEFORE_LANE_STORE /* a test lets another thread go first there */
#define LOG_BEFORE_LANE_STORE(record) (void)(record)
#endif

/* --- the clock --- */

/* The system's for all processors, that no processor is ahead of: not the processor's own counter,
 * which begins anew when a machine has slept. */
uint64_t log_stamp(const struct log *log)
{
    struct timespec time = {0};

    if (TX_MUTANT(TX_MUTANT_STAMPS_ALL_THE_SAME))
        return 1;
    (void)log->clock(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec + 1;
}

/* A clock that is set back, or stands, does not make a lane go back. */
static uint64_t later_than(uint64_t last, uint64_t stamp)
{
    return stamp > last || TX_MUTANT(TX_MUTANT_STAMPS_ALL_THE_SAME) ? stamp : last + 1;
}

/* Between the stamps of two records, one of which builds on the other, there is more than between
 * two looks. */
bool log_clock_is_fine(const struct log *log)
{
    uint64_t last = log->clock ? log_stamp(log) : 0;
    bool fine = log->clock != NULL;

    for (unsigned i = 0; i < CLOCK_LOOKS && log->clock; i++) {
        uint64_t now = log_stamp(log);

        fine = fine && now > last;
        last = now;
    }
    return fine || (log->clock && TX_MUTANT(TX_MUTANT_STAMPS_ALL_THE_SAME));
}

bool log_may_give(const struct log *log)
{
    return log->persist.dax.window && log->pool->super.format_version >= POOL_FORMAT_LANES &&
           log->clock_is_fine;
}

/* --- giving --- */

struct giving_record {
    _Alignas(LOG_ALIGN) struct log_record record;
    struct log_lane_terms terms;
};

static struct giving_record giving_record_of(uint64_t bytes)
{
    struct giving_record giving = {.record = {.bytes = sizeof giving},
                                   .terms = {.session = log_random(), .bytes = bytes}};

    memcpy(giving.terms.magic, LOG_LANE_TERMS_MAGIC, sizeof giving.terms.magic);
    return giving;
}

/* Under the lock: a number for good; false: there is none left. */
static bool has_number(struct log *log, struct log_lane *lane)
{
    if (lane->number == 0 && log->numbers < LOG_LANES)
        lane->number = ++log->numbers;
    return lane->number != 0;
}

/* Under the lock: asked before room is made, which may leave some of an extent behind. */
static bool is_mapped_there(struct log *log, uint64_t bytes)
{
    uint64_t offset = log_room_at(log, bytes);

    return offset == 0 || persist_is_mapped(&log->persist, offset, bytes);
}

/* Under the lock: record and lane in one extent, mapped; where. */
static int place_lane(struct log *log, struct log_lane *lane, struct giving_record *giving,
                      uint64_t *offset)
{
    uint64_t bytes = sizeof *giving + giving->terms.bytes;
    int status = __atomic_load_n(&log->failed, __ATOMIC_RELAXED);

    if (!is_mapped_there(log, bytes))
        __atomic_store_n(&log->cannot_give, true, __ATOMIC_RELAXED);
    if (status == 0 && (log->cannot_give || !has_number(log, lane)))
        status = STATUS_LIMIT;
    if (status == 0)
        status = log_make_room(log, bytes, NULL);
    if (status < 0)
        return status;
    *offset = log_offset(&log->pool->next_log, log->extent, log->used);
    if (!persist_is_mapped(&log->persist, *offset, bytes)) /* it may have grown */
        __atomic_store_n(&log->cannot_give, true, __ATOMIC_RELAXED);
    if (log->cannot_give)
        return STATUS_LIMIT;
    giving->terms.number = lane->number - 1;
    giving->terms.before = lane->in == log->session ? lane->sequence : 0;
    (void)log_place_record(log, &giving->record, giving->terms.bytes);
    if (giving->terms.before > 0)
        giving->record.stamp = later_than(lane->stamp, giving->record.stamp);
    log->sequence = giving->record.sequence + log_lane_sequences(&giving->terms);
    log->has_given = true;
    return 0;
}

static uint64_t next_bytes(const struct log_lane *lane)
{
    if (lane->bytes == 0)
        return LOG_LANE_FIRST_BYTES;
    return lane->bytes * 2 < LOG_LANE_BYTES ? lane->bytes * 2 : LOG_LANE_BYTES;
}

/*
 * Crash: before it is durable it is a record like others, of which nothing may be there; afterwards
 * there is a lane in which no record lies: what its space held before is of another session.
 */
static int give_lane(struct log *log, struct log_lane *lane)
{
    uint64_t bytes = next_bytes(lane);
    struct giving_record giving = giving_record_of(bytes);
    uint64_t offset = 0;
    int status;

    lock_acquire(&log->lock, heap_holder());
    status = place_lane(log, lane, &giving, &offset);
    lock_release(&log->lock);
    lane->meetings = 0;
    if (status < 0)
        return status;
    log_store_record(log, &giving.record, log_body_checksum(&giving.record), offset);
    log_pass_over(log, &giving.record, log_lane_sequences(&giving.terms));
    lane->in = giving.record.session;
    lane->session = giving.terms.session;
    lane->offset = offset + sizeof giving;
    lane->end = lane->offset + bytes;
    lane->sequence = 0;
    lane->stamp = giving.record.stamp;
    lane->given = giving.record.sequence;
    lane->bytes = bytes;
    return 0;
}

/* --- writing --- */

static bool is_over(const struct log *log, const struct log_lane *lane)
{
    if (TX_MUTANT(TX_MUTANT_LANES_OUTLIVE_CUTS))
        return lane->in == 0;
    return lane->in != __atomic_load_n(&log->session, __ATOMIC_RELAXED);
}

static bool has_room(const struct log *log, const struct log_lane *lane, uint64_t bytes)
{
    return !is_over(log, lane) && bytes <= lane->end - lane->offset;
}

/* Who has had a lane in this session, and others may have them, gets the next when it is full. */
static bool wants_lane(const struct log *log, const struct log_lane *lane, uint64_t bytes)
{
    return (lane->meetings >= LOG_LANE_MEETINGS || !is_over(log, lane)) &&
           !__atomic_load_n(&log->cannot_give, __ATOMIC_RELAXED) &&
           bytes <= next_bytes(lane) / LOG_LANE_PARTS;
}

/* Nobody else writes here, and nothing is waited for but the fence. */
static void write_there(struct log *log, struct log_lane *lane, struct log_record *record)
{
    uint64_t stamp = log_stamp(log); /* the checksum is made while the processor waits for it */
    uint64_t body = log_body_checksum(record);

    record->magic = LOG_LANE_MAGIC;
    record->sequence = ++lane->sequence;
    record->previous = 0;
    record->session = lane->session;
    if (record->durable < lane->given)
        record->durable = lane->given;
    record->stamp = lane->stamp = later_than(lane->stamp, stamp);
    record->checksum = log_seal(log, record, body);
    LOG_BEFORE_LANE_STORE(record);
    persist_store(&log->persist, lane->offset, record, record->bytes);
    if (!TX_MUTANT(TX_MUTANT_COMMIT_WITHOUT_SYNC) && !TX_MUTANT(TX_MUTANT_LANE_NOT_FENCED))
        persist_fence(&log->persist);
    lane->offset += record->bytes;
}

/* Crash: in this the record is not whole, and the lane ends before it; afterwards it is there. */
int log_write_in(struct log *log, struct log_lane *lane, struct log_record *record,
                 uint64_t *sequence, struct problem *why)
{
    bool may_give = __atomic_load_n(&log->may_give, __ATOMIC_RELAXED);
    bool fits = may_give && has_room(log, lane, record->bytes);

    if (may_give && !fits && wants_lane(log, lane, record->bytes))
        fits = give_lane(log, lane) == 0;
    if (!fits)
        return log_write_outside(log, lane, record, sequence, why);
    if (__atomic_load_n(&log->failed, __ATOMIC_RELAXED))
        return __atomic_load_n(&log->failed, __ATOMIC_RELAXED);
    write_there(log, lane, record);
    *sequence = lane->given;
    return 0;
}
