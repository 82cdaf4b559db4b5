/*
 * log.c - the redo log: where it lies, and how it is read. log_append.c writes it.
 *
 * What must always be true: a record counts if it is whole and follows the one that was read
 * before: by its sequence, and because it is of the same session, or is a session's first and names
 * the checksum of the record before. So nothing counts that an earlier lap has left in these
 * frames, nor what a writer that crashed has left behind the end that its successor found.
 */
#include "core/tx/log.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/tx/log_place.h"
#include "core/tx/mutant.h"

#define PIECE_BYTES (64u << 10)

uint64_t log_random(void)
{
    uint64_t number = 0;

    if (sys_call(SYS_getrandom, &number, sizeof number, 0) != sizeof number || number == 0)
        number = sys_clock_ns(CLOCK_REALTIME) * 0x9e3779b97f4a7c15ull | 1;
    return number;
}

void log_begin(struct log *log, struct pool *pool)
{
    const struct log_place *place = &pool->super.log;

    *log = (struct log){.pool = pool,
                        .persist = {.fd = -1},
                        .extent = place->start_extent,
                        .used = place->start,
                        .sequence = place->sequence,
                        .cut = place->sequence,
                        .durable = place->sequence,
                        .known = place->sequence,
                        .root = place->root,
                        .checksum = place->root};
    log->listed = place->extent_count;
    log->long_at = UINT64_MAX;
    memcpy(&log->uuid, pool->super.uuid, sizeof log->uuid);
    lock_init(&log->lock, LOCK_RANK_LOG);
    lock_init(&log->pool_lock, LOCK_RANK_POOL);
    log->busy = log->cut_busy = 1u << log->extent;
}

int log_read_at(const struct log *log, struct log_spot spot, void *buffer, uint64_t bytes)
{
    uint64_t offset = log_offset(&log->pool->super.log, spot.extent, spot.at);

    return sys_pread_all(log->pool->fd, buffer, bytes, offset);
}

static bool header_fits(const struct log *log, struct log_spot spot,
                        const struct log_record *header)
{
    uint64_t room = log_extent_bytes(&log->pool->super.log, spot.extent) - spot.at;

    return header->bytes >= sizeof *header && header->bytes % LOG_ALIGN == 0 &&
           header->bytes <= room;
}

static bool header_is_next(const struct log *log, const struct log_record *header)
{
    bool follows = header->session == log->session || header->previous == log->checksum;

    if (TX_MUTANT(TX_MUTANT_LEFTOVERS_COUNT))
        follows = true;
    return header->magic == LOG_MAGIC && header->sequence == log->sequence + 1 && follows;
}

/* What lies behind the log's end may be what a program has stored, of whatever origin: nobody who
 * does not know the pool's uuid can make it look like a record. */
uint64_t log_seal(const struct log *log, struct log_record *record, uint64_t body)
{
    record->checksum = body ^ log->uuid;
    return checksum64(record, sizeof *record);
}

uint64_t log_body_checksum(const struct log_record *record)
{
    return checksum64(record + 1, record->bytes - sizeof *record);
}

static bool record_is_whole(const struct log *log, struct log_record *record)
{
    uint64_t expected = record->checksum;
    bool whole = log_seal(log, record, log_body_checksum(record)) == expected;

    record->checksum = expected;
    return whole || TX_MUTANT(TX_MUTANT_CHECKSUM_NOT_CHECKED);
}

int log_read_record(const struct log *log, struct log_spot spot, const struct log_record *header,
                    struct arena *arena, struct log_record **out)
{
    int status;

    *out = arena_alloc(arena, header->bytes, 64);
    if (!*out)
        return -ENOMEM;
    status = log_read_at(log, spot, *out, header->bytes);
    if (status < 0)
        return status;
    return memcmp(*out, header, sizeof *header) == 0 && record_is_whole(log, *out);
}

/* The lane that a record gives lies in its extent, behind it. */
static bool lane_fits(const struct log *log, struct log_spot spot, const struct log_record *record)
{
    const struct log_lane_terms *terms = log_terms_of(record);
    uint64_t room = log_extent_bytes(&log->pool->super.log, spot.extent) - spot.at - record->bytes;

    return !terms || log_lane_fits(terms, room);
}

