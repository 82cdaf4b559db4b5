/*
 * log_append.c - records get a place, are written, and become durable; the log grows and is cut.
 *
 * What must always be true: a record is written where no record lies that a reader of the durable
 * superblock needs, in an extent that it lists; `durable` never runs ahead of what a sync has
 * covered; records are written, or on DAX said to be durable, in the order of their sequences.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/slot.h"
#include "core/tx/log_marks.h"
#include "core/tx/log_place.h"
#include "core/tx/mutant.h"

#define PIECE_BYTES     (64u << 10)
#define PATIENCE_MIN_NS 40000u
#define PATIENCE_MAX_NS 1000000u
#define MISSES_MAX      4u /* doublings of the syncs that expect nobody new */

#ifndef LOG_BEFORE_STORE /* a test lets another thread go first there */
#define LOG_BEFORE_STORE(record) (void)(record)
#endif

static int explain(const struct log *log, int status, struct problem *why)
{
    return problem_set(why, status, "cannot write to the log of pool '%s': %s", log->pool->path,
                       status_text(status));
}

/* --- what is durable --- */

uint64_t log_durable(const struct log *log)
{
    uint64_t durable = __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE);

    for (unsigned i = 0; i < LOG_MARKS; i++) {
        uint64_t sequence = __atomic_load_n(&log->marks[i].sequence, __ATOMIC_ACQUIRE);

        if (sequence > durable)
            durable = sequence;
    }
    return durable;
}

/* --- sessions --- */

/* Of the last record that has a place. On DAX another thread may be about to store it. */
static uint64_t last_checksum(struct log *log)
{
    if (!log->persist.dax.window)
        return log->checksum;
    wait_for_mark(log, log->sequence);
    return mark_of(log, log->sequence)->checksum;
}

/* What is written from now on does not follow what was written in vain. */
static void begin_session(struct log *log)
{
    if (!TX_MUTANT(TX_MUTANT_SESSION_GOES_ON) || log->session == 0)
        __atomic_store_n(&log->session, log_random(), __ATOMIC_RELAXED);
    log->root = last_checksum(log);
    log->has_given = false;
    __atomic_store_n(&log->cannot_give, false, __ATOMIC_RELAXED);
}

int log_open(struct log *log)
{
    int status;

    if (log->root == 0)
        log->root = log->checksum = log_random();
    set_first_marks(log);
    begin_session(log);
    status = persist_share(&log->persist, &log->pool->persist);
    log->clock_is_fine = log_clock_is_fine(log);
    log->pool->next_log_has_lanes = log->persist.dax.window && log->clock_is_fine;
    log->may_give = log_may_give(log);
    return status;
}

void log_close(struct log *log)
{
    persist_unshare(&log->persist);
}

/* --- places --- */

static int fill(struct log *log, const struct log_extent *extent)
{
    static const uint8_t zeroes[PIECE_BYTES];
    uint64_t end = extent->frames << FRAME_SHIFT, start = extent->frame << FRAME_SHIFT;
    int status = 0;

    for (uint64_t at = 0; status == 0 && at < end; at += PIECE_BYTES)
        status = persist_write(&log->pool->persist, start + at, zeroes,
                               end - at < PIECE_BYTES ? end - at : PIECE_BYTES);
    return status;
}

int log_extend(struct log *log, uint64_t frames, struct problem *why)
{
    struct log_place *place = &log->pool->next_log;
    int status = pool_add_log_extent(log->pool, frames, why);

    if (status < 0)
        return status;
    status = fill(log, &place->extents[place->extent_count - 1]);
    log->persist.file_bytes = log->pool->persist.file_bytes;
    log->persist.dax = log->pool->persist.dax;
    return status < 0 ? explain(log, status, why) : 0;
}

/* Has it room, and no record that is needed? */
static bool is_free(const struct log *log, uint32_t extent, uint64_t bytes)
{
    return !(log->busy >> extent & 1) && bytes <= log_extent_bytes(&log->pool->next_log, extent);
}

static uint32_t find_extent(const struct log *log, uint32_t from, uint64_t bytes)
{
    while (from < log->pool->next_log.extent_count && !is_free(log, from, bytes))
        from++;
    return from;
}

/* An extent more, listed by a durable superblock; or one that an attempt before has not come so far
 * with. Twice what there is, so that growing stays rare. */
