/*
 * log_lanes.c - lanes of the log that are read (log.h): the log's records and those of its lanes in
 * the order of their stamps.
 *
 * What must always be true: a record is given out only when all that were durable before it was
 * begun have been. These have smaller stamps, and lie in places where the reader has looked since
 * it saw the record: beside a writer a lane that ended goes on.
 */
#include <errno.h>
#include <string.h>
#include "core/tx/log_place.h"
#include "core/tx/mutant.h"

#define OUTSIDE LOG_LANES       /* the log's own next record */
#define NOWHERE (LOG_LANES + 1) /* there is none */
#define LAST    (UINT64_MAX - 1)

/* 1: the lane's next record, whole. */
static int find_in_lane(const struct log *log, const struct log_lane_read *lane,
                        struct arena *arena, struct log_record **out)
{
    struct log_spot spot = {lane->extent, lane->at};
    struct log_record header;
    int status;

    if (lane->end - lane->at < sizeof header)
        return 0;
    status = log_read_at(log, spot, &header, sizeof header);
    if (status < 0)
        return status;
    if (header.magic != LOG_LANE_MAGIC || header.session != lane->session ||
        header.sequence != lane->sequence + 1 || header.bytes < sizeof header ||
        header.bytes % LOG_ALIGN != 0 || header.bytes > lane->end - lane->at)
        return 0;
    return log_read_record(log, spot, &header, arena, out);
}

/* Has who wrote what was read? Whoever comes later writes in another session, behind all that. And
 * who has the pool for writing reads the log before it writes. */
static bool has_gone(struct log *log)
{
    if (log->pool->mode == POOL_READ && !log->lanes.is_written)
        log->lanes.is_written = pool_is_written(log->pool);
    return !log->lanes.is_written;
}

/* When the next record of the lane was placed, if it is there. */
static int look_into(struct log *log, struct log_lane_read *lane, struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    struct log_record *record;
    int status = find_in_lane(log, lane, arena, &record);

    if (status == 0 && has_gone(log)) {
        status = find_in_lane(log, lane, arena, &record); /* it may have been the last thing done */
        lane->has_ended = status == 0;
    }
    if (status == 1) {
        lane->next = record->stamp;
        lane->is_seen = true;
    }
    arena_rewind(arena, mark);
    return status;
}

/* A session's first record lies behind all of the session before, in whatever lane. */
static int look_outside(struct log *log, struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    struct log_record *record;
    struct log_spot spot;
    int status = log_find(log, arena, &spot, &record);

    if (status == 0 && has_gone(log)) {
        status = log_find(log, arena, &spot, &record);
        log->lanes.has_ended = status == 0;
    }
    if (status == 1) {
        log->lanes.next =
            record->session == log->session || TX_MUTANT(TX_MUTANT_LANES_OUTLIVE_SESSION)
                ? record->stamp
                : LAST;
        log->lanes.is_seen = true;
    }
    arena_rewind(arena, mark);
    return status;
}

/* Looks where nothing has been seen yet. *first: where the record with the smallest stamp is. */
static int look(struct log *log, struct arena *arena, uint32_t *first)
{
    bool is_known = log->lanes.is_seen || log->lanes.has_ended;
    int status = is_known ? 0 : look_outside(log, arena);
    uint64_t least = log->lanes.is_seen ? log->lanes.next : UINT64_MAX;

    *first = log->lanes.is_seen ? OUTSIDE : NOWHERE;
    for (uint32_t i = 0; status >= 0 && i < LOG_LANES; i++) {
        struct log_lane_read *lane = &log->lanes.one[i];

        if (lane->session == 0)
            continue;
        if (!lane->is_seen && !lane->has_ended)
            status = look_into(log, lane, arena);
        TX_WINDOW();
        if (lane->is_seen && lane->next < least) {
            least = lane->next;
            *first = i;
        }
    }
    return status < 0 ? status : 0;
}