int log_pass(struct log *log, struct log_spot spot, const struct log_record *record,
             struct arena *arena)
{
    const struct log_lane_terms *terms = log_terms_of(record);
    int status = 0;

    if (record->session != log->session && log->lanes.any)
        status = lanes_close(log, arena);
    log->extent = log->last_extent = spot.extent;
    log->last_at = spot.at;
    log->used = spot.at + record->bytes;
    log->busy |= 1u << spot.extent;
    log->sequence = log->durable = log->known = record->sequence;
    log->session = record->session;
    log->checksum = record->checksum;
    log->bytes += record->bytes;
    if (terms && status == 0)
        status = lanes_enter(log, terms, log_spot(spot.extent, log->used), arena);
    if (terms) {
        log->sequence += log_lane_sequences(terms);
        log->durable = log->known = log->sequence;
        log->used += terms->bytes;
        log->bytes += terms->bytes;
    }
    return status;
}

static int find_at(const struct log *log, struct log_spot spot, struct arena *arena,
                   struct log_record **out)
{
    struct log_record header;
    int status;

    if (spot.at + sizeof header > log_extent_bytes(&log->pool->super.log, spot.extent))
        return 0;
    status = log_read_at(log, spot, &header, sizeof header);
    if (status < 0 || !header_fits(log, spot, &header) || !header_is_next(log, &header))
        return status;
    status = log_read_record(log, spot, &header, arena, out);
    return status == 1 ? lane_fits(log, spot, *out) : status;
}

int log_find(const struct log *log, struct arena *arena, struct log_spot *spot,
             struct log_record **out)
{
    uint32_t count = log->pool->super.log.extent_count;
    int status = 0;

    *spot = log_spot(log->extent, log->used);
    if (count > 0)
        status = find_at(log, *spot, arena, out);
    for (uint32_t i = 0; status == 0 && i < count; i++)
        if (!(log->busy >> i & 1)) {
            *spot = log_spot(i, 0);
            status = find_at(log, *spot, arena, out);
        }
    return status;
}

int log_next(struct log *log, struct arena *arena, const struct log_record **out)
{
    struct log_record *record;
    struct log_spot spot;
    bool has_lanes = log->lanes.any;
    int status = has_lanes ? lanes_next(log, arena, &record) : log_find(log, arena, &spot, &record);

    if (status == 1 && !has_lanes)
        status = log_pass(log, spot, record, arena) < 0 ? -EIO : 1;
    if (status == 1) {
        *out = record;
        log->records++;
    }
    if (status == 0)
        log->cut_busy = log->busy;
    return status;
}

/* --- what should not be there --- */

struct looking {
    struct log *log;
    uint64_t log_bytes, end;
    log_is_later *is_later;
    const void *context;
    struct arena *arena;
    uint8_t *piece;
};

/* 1: a whole record begins with this header, which lies in a piece with so many bytes from there
 * on. What lies in it is its own then: who writes there later destroys it. */
static int look_at(struct looking *looking, struct log_spot spot, struct log_record *header,
                   uint64_t in_piece)
{
    struct log *log = looking->log;
    uintptr_t mark = arena_mark(looking->arena);
    struct log_record *record;
    int status;

    if ((header->magic != LOG_MAGIC && header->magic != LOG_LANE_MAGIC) ||
        !header_fits(log, spot, header) || !log_may_look(log->looked, looking->log_bytes))
        return 0;
    if (header->bytes <= in_piece)
        status = record_is_whole(log, header);
    else
        status = log_read_record(log, spot, header, looking->arena, &record);
    arena_rewind(looking->arena, mark);
    if (status == 0)
        log->looked += header->bytes;
    return status;
}

