/*
 * reading_log.c - see reading_log.h.
 *
 * All records are found first, then put in order: by sessions, within one by stamps. Beside a
 * writer that is done twice, and what is later than the last that was found the first time is left
 * out: what such a record builds upon was there when the second time began.
 */
#include "recovery/check/reading_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"

#define PIECE_BYTES (64u << 10)

/* --- bytes --- */

uint64_t reading_log_extent_bytes(const struct reading_log *log, uint32_t extent)
{
    return log->place->extents[extent].frames << FRAME_SHIFT;
}

uint64_t reading_log_offset(const struct reading_log *log, struct spot spot)
{
    return (log->place->extents[spot.extent].frame << FRAME_SHIFT) + spot.at;
}

/* The superblock step has seen that extents lie in the pool; the file may be shorter. */
int reading_log_bytes(const struct reading_log *log, struct spot spot, void *buffer, uint64_t bytes)
{
    return check_read(log->checking, buffer, bytes, reading_log_offset(log, spot));
}

/* --- records --- */

static bool has_checksum(const struct checking *checking, struct log_record *record)
{
    uint64_t expected = record->checksum, found, uuid;

    memcpy(&uuid, checking->result->super.uuid, sizeof uuid);
    record->checksum = uuid ^ checksum64(record + 1, record->bytes - sizeof *record);
    found = checksum64(record, sizeof *record);
    record->checksum = expected;
    return found == expected;
}

static bool has_room(const struct reading_log *log, struct spot spot,
                     const struct log_record *header)
{
    return (header->magic == LOG_MAGIC || header->magic == LOG_LANE_MAGIC) &&
           header->bytes >= sizeof *header && header->bytes % LOG_ALIGN == 0 &&
           header->bytes <= reading_log_extent_bytes(log, spot.extent) - spot.at;
}

/* A record that lies in its extent and agrees with its checksum, to be freed; or NULL. */
static struct log_record *read_record(struct reading_log *log, struct spot spot,
                                      const struct log_record *header)
{
    struct log_record *record;

    if (!has_room(log, spot, header))
        return NULL;
    record = malloc(header->bytes);
    if (record == NULL) {
        log->status = -ENOMEM;
        return NULL;
    }
    if (reading_log_bytes(log, spot, record, header->bytes) == 0 &&
        record->bytes == header->bytes && has_checksum(log->checking, record))
        return record;
    free(record);
    return NULL;
}

static bool read_header(const struct reading_log *log, struct spot spot, struct log_record *header)
{
    return reading_log_extent_bytes(log, spot.extent) - spot.at >= sizeof *header &&
           reading_log_bytes(log, spot, header, sizeof *header) == 0;
}

/* --- all that count --- */

static void *with_room(struct reading_log *log, void *array, uint64_t count, size_t each)
{
    void *more =
        (count & (count - 1)) == 0 ? realloc(array, (count ? 2 * count : 1) * each) : array;

    if (more == NULL)
        log->status = -ENOMEM;
    return more != NULL ? more : array;
}

/* lane: NULL outside lanes. */
static void note(struct reading_log *log, struct spot spot, const struct log_record *record,
                 const struct log_lane_end *lane)
{
    log->refs = with_room(log, log->refs, log->count, sizeof log->refs[0]);
    if (log->status == 0)
        log->refs[log->count++] = (struct log_ref){.spot = spot,
                                                   .bytes = record->bytes,
                                                   .sequence = record->sequence,
                                                   .era = log->era,
                                                   .stamp = record->stamp,
                                                   .lane = lane ? log->lane_count + 1 : 0,
                                                   .number = lane ? lane->number + 1 : 0};
}