static int grow(struct log *log, uint64_t bytes, struct problem *why)
{
    const struct log_place *place = &log->pool->next_log;
    uint64_t frames = log_frames(place);
    int status = 0;

    if (frames << FRAME_SHIFT < bytes)
        frames = (bytes + FRAME_BYTES - 1) >> FRAME_SHIFT;
    lock_acquire(&log->pool_lock, heap_holder());
    if (find_extent(log, log->pool->super.log.extent_count, bytes) == place->extent_count)
        status = log_extend(log, frames, why);
    if (status == 0 && !TX_MUTANT(TX_MUTANT_GROWTH_NOT_LISTED))
        status = pool_list_log(log->pool, why);
    if (log->pool->persist.failed)
        __atomic_store_n(&log->failed, log->pool->persist.failed, __ATOMIC_RELEASE);
    lock_release(&log->pool_lock);
    return status;
}

static void go_to(struct log *log, uint32_t extent)
{
    log->extent = extent;
    log->used = 0;
    log->busy |= 1u << extent;
    log->cut_busy |= 1u << extent;
}

/* In another extent. */
static int go_on(struct log *log, uint64_t bytes, struct problem *why)
{
    const struct log_place *place = &log->pool->next_log;
    uint32_t extent;
    int status;

    extent = find_extent(log, 0, bytes);
    if (extent >= log->listed) {
        status = grow(log, bytes, why);
        if (status < 0)
            return status;
        extent = find_extent(log, log->listed, bytes);
        log->listed = place->extent_count;
    }
    go_to(log, extent);
    return 0;
}

uint64_t log_room_at(const struct log *log, uint64_t bytes)
{
    const struct log_place *place = &log->pool->next_log;
    uint32_t extent;

    if (bytes <= log_extent_bytes(place, log->extent) - log->used)
        return log_offset(place, log->extent, log->used);
    extent = find_extent(log, 0, bytes);
    return extent < log->listed ? log_offset(place, extent, 0) : 0;
}

static inline int make_room(struct log *log, uint64_t bytes, struct problem *why)
{
    uint64_t room = log_extent_bytes(&log->pool->next_log, log->extent) - log->used;

    return bytes <= room ? 0 : go_on(log, bytes, why);
}

int log_make_room(struct log *log, uint64_t bytes, struct problem *why)
{
    return make_room(log, bytes, why);
}

/* On DAX it is not asked for what is durable: all commits write there. */
static uint64_t known_durable(struct log *log, uint64_t told)
{
    if (!log->persist.dax.window)
        told = __atomic_load_n(&log->durable, __ATOMIC_RELAXED);
    if (told > log->known)
        log->known = told;
    return log->known;
}

/* Said in a line that is seldom written, so that those who ask do not take this one away. */
static void count_bytes(struct log *log, uint64_t bytes)
{
    bytes += log->bytes;
    __atomic_store_n(&log->bytes, bytes, __ATOMIC_RELAXED);
    if (bytes >= __atomic_load_n(&log->long_at, __ATOMIC_RELAXED) &&
        !__atomic_load_n(&log->is_long, __ATOMIC_RELAXED))
        __atomic_store_n(&log->is_long, true, __ATOMIC_RELAXED);
}

/* Inlined: each commit goes through it. */
__attribute__((always_inline)) static inline uint64_t
place_record(struct log *log, struct log_record *record, uint64_t more)
{
    uint64_t offset = log_offset(&log->pool->next_log, log->extent, log->used);

    record->magic = LOG_MAGIC;
    record->sequence = log->sequence + 1;
    record->previous = log->root;
    record->session = log->session;
    record->durable = known_durable(log, record->durable);
    record->stamp = log->has_given ? log_stamp(log) : 0;
    log->used += record->bytes + more;
    count_bytes(log, record->bytes + more);
    return offset;
}

uint64_t log_place_record(struct log *log, struct log_record *record, uint64_t more)
{
    return place_record(log, record, more);
}

/* --- on DAX --- */

/* Before the fence the record may be there or not, or in part; after it, it is. Records of other
 * threads may have got places before it and not be there yet: it is durable when they are. */
void log_store_record(struct log *log, struct log_record *record, uint64_t body, uint64_t offset)
{
    LOG_BEFORE_STORE(record);
    __builtin_prefetch(mark_of(log, record->sequence), 1);
    record->checksum = log_seal(log, record, body);
    persist_store(&log->persist, offset, record, record->bytes);
    if (!TX_MUTANT(TX_MUTANT_COMMIT_WITHOUT_SYNC))
        persist_fence(&log->persist);
    if (!TX_MUTANT(TX_MUTANT_PREDECESSORS_NOT_AWAITED))
        wait_for_mark(log, record->sequence - 1);
    set_mark(log, record->sequence, record);
}

void log_pass_over(struct log *log, const struct log_record *record, uint64_t count)
{
    set_mark(log, record->sequence + count, record);
}