/* From *spot on, which comes to lie behind the piece, or the last record that begins there. */
static int look_through_piece(struct looking *looking, struct log_spot *spot, uint64_t bytes)
{
    uint64_t i = 0, next;
    int status = 0;

    for (; status == 0 && i < bytes; i = next) {
        struct log_record *header = (struct log_record *)(looking->piece + i);
        struct log_spot here = log_spot(spot->extent, spot->at + i);

        status = look_at(looking, here, header, bytes - i);
        next = i + (status == 1 ? header->bytes : LOG_ALIGN);
        if (status == 1)
            status =
                looking->is_later(looking->log, header, looking->end - here.at, looking->context);
    }
    spot->at += i;
    return status;
}

int log_look_through(struct log *log, struct log_spot spot, uint64_t end, log_is_later *is_later,
                     const void *context, struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    struct looking looking = {.log = log,
                              .log_bytes = log_frames(&log->pool->super.log) << FRAME_SHIFT,
                              .end = end,
                              .is_later = is_later,
                              .context = context,
                              .arena = arena,
                              .piece = arena_alloc(arena, PIECE_BYTES, 64)};
    int status = looking.piece ? 0 : -ENOMEM;

    while (status == 0 && spot.at < end) {
        uint64_t bytes = end - spot.at < PIECE_BYTES ? end - spot.at : PIECE_BYTES;

        status = log_read_at(log, spot, looking.piece, bytes);
        if (status == 0)
            status = look_through_piece(&looking, &spot, bytes);
    }
    arena_rewind(arena, mark);
    return status;
}

static bool knows_of_more(const struct log *log, const struct log_record *header, uint64_t room,
                          const void *context)
{
    uint64_t known = TX_MUTANT(TX_MUTANT_HOLES_ARE_DAMAGE) ? header->sequence - 1 : header->durable;

    (void)room, (void)context;
    return known > log->sequence;
}

/* Beside a writer the log may only have gone on meanwhile: then the next record is there now. */
static int breaks_off_outside(struct log *log, struct arena *arena)
{
    const struct log_place *place = &log->pool->super.log;
    struct log_record *record;
    struct log_spot spot;
    int status = 0;

    for (uint32_t i = 0; status == 0 && i < place->extent_count; i++)
        status = log_look_through(log, log_spot(i, 0), log_extent_bytes(place, i), knows_of_more,
                                  NULL, arena);
    if (status != 1)
        return status;
    status = log_find(log, arena, &spot, &record);
    return status < 0 ? status : !status;
}

int log_has_later(struct log *log, struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    int status = lanes_break_off(log, arena);

    if (status == 0)
        status = breaks_off_outside(log, arena);
    arena_rewind(arena, mark);
    return status;
}

int log_rewriting_begin(struct log_rewriting *rewriting, struct pool *pool, uint64_t most,
                        struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    const struct log_record *record;
    struct log log;
    int status = 1;

    log_begin(&log, pool);
    *rewriting = (struct log_rewriting){.uuid = log.uuid, .checksum = log.root};
    while (status == 1 && log.records < most) {
        status = log_next(&log, arena, &record);
        arena_rewind(arena, mark);
    }
    rewriting->records = log.records;
    rewriting->sequence = log.sequence - log.records;
    return status < 0 ? status : 0;
}

/* What gave a lane is a record that means nothing. */
void log_rewrite(struct log_rewriting *rewriting, struct log_record *record)
{
    if (record->magic == LOG_MAGIC && record->session != rewriting->session) {
        rewriting->session = record->session;
        rewriting->previous = rewriting->checksum;
    }
    if (log_terms_of(record))
        memset(record + 1, 0, sizeof(struct log_lane_terms));
    record->magic = LOG_MAGIC;
    record->sequence = ++rewriting->sequence;
    record->session = rewriting->session;
    record->previous = rewriting->previous;
    record->stamp = 0;
    record->checksum = rewriting->uuid ^ log_body_checksum(record);
    rewriting->checksum = record->checksum = checksum64(record, sizeof *record);
}

bool log_is_valid(const struct log *log)
{
    const struct log_place *place = &log->pool->next_log;

    return log->extent < place->extent_count && log->used % LOG_ALIGN == 0 &&
           log->used <= log_extent_bytes(place, log->extent) && log->durable <= log->sequence &&
           (log->busy >> log->extent & 1) && (log->cut_busy & ~log->busy) == 0;
}