/* From the lane's beginning on. */
static void walk_lane(struct reading_log *log, struct spot spot, const struct log_lane_terms *terms)
{
    struct log_lane_end lane = {
        .session = terms->session, .number = terms->number, .era = log->era};
    uint64_t end = spot.at + terms->bytes;
    struct log_record header, *record;

    while (log->status == 0 && end - spot.at >= sizeof header && read_header(log, spot, &header) &&
           header.magic == LOG_LANE_MAGIC && header.session == lane.session &&
           header.sequence == lane.sequence + 1 && header.bytes <= end - spot.at &&
           (record = read_record(log, spot, &header)) != NULL) {
        note(log, spot, record, &lane);
        spot.at += record->bytes;
        lane.sequence++;
        free(record);
    }
    lane.spot = spot;
    lane.left = end - spot.at;
    log->lanes = with_room(log, log->lanes, log->lane_count, sizeof log->lanes[0]);
    if (log->status == 0)
        log->lanes[log->lane_count++] = lane;
}

/* Of a record that gives a lane; NULL: of another. */
static const struct log_lane_terms *terms_of(const struct log_record *record)
{
    const struct log_lane_terms *terms = (const struct log_lane_terms *)(record + 1);
    bool gives = record->entry_count == 0 && record->bytes == sizeof *record + sizeof *terms &&
                 memcmp(terms->magic, LOG_LANE_TERMS_MAGIC, sizeof terms->magic) == 0;

    return gives ? terms : NULL;
}

/* Has the lane before it with its number, of this session, got all its records? */
static void look_at_lane_before(struct reading_log *log, const struct log_lane_terms *terms)
{
    struct log_lane_end *lane = log->lanes + log->lane_count;
    bool has_one;

    if (terms->before == 0)
        return;
    while (lane > log->lanes && (--lane)->number != terms->number)
        ;
    has_one = log->lane_count > 0 && lane->number == terms->number && lane->era == log->era;
    if (has_one && terms->before <= lane->sequence)
        return;
    log->breaks_off = true;
    if (has_one)
        lane->breaks_off = true;
}

static void pass(struct reading_log *log, struct spot spot, const struct log_record *record)
{
    const struct log_lane_terms *terms = terms_of(record);

    log->era += record->session != log->session;
    log->extent = spot.extent;
    log->used = spot.at + record->bytes;
    log->busy |= 1u << spot.extent;
    log->sequence = record->sequence;
    log->session = record->session;
    log->checksum = record->checksum;
    note(log, spot, record, NULL);
    if (terms == NULL)
        return;
    look_at_lane_before(log, terms);
    if (log->status == 0)
        log->refs[log->count - 1].gives = log->lane_count + 1;
    walk_lane(log, (struct spot){spot.extent, log->used}, terms);
    log->used += terms->bytes;
    log->sequence += log_lane_sequences(terms);
}

/* The next record outside lanes, if it lies here. */
static bool try_spot(struct reading_log *log, struct spot spot)
{
    struct log_record header, *record;
    const struct log_lane_terms *terms;
    bool is_next;

    if (!read_header(log, spot, &header) || header.magic != LOG_MAGIC ||
        header.sequence != log->sequence + 1 ||
        (header.session != log->session && header.previous != log->checksum))
        return false;
    record = read_record(log, spot, &header);
    if (record == NULL)
        return false;
    terms = terms_of(record);
    is_next = terms == NULL || log_lane_fits(terms, reading_log_extent_bytes(log, spot.extent) -
                                                        spot.at - record->bytes);
    if (is_next)
        pass(log, spot, record);
    free(record);
    return is_next;
}

static bool walk_next(struct reading_log *log)
{
    bool found = try_spot(log, (struct spot){log->extent, log->used});

    for (uint32_t i = 0; !found && i < log->place->extent_count; i++)
        if (!(log->busy >> i & 1))
            found = try_spot(log, (struct spot){i, 0});
    return found && log->status == 0;
}

static struct reading_log walk(struct checking *checking)
{
    const struct log_place *place = &checking->result->super.log;
    struct reading_log log = {.checking = checking,
                              .place = place,
                              .extent = place->start_extent,
                              .used = place->start,
                              .busy = 1u << place->start_extent,
                              .sequence = place->sequence,
                              .checksum = place->root};