/* --- on ordinary files --- */

/* The record may be there in part or, unknown to its writer, as a whole: it must not come to life.
 * Durable, since the next record may go elsewhere. */
static void take_back(struct log *log, uint64_t bytes, uint64_t offset)
{
    static const uint8_t zeroes[LOG_ALIGN];
    int status = persist_write(&log->persist, offset, zeroes, sizeof zeroes);

    if (status == 0)
        status = persist_sync(&log->persist);
    if (status == 0 && log->has_given) /* who has a lane goes on in this session */
        status = -EIO;
    if (status < 0)
        __atomic_store_n(&log->failed, status, __ATOMIC_RELEASE);
    log->used -= bytes;
    __atomic_store_n(&log->bytes, log->bytes - bytes, __ATOMIC_RELAXED);
    begin_session(log);
}

/* Under the lock. What lies beyond the mapping of a pool on DAX is made durable at once: the fence
 * of another thread would not do. */
static int write_record(struct log *log, struct log_record *record, uint64_t body, uint64_t offset)
{
    int status;

    record->checksum = log_seal(log, record, body);
    status = persist_write(&log->persist, offset, record, record->bytes);
    if (status == 0 && log->persist.dax.window)
        status = persist_sync(&log->persist);
    if (status < 0) {
        take_back(log, record->bytes, offset);
        return status;
    }
    if (log->persist.dax.window) {
        wait_for_mark(log, record->sequence - 1);
        set_mark(log, record->sequence, record);
    }
    log->checksum = record->checksum;
    __atomic_store_n(&log->sequence, record->sequence, __ATOMIC_RELEASE);
    return 0;
}

/* Threads that have been woken by the last sync are about to come with their next records. Did all
 * come that were expected? */
static bool wait_for_company(const struct log *log)
{
    uint64_t until = log->durable + log->company.expected, deadline;

    if (log->company.expected < 2)
        return true;
    deadline = sys_clock_ns(CLOCK_MONOTONIC) + log->company.patience_ns;
    while (__atomic_load_n(&log->sequence, __ATOMIC_RELAXED) < until) {
        if (sys_clock_ns(CLOCK_MONOTONIC) >= deadline)
            return false;
        (void)sys_call(SYS_sched_yield);
    }
    return true;
}

/*
 * Who came while a sync was under way could have been in it: without that the threads go on in two
 * lots, each waiting for the other's sync. So the next one waits for those as well, for no longer
 * than a sync takes. If they do not come it is not tried again for 2, 4, 8, 16 syncs.
 */
static void learn_company(struct log *log, uint64_t synced, bool all_came, uint64_t took_ns)
{
    struct log_company *company = &log->company;
    uint64_t late = __atomic_load_n(&log->sequence, __ATOMIC_RELAXED) - synced;

    if (!all_came && company->misses < MISSES_MAX)
        company->misses++;
    if (!all_came)
        company->alone = 1u << company->misses;
    else if (company->alone > 0)
        company->alone--;
    else if (company->expected > 1)
        company->misses = 0;
    company->expected = (uint32_t)(synced - log->durable);
    if (company->alone == 0)
        company->expected += (uint32_t)late;
    company->patience_ns = took_ns < PATIENCE_MIN_NS   ? PATIENCE_MIN_NS
                           : took_ns > PATIENCE_MAX_NS ? PATIENCE_MAX_NS
                                                       : took_ns;
}