static int pass_outside(struct log *log, struct arena *arena, struct log_record **out)
{
    struct log_spot spot;
    int status = log_find(log, arena, &spot, out);

    log->lanes.is_seen = false;
    if (status == 1 && log_pass(log, spot, *out, arena) < 0)
        status = -EIO;
    return status;
}

static int pass_in_lane(struct log *log, struct log_lane_read *lane, struct arena *arena,
                        struct log_record **out)
{
    int status = find_in_lane(log, lane, arena, out);

    lane->is_seen = false;
    if (status != 1)
        return status;
    log->last_extent = lane->extent;
    log->last_at = lane->at;
    lane->at += (*out)->bytes;
    lane->sequence++;
    return 1;
}

int lanes_next(struct log *log, struct arena *arena, struct log_record **out)
{
    uint32_t first = NOWHERE, before;
    int status;

    do {
        before = first;
        status = look(log, arena, &first);
        if (status < 0)
            return status;
    } while (first != before && !TX_MUTANT(TX_MUTANT_LANES_SEEN_ONCE));
    if (first == NOWHERE)
        return 0;
    return first == OUTSIDE ? pass_outside(log, arena, out)
                            : pass_in_lane(log, &log->lanes.one[first], arena, out);
}

/* --- where they end --- */

static bool is_later_in(const struct log *log, const struct log_record *header, uint64_t room,
                        const void *context)
{
    const struct log_lane_read *lane = context;

    (void)log;
    return header->magic == LOG_LANE_MAGIC && header->session == lane->session &&
           header->sequence > lane->sequence && header->bytes <= room;
}

/* A whole record of the lane behind where it ends. */
static int has_later(struct log *log, const struct log_lane_read *lane, struct arena *arena)
{
    TX_WINDOW();
    return log_look_through(log, log_spot(lane->extent, lane->at), lane->end, is_later_in, lane,
                            arena);
}

/* Each is durable before the next is begun, so no crash brings a later one about. Beside a writer
 * the lane may only have gone on: then its next record is there now. */
static int breaks_off(struct log *log, const struct log_lane_read *lane, struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    struct log_record *record;
    int status = has_later(log, lane, arena);

    if (status != 1)
        return status;
    status = find_in_lane(log, lane, arena, &record);
    arena_rewind(arena, mark);
    return status < 0 ? status : !status;
}

static int close_lane(struct log *log, struct log_lane_read *lane, struct arena *arena)
{
    int status = lane->session == 0 ? 0 : breaks_off(log, lane, arena);

    if (status == 1)
        log->lanes.break_off = true;
    *lane = (struct log_lane_read){0};
    return status;
}

int lanes_enter(struct log *log, const struct log_lane_terms *terms, struct log_spot spot,
                struct arena *arena)
{
    struct log_lane_read *lane = &log->lanes.one[terms->number];
    bool is_short = terms->before > lane->sequence;
    int status = close_lane(log, lane, arena);

    log->lanes.break_off = log->lanes.break_off || is_short;
    *lane = (struct log_lane_read){.session = terms->session,
                                   .extent = spot.extent,
                                   .at = spot.at,
                                   .end = spot.at + terms->bytes};
    log->lanes.any = true;
    return status < 0 ? status : 0;
}

int lanes_close(struct log *log, struct arena *arena)
{
    int status = 0;

    for (uint32_t i = 0; status >= 0 && i < LOG_LANES; i++)
        status = close_lane(log, &log->lanes.one[i], arena);
    log->lanes.any = log->lanes.is_seen = log->lanes.has_ended = false;
    return status < 0 ? status : 0;
}

int lanes_break_off(struct log *log, struct arena *arena)
{
    int status = log->lanes.break_off;

    for (uint32_t i = 0; status == 0 && i < LOG_LANES; i++)
        if (log->lanes.one[i].session != 0)
            status = breaks_off(log, &log->lanes.one[i], arena);
    return status;
}