    while (walk_next(&log))
        ;
    return log;
}

/* --- in order --- */

/* Of equal stamps those outside lanes first, then by lanes' numbers. */
static int compare(const void *left, const void *right)
{
    const struct log_ref *a = left, *b = right;

    if (a->era != b->era)
        return a->era < b->era ? -1 : 1;
    if (a->stamp != b->stamp)
        return a->stamp < b->stamp ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    if (a->lane != b->lane)
        return a->lane < b->lane ? -1 : 1;
    return (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

static void leave_out_later(struct reading_log *log, const struct log_ref *last)
{
    while (log->count > 0 && (last == NULL || log->refs[log->count - 1].era > last->era ||
                              (log->refs[log->count - 1].era == last->era &&
                               log->refs[log->count - 1].stamp > last->stamp)))
        log->count--;
}

static void put_in_order(struct reading_log *log)
{
    if (log->lane_count > 0)
        qsort(log->refs, log->count, sizeof log->refs[0], compare);
}

struct reading_log reading_log_begin(struct checking *checking)
{
    struct reading_log log = walk(checking), again;

    put_in_order(&log);
    if (!checking->result->is_in_use || log.status < 0)
        return log;
    again = walk(checking);
    put_in_order(&again);
    if (again.lane_count > 0)
        leave_out_later(&again, log.count > 0 ? &log.refs[log.count - 1] : NULL);
    reading_log_end(&log);
    return again;
}

void reading_log_end(struct reading_log *log)
{
    free(log->refs);
    free(log->lanes);
    log->refs = NULL;
    log->lanes = NULL;
}

struct log_record *reading_log_next(struct reading_log *log)
{
    const struct log_ref *ref = &log->refs[log->passed];
    struct log_record header, *record = NULL;

    if (log->status < 0 || log->passed == log->count)
        return NULL;
    if (read_header(log, ref->spot, &header))
        record = read_record(log, ref->spot, &header);
    if (record == NULL || record->bytes != ref->bytes) { /* its writer has gone on */
        free(record);
        return NULL;
    }
    log->passed++;
    log->bytes += record->bytes;
    return record;
}

/* --- what should not be there --- */

/* Lanes by their sessions; the same one is nobody's but an enemy's, and then the first counts. */
struct lane_order {
    uint64_t session, lane;
};

static int compare_lanes(const void *left, const void *right)
{
    const struct lane_order *a = left, *b = right;

    if (a->session != b->session)
        return a->session < b->session ? -1 : 1;
    return (a->lane > b->lane) - (a->lane < b->lane);
}

/* To be freed. */
static struct lane_order *order_lanes(struct reading_log *log)
{
    struct lane_order *order = malloc((log->lane_count + 1) * sizeof *order);

    if (order == NULL) {
        log->status = -ENOMEM;
        return NULL;
    }
    for (uint64_t i = 0; i < log->lane_count; i++)
        order[i] = (struct lane_order){log->lanes[i].session, i};
    qsort(order, log->lane_count, sizeof *order, compare_lanes);
    return order;
}

/* The lane that had this record, if it ends before it: in a lane each is durable before the next
 * is begun. */
static struct log_lane_end *lane_before(const struct reading_log *log,
                                        const struct lane_order *order,
                                        const struct log_record *header)
{
    uint64_t first = 0, end = log->lane_count;
    struct log_lane_end *lane;

    if (header->magic != LOG_LANE_MAGIC)
        return NULL;
    while (first < end) {
        uint64_t middle = first + (end - first) / 2;

        if (order[middle].session < header->session)
            first = middle + 1;
        else
            end = middle;
    }
    if (first == log->lane_count || order[first].session != header->session)
        return NULL;
    lane = &log->lanes[order[first].lane];
    return header->sequence > lane->sequence ? lane : NULL;
}

static bool may_look(struct reading_log *log)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < log->place->extent_count; i++)
        bytes += reading_log_extent_bytes(log, i);
    log->gave_up = !log_may_look(log->looked, bytes);
    return !log->gave_up;
}

