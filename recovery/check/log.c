/*
 * log.c - the log of an opened heap: its place, its frames, its records.
 *
 * The log ends where no record is next. A record says how far the log was durable when it was
 * written: if one is anywhere in the log's frames that says more than has been found, the log has
 * been damaged. Beside a writer that is not looked for: what is read meanwhile may be of two
 * moments.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "recovery/check/opened_model.h"

#define PIECE_BYTES (64u << 10)

struct reading_log {
    struct checking *checking;
    const struct log_place *place;
    uint32_t extent; /* where the next record lies, if it is not at an extent's beginning */
    uint64_t used;
    uint32_t busy;                        /* extents with records of this log */
    uint64_t sequence, session, checksum; /* of the last record */
    uint64_t bytes;
    int status;
};

/* Of a record: which extent, and where in it. */
struct spot {
    uint32_t extent;
    uint64_t at;
};

/* --- bytes --- */

static uint64_t extent_bytes(const struct reading_log *log, uint32_t extent)
{
    return log->place->extents[extent].frames << FRAME_SHIFT;
}

static uint64_t offset_of(const struct reading_log *log, struct spot spot)
{
    return (log->place->extents[spot.extent].frame << FRAME_SHIFT) + spot.at;
}

/* The superblock step has seen that extents lie in the pool; the file may be shorter. */
static int read_bytes(const struct reading_log *log, struct spot spot, void *buffer, uint64_t bytes)
{
    return check_read(log->checking, buffer, bytes, offset_of(log, spot));
}

static struct reading_log begin_log(struct checking *checking)
{
    const struct log_place *place = &checking->result->super.log;

    return (struct reading_log){.checking = checking,
                                .place = place,
                                .extent = place->start_extent,
                                .used = place->start,
                                .busy = 1u << place->start_extent,
                                .sequence = place->sequence,
                                .checksum = place->root};
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
    return header->magic == LOG_MAGIC && header->bytes >= sizeof *header &&
           header->bytes % LOG_ALIGN == 0 &&
           header->bytes <= extent_bytes(log, spot.extent) - spot.at;
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
    if (read_bytes(log, spot, record, header->bytes) == 0 && record->bytes == header->bytes &&
        has_checksum(log->checking, record))
        return record;
    free(record);
    return NULL;
}

static struct log_record *try_spot(struct reading_log *log, struct spot spot)
{
    struct log_record header, *record;

    if (extent_bytes(log, spot.extent) - spot.at < sizeof header ||
        read_bytes(log, spot, &header, sizeof header) < 0 || header.sequence != log->sequence + 1 ||
        (header.session != log->session && header.previous != log->checksum))
        return NULL;
    record = read_record(log, spot, &header);
    if (record == NULL)
        return NULL;
    log->extent = spot.extent;
    log->used = spot.at + record->bytes;
    log->busy |= 1u << spot.extent;
    log->sequence = record->sequence;
    log->session = record->session;
    log->checksum = record->checksum;
    log->bytes += record->bytes;
    return record;
}

/* To be freed; NULL: the log ends here. */
static struct log_record *next_record(struct reading_log *log)
{
    struct log_record *record = try_spot(log, (struct spot){log->extent, log->used});

    for (uint32_t i = 0; record == NULL && i < log->place->extent_count; i++)
        if (!(log->busy >> i & 1))
            record = try_spot(log, (struct spot){i, 0});
    return record;
}

static struct spot spot_of_last(const struct reading_log *log, const struct log_record *record)
{
    return (struct spot){log->extent, log->used - record->bytes};
}

static bool is_later(struct reading_log *log, struct spot spot, const struct log_record *header)
{
    struct log_record *record;

    if (header->magic != LOG_MAGIC || header->durable <= log->sequence)
        return false;
    record = read_record(log, spot, header);
    free(record);
    return record != NULL;
}

/* A record that knows of more than was found: where it is. False: there is none. */
static bool find_later(struct reading_log *log, struct spot *found)
{
    struct log_record piece[PIECE_BYTES / sizeof(struct log_record)];

    for (uint32_t extent = 0; extent < log->place->extent_count; extent++)
        for (uint64_t at = 0; at < extent_bytes(log, extent); at += PIECE_BYTES) {
            uint64_t left = extent_bytes(log, extent) - at;
            uint64_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;

            if (read_bytes(log, (struct spot){extent, at}, piece, bytes) < 0)
                continue;
            for (uint64_t i = 0; i < bytes / sizeof piece[0]; i++) {
                *found = (struct spot){extent, at + i * sizeof piece[0]};
                if (is_later(log, *found, &piece[i]))
                    return true;
            }
        }
    return false;
}