static void advance(struct log *log, uint64_t sequence)
{
    uint64_t durable = __atomic_load_n(&log->durable, __ATOMIC_RELAXED);

    while (durable < sequence &&
           !__atomic_compare_exchange_n(&log->durable, &durable, sequence, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
}

/* By one thread at a time: all that is written when it begins, at least up to `wanted`. */
static int sync_log(struct log *log, uint64_t wanted)
{
    uint64_t sequence, start;
    bool all_came;
    int status = 0;

    if (__atomic_load_n(&log->durable, __ATOMIC_ACQUIRE) >= wanted)
        return 0;
    all_came = wait_for_company(log);
    start = sys_clock_ns(CLOCK_MONOTONIC);
    sequence = __atomic_load_n(&log->sequence, __ATOMIC_ACQUIRE);
    if (!TX_MUTANT(TX_MUTANT_COMMIT_WITHOUT_SYNC))
        status = persist_sync(&log->persist);
    if (status < 0) {
        __atomic_store_n(&log->failed, status, __ATOMIC_RELEASE);
        return status;
    }
    learn_company(log, sequence, all_came, sys_clock_ns(CLOCK_MONOTONIC) - start);
    advance(log, sequence);
    return 0;
}

/* One of those who wait syncs; then all look again. Whoever comes while nobody does is that one.
 * Who is about to sleep is counted before the kernel looks at `syncing`, who syncs changes that
 * before it looks at the count: nobody sleeps on. */
static int wait_or_sync(struct log *log, uint64_t sequence)
{
    uint32_t round = __atomic_load_n(&log->syncing, __ATOMIC_ACQUIRE), odd = round | 1;
    int status;

    if (round & 1) {
        __atomic_fetch_add(&log->sleeping, 1, __ATOMIC_SEQ_CST);
        (void)sys_call(SYS_futex, &log->syncing, FUTEX_WAIT_PRIVATE, round, 0);
        __atomic_fetch_sub(&log->sleeping, 1, __ATOMIC_RELAXED);
        return __atomic_load_n(&log->failed, __ATOMIC_ACQUIRE);
    }
    if (!__atomic_compare_exchange_n(&log->syncing, &round, odd, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return 0;
    status = sync_log(log, sequence);
    __atomic_store_n(&log->syncing, odd + 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&log->sleeping, __ATOMIC_SEQ_CST) > 0)
        (void)sys_call(SYS_futex, &log->syncing, FUTEX_WAKE_PRIVATE, INT32_MAX);
    return status;
}

int log_wait(struct log *log, uint64_t sequence, struct problem *why)
{
    int status = 0;

    if (log->persist.dax.window)
        wait_for_mark(log, sequence);
    else
        while (status == 0 && __atomic_load_n(&log->durable, __ATOMIC_ACQUIRE) < sequence)
            status = wait_or_sync(log, sequence);
    return status < 0 ? explain(log, status, why) : 0;
}

/* --- both --- */

/* Who finds another's record before its own, again and again, will ask for a lane. */
static void note_meeting(struct log *log, struct log_lane *lane)
{
    if (lane && log->last != lane) {
        log->last = lane;
        lane->meetings++;
    }
}

/*
 * Crash: before or in this the record is not whole, and the log ends before it, or before one that
 * got its place earlier; afterwards, on an ordinary file, it may be there or not.
 */
int log_write_outside(struct log *log, struct log_lane *lane, struct log_record *record,
                      uint64_t *sequence, struct problem *why)
{
    uint64_t body, offset;
    int status;

    __builtin_prefetch(&log->lock, 1);
    body = log_body_checksum(record);
    lock_acquire(&log->lock, heap_holder());
    status = __atomic_load_n(&log->failed, __ATOMIC_RELAXED);
    if (status == 0)
        status = make_room(log, record->bytes, why);
    if (status < 0) {
        lock_release(&log->lock);
        return status;
    }
    note_meeting(log, lane);
    offset = place_record(log, record, 0);
    *sequence = record->sequence;
    if (persist_is_mapped(&log->persist, offset, record->bytes)) {
        log->sequence = record->sequence;
        lock_release(&log->lock);
        log_store_record(log, record, body, offset);
        return 0;
    }
    status = write_record(log, record, body, offset);
    lock_release(&log->lock);
    return status < 0 ? explain(log, status, why) : 0;
}

int log_write(struct log *log, struct log_record *record, uint64_t *sequence, struct problem *why)
{
    return log_write_outside(log, NULL, record, sequence, why);
}

/* Crash: all of it, once this has returned. */
int log_append(struct log *log, struct log_record *record, struct problem *why)
{
    uint64_t sequence;
    int status = log_write(log, record, &sequence, why);

    return status < 0 ? status : log_wait(log, sequence, why);
}

/* --- the cut --- */

void log_cut(struct log *log)
{
    struct log_place *place = &log->pool->next_log;

    if (TX_MUTANT(TX_MUTANT_LOG_NOT_CUT))
        return;
    lock_acquire(&log->lock, heap_holder());
    begin_session(log);
    place->root = log->root;
    place->start_extent = log->extent;
    place->start = log->used;
    place->sequence = log->cut = log->sequence;
    log->cut_busy = 1u << log->extent;
    if (TX_MUTANT(TX_MUTANT_SPACE_FREE_AT_CUT))
        log->busy = log->cut_busy;
    __atomic_store_n(&log->bytes, 0, __ATOMIC_RELAXED);
    lock_release(&log->lock);
}

void log_cut_committed(struct log *log)
{
    lock_acquire(&log->lock, heap_holder());
    log->busy = log->cut_busy;
    if (!log->may_give)
        __atomic_store_n(&log->may_give, log_may_give(log), __ATOMIC_RELAXED);
    advance(log, log->cut);
    lock_release(&log->lock);
}