/* Of a header that lies in a piece with so many bytes from there on. What lies in a whole record is
 * its own: who writes there later destroys it. */
static bool is_whole_at(struct reading_log *log, struct spot spot, struct log_record *header,
                        uint64_t in_piece)
{
    struct log_record *record;
    bool is_whole;

    if (!has_room(log, spot, header) || !may_look(log))
        return false;
    if (header->bytes <= in_piece) {
        is_whole = has_checksum(log->checking, header);
    } else {
        record = read_record(log, spot, header);
        is_whole = record != NULL;
        free(record);
    }
    if (!is_whole)
        log->looked += header->bytes;
    return is_whole;
}

static bool is_later(struct reading_log *log, const struct lane_order *order,
                     const struct log_record *header)
{
    bool is_outside = header->durable > log->sequence;
    struct log_lane_end *lane = lane_before(log, order, header);

    if (!is_outside && lane == NULL)
        return false;
    log->breaks_off = true;
    log->breaks_off_outside = log->breaks_off_outside || is_outside;
    if (lane != NULL)
        lane->breaks_off = true;
    return true;
}

struct looking {
    const struct lane_order *order;
    struct spot *found;
    bool any;
    struct log_record piece[PIECE_BYTES / sizeof(struct log_record)];
};

/* Returns how far it came: to the piece's end, or that of the last record that begins there. */
static uint64_t look_through_piece(struct reading_log *log, struct looking *looking,
                                   struct spot spot, uint64_t bytes)
{
    uint64_t i = 0;

    while (i < bytes) {
        struct log_record *header = &looking->piece[i / sizeof *header];
        struct spot here = {spot.extent, spot.at + i};
        bool is_whole = is_whole_at(log, here, header, bytes - i);

        i += is_whole ? header->bytes : sizeof *header;
        if (!is_whole || !is_later(log, looking->order, header))
            continue;
        if (!looking->any)
            *looking->found = here;
        looking->any = true;
    }
    return i;
}

static void find_later(struct reading_log *log, struct looking *looking)
{
    for (uint32_t extent = 0; extent < log->place->extent_count; extent++)
        for (uint64_t at = 0; at < reading_log_extent_bytes(log, extent);) {
            uint64_t left = reading_log_extent_bytes(log, extent) - at;
            uint64_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;
            struct spot spot = {extent, at};

            at += reading_log_bytes(log, spot, looking->piece, bytes) < 0
                      ? bytes
                      : look_through_piece(log, looking, spot, bytes);
        }
}

bool reading_log_find_later(struct reading_log *log, struct spot *found)
{
    struct lane_order *order = order_lanes(log);
    struct looking looking = {.order = order, .found = found};

    if (order != NULL)
        find_later(log, &looking);
    free(order);
    return looking.any;
}

/* Up to the last record of a source that breaks off: outside lanes, or a lane, or what gave it. */
uint64_t reading_log_count_whole(struct reading_log *log)
{
    uint64_t *up_to = calloc(log->lane_count + 1, sizeof *up_to), least = log->count;

    if (up_to == NULL) {
        log->status = -ENOMEM;
        return 0;
    }
    for (uint64_t i = 0; i < log->count; i++) {
        up_to[log->refs[i].lane] = i + 1;
        if (log->refs[i].gives > 0)
            up_to[log->refs[i].gives] = i + 1;
    }
    if (log->breaks_off_outside)
        least = up_to[0];
    for (uint64_t i = 0; i < log->lane_count; i++)
        if (log->lanes[i].breaks_off && up_to[i + 1] < least)
            least = up_to[i + 1];
    free(up_to);
    return least;
}