/* --- entries --- */

struct promised { /* a record that counts when its outcome says so */
    struct promised *next;
    struct log_record *record;
    uint64_t id;
};

struct applying {
    struct reading_log log;
    struct opened_model *model;
    struct promised *promised;
    uint64_t number; /* of the entry at hand */
    const char *expected;
};

static bool is_applied(struct applying *to, struct log_cursor *cursor)
{
    const struct log_entry *entry;

    while (to->expected == NULL && (entry = log_cursor_next(cursor)) != NULL) {
        to->expected = model_apply(to->model, entry);
        to->number += to->expected == NULL;
    }
    if (to->expected == NULL && cursor->broken)
        to->expected = "entries within their record";
    return to->expected == NULL;
}

static struct promised **find_promised(struct applying *to, uint64_t id)
{
    struct promised **at = &to->promised;

    while (*at != NULL && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

/* The record is kept. */
static void promise(struct applying *to, struct log_record *record, const struct log_entry *entry)
{
    struct promised *promised = malloc(sizeof *promised);
    const struct log_promise *terms = (const struct log_promise *)(entry + 1);

    if (promised == NULL)
        to->log.status = -ENOMEM;
    else if (entry->bytes <= sizeof *terms ||
             memchr(terms->path, 0, entry->bytes - sizeof *terms) == NULL ||
             *find_promised(to, entry->address) != NULL)
        to->expected = "a promise of its own";
    if (promised == NULL || to->expected != NULL) {
        free(promised);
        free(record);
        return;
    }
    *promised = (struct promised){to->promised, record, entry->address};
    to->promised = promised;
}

static void settle(struct applying *to, const struct log_entry *entry)
{
    struct promised **at = find_promised(to, entry->address), *promised = *at;
    struct log_cursor cursor;

    if (promised == NULL || (entry->type != LOG_COMMITTED && entry->type != LOG_UNDONE)) {
        to->expected = "the outcome of what was promised";
        return;
    }
    log_cursor_begin(&cursor, promised->record);
    (void)log_cursor_next(&cursor);
    if (entry->type == LOG_COMMITTED)
        (void)is_applied(to, &cursor);
    *at = promised->next;
    free(promised->record);
    free(promised);
}

/* Takes the record over. */
static void apply_record(struct applying *to, struct log_record *record)
{
    struct log_cursor cursor;
    const struct log_entry *entry;

    log_cursor_begin(&cursor, record);
    entry = log_cursor_next(&cursor);
    if (entry != NULL && entry->kind == LOG_PREPARE) {
        promise(to, record, entry);
        return;
    }
    log_cursor_begin(&cursor, record);
    if (entry != NULL && entry->kind == LOG_OUTCOME)
        settle(to, entry);
    else
        (void)is_applied(to, &cursor);
    free(record);
}

/* What comes before the record is all that counts. */
static void tell_entry(struct applying *to, struct spot spot, uint64_t record_bytes)
{
    struct check_result *result = to->log.checking->result;

    check_tell(to->log.checking, LG_ENTRY, SEVERITY_DAMAGE,
               place_of(to->log.place->generation, offset_of(&to->log, spot), 0), to->expected,
               "entry %lu of record %lu", to->number, to->log.sequence);
    result->log_is_damaged = true;
    result->log_records = to->log.sequence - 1 - to->log.place->sequence;
    result->log_bytes = to->log.bytes - record_bytes;
}

int check_log_entries(struct opened_model *model)
{
    struct applying to = {.log = begin_log(model->view->checking), .model = model};
    struct log_record *record;

    while (to.expected == NULL && (record = next_record(&to.log)) != NULL) {
        struct spot spot = spot_of_last(&to.log, record);
        uint64_t bytes = record->bytes;

        to.number = 0;
        apply_record(&to, record);
        if (to.expected != NULL)
            tell_entry(&to, spot, bytes);
    }
    while (to.promised != NULL) {
        struct promised *promised = to.promised;

        to.promised = promised->next;
        free(promised->record);
        free(promised);
    }
    return to.log.status;
}

/* --- in order --- */

/* The frames of the log are nobody else's. */
static int claim_frames(struct checking *checking)
{
    const struct log_place *place = &checking->result->super.log;
    int claim = CLAIM_NEW;

    for (uint32_t i = 0; claim >= 0 && i < place->extent_count; i++)
        for (uint64_t k = 0; claim >= 0 && k < place->extents[i].frames; k++) {
            claim = frame_claim_log(checking, place->extents[i].frame + k);
            if (claim == CLAIM_REFUSED) {
                checking->result->log_is_damaged = true;
                return 0;
            }
        }
    return claim < 0 ? claim : 0;
}

/* The newest generation is what it follows, or there is nothing that it could be applied to. */
static void check_what_it_follows(struct checking *checking)
{
    const struct superblock *super = &checking->result->super;
    uint64_t newest =
        super->generation_count ? super->generations[super->generation_count - 1].number : 0;
    uint64_t at = (uint64_t)checking->in_force * FRAME_BYTES +
                  __builtin_offsetof(struct superblock, log.generation);

    if (super->log.generation == newest)
        return;
    checking->result->log_is_damaged = true;
    check_tell(checking, LG_FOLLOWS, SEVERITY_DAMAGE, place_at(at), "the newest generation", "%lu",
               super->log.generation);
}

/* Most of what makes a record the next one is in this header: it was meant to be. */
static bool is_meant(const struct reading_log *log, const struct log_record *header)
{
    bool follows = header->session == log->session || header->previous == log->checksum;

    return (header->magic == LOG_MAGIC) + (header->sequence == log->sequence + 1) +
               (header->sequence != 0 && follows) >=
           2;
}

static bool is_torn_at(struct reading_log *log, struct spot spot)
{
    struct log_record header;

    return spot.at + sizeof header <= extent_bytes(log, spot.extent) &&
           read_bytes(log, spot, &header, sizeof header) == 0 && is_meant(log, &header);
}

/* Where the log ends: what a power cut has left of the record that was being written. */
static void look_for_torn(struct reading_log *log)
{
    struct spot spot = {log->extent, log->used};
    bool found = is_torn_at(log, spot);

    for (uint32_t i = 0; !found && i < log->place->extent_count; i++)
        if (!(log->busy >> i & 1)) {
            spot = (struct spot){i, 0};
            found = is_torn_at(log, spot);
        }
    if (found)
        check_tell(log->checking, LG_TORN, SEVERITY_HARMLESS, place_at(offset_of(log, spot)),
                   "a whole record, or none", "a torn one, behind record %lu", log->sequence);
}

static int check_records_follow(struct checking *checking)
{
    struct reading_log log = begin_log(checking);
    struct log_record *record;
    struct spot later;

    while ((record = next_record(&log)) != NULL)
        free(record);
    checking->result->log_records = log.sequence - log.place->sequence;
    checking->result->log_bytes = log.bytes;
    checking->result->checked_bytes += log.bytes;
    if (log.status < 0 || checking->result->is_in_use)
        return log.status;
    if (!find_later(&log, &later)) { /* what is torn in the middle is no end */
        look_for_torn(&log);
        return log.status;
    }
    checking->result->log_is_damaged = true;
    check_tell(
        checking, LG_BREAKS, SEVERITY_DAMAGE,
        place_of(log.place->generation, offset_of(&log, (struct spot){log.extent, log.used}), 0),
        "as many records as were durable", "no record %lu; one at offset %lu knows of more",
        log.sequence + 1, offset_of(&log, later));
    return log.status;
}

/* Who writes a superblock without a log gives it a format without one. */
static void check_that_none_is_missing(struct checking *checking)
{
    if (checking->result->super.format_version <= POOL_FORMAT_NO_LOG)
        return;
    checking->result->log_is_damaged = true;
    check_tell(checking, LG_FOLLOWS, SEVERITY_DAMAGE,
               place_at((uint64_t)checking->in_force * FRAME_BYTES +
                        __builtin_offsetof(struct superblock, log)),
               "a log, in a pool of this format", "none");
}

int check_log(struct checking *checking)
{
    int status = 0;

    if (checking->in_force < 0)
        return 0;
    if (checking->result->super.log.extent_count == 0) {
        check_that_none_is_missing(checking);
        return 0;
    }
    check_what_it_follows(checking);
    status = claim_frames(checking);
    if (status == 0 && !checking->result->log_is_damaged)
        status = check_records_follow(checking);
    if (status < 0)
        return problem_set(checking->why, status, "no memory to check the log of '%s'",
                           checking->request->path);
    return 0;
}
