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
#include "core/base/id_tree.h"
#include "recovery/check/reading_log.h"

/* --- entries --- */

struct promised { /* a record that counts when its outcome says so */
    struct id_node node;
    struct promised *next;
    struct log_record *record; /* NULL: it has its outcome */
};

struct applying {
    struct reading_log log;
    struct opened_model *model;
    struct promised *promised; /* all, */
    struct id_node *by_id;     /* by their transactions' numbers */
    uint64_t number;           /* of the entry at hand */
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

static bool has_terms(const struct log_entry *entry)
{
    const struct log_promise *terms = (const struct log_promise *)(entry + 1);

    return entry->bytes > sizeof *terms &&
           memchr(terms->path, 0, entry->bytes - sizeof *terms) != NULL;
}

/* NULL: no memory. */
static struct promised *promised_by(struct applying *to, uint64_t id)
{
    struct id_node **place = id_tree_place(&to->by_id, id);
    struct promised *promised = (struct promised *)*place;

    if (promised == NULL)
        promised = calloc(1, sizeof *promised);
    if (promised == NULL || *place != NULL)
        return promised;
    promised->node.id = id;
    promised->next = to->promised;
    to->promised = promised;
    *place = &promised->node;
    return promised;
}

/* Takes the record over. */
static void promise(struct applying *to, struct log_record *record, const struct log_entry *entry)
{
    struct promised *promised = promised_by(to, entry->address);

    if (promised == NULL)
        to->log.status = -ENOMEM;
    else if (promised->record != NULL || !has_terms(entry))
        to->expected = "a promise of its own";
    else
        promised->record = record;
    if (promised == NULL || promised->record != record)
        free(record);
}

static void settle(struct applying *to, const struct log_entry *entry)
{
    struct promised *promised = (struct promised *)*id_tree_place(&to->by_id, entry->address);
    struct log_cursor cursor;

    if (promised == NULL || promised->record == NULL ||
        (entry->type != LOG_COMMITTED && entry->type != LOG_UNDONE)) {
        to->expected = "the outcome of what was promised";
        return;
    }
    log_cursor_begin(&cursor, promised->record);
    (void)log_cursor_next(&cursor);
    if (entry->type == LOG_COMMITTED)
        (void)is_applied(to, &cursor);
    free(promised->record);
    promised->record = NULL;
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
               place_of(to->log.place->generation, reading_log_offset(&to->log, spot), 0),
               to->expected, "entry %lu of record %lu", to->number,
               reading_log_last(&to->log)->sequence);
    result->log_is_damaged = true;
    result->log_records = to->log.passed - 1;
    result->log_bytes = to->log.bytes - record_bytes;
}

int check_log_entries(struct opened_model *model)
{
    struct applying to = {.log = reading_log_begin(model->view->checking), .model = model};
    struct log_record *record;

    while (to.expected == NULL && (record = reading_log_next(&to.log)) != NULL) {
        struct spot spot = reading_log_last(&to.log)->spot;
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
    reading_log_end(&to.log);
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

/* The same in a lane. */
static bool is_torn_in(struct reading_log *log, const struct log_lane_end *lane)
{
    struct log_record header;

    return lane->left >= sizeof header &&
           reading_log_bytes(log, lane->spot, &header, sizeof header) == 0 &&
           (header.magic == LOG_LANE_MAGIC) + (header.session == lane->session) +
                   (header.sequence == lane->sequence + 1) >=
               2;
}

static bool is_torn_at(struct reading_log *log, struct spot spot)
{
    struct log_record header;

    return spot.at + sizeof header <= reading_log_extent_bytes(log, spot.extent) &&
           reading_log_bytes(log, spot, &header, sizeof header) == 0 && is_meant(log, &header);
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
    for (uint64_t i = 0; !found && i < log->lane_count; i++) {
        spot = log->lanes[i].spot;
        found = is_torn_in(log, &log->lanes[i]);
    }
    if (found)
        check_tell(log->checking, LG_TORN, SEVERITY_HARMLESS,
                   place_at(reading_log_offset(log, spot)), "a whole record, or none",
                   "a torn one, behind record %lu", log->sequence);
}

/* After a crash there is not so much of it: a program has stored it, or an enemy. */
static void tell_of_what_looks_like_records(struct reading_log *log, struct place end)
{
    check_tell(
        log->checking, LG_LOOKALIKES, SEVERITY_HARMLESS, end, "whole records, or none",
        "more than 32 times the log's length of what looks like them: not all of it was read");
}

static void check_that_it_ends(struct reading_log *log)
{
    struct place end = place_of(log->place->generation,
                                reading_log_offset(log, (struct spot){log->extent, log->used}), 0);
    bool *is_damaged = &log->checking->result->log_is_damaged;
    struct spot later;

    *is_damaged = true;
    if (reading_log_find_later(log, &later)) {
        check_tell(log->checking, LG_BREAKS, SEVERITY_DAMAGE, end,
                   "as many records as were durable",
                   "no record %lu; one at offset %lu knows of more", log->sequence + 1,
                   reading_log_offset(log, later));
    } else if (log->breaks_off) {
        check_tell(log->checking, LG_BREAKS, SEVERITY_DAMAGE, end,
                   "as many records as were durable", "a lane that has not got all of its own");
    } else { /* what is torn in the middle is no end */
        *is_damaged = false;
        if (log->gave_up)
            tell_of_what_looks_like_records(log, end);
        else
            look_for_torn(log);
    }
    log->checking->result->log_records = reading_log_count_whole(log);
}

static int check_records_follow(struct checking *checking)
{
    struct reading_log log = reading_log_begin(checking);
    struct log_record *record;

    while ((record = reading_log_next(&log)) != NULL)
        free(record);
    checking->result->log_records = log.passed;
    checking->result->log_bytes = log.bytes;
    checking->result->checked_bytes += log.bytes;
    if (log.status == 0 && !checking->result->is_in_use)
        check_that_it_ends(&log);
    reading_log_end(&log);
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

_Static_assert(__builtin_offsetof(struct promised, node) == 0, "it is found by its node");
