/*
 * log.c - the log of an opened heap: its place, its frames, its records.
 *
 * The log ends before the first record that is not whole. No crash leaves a whole record of this
 * generation's log, or of a later one's, behind that; if there is one, the log has been damaged.
 * Beside a writer neither is looked for: what is read meanwhile may be of two moments.
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
    uint64_t capacity, used; /* bytes */
    uint64_t sequence, previous;
    int status;
};

/* --- bytes --- */

/* The superblock step has seen that extents lie in the pool; the file may be shorter. */
static int read_bytes(const struct reading_log *log, uint64_t at, void *buffer, uint64_t bytes)
{
    const struct log_extent *extent = log->place->extents;
    uint8_t *out = buffer;

    while (bytes > 0) {
        uint64_t room, part;

        for (; at >= extent->frames << FRAME_SHIFT; extent++)
            at -= extent->frames << FRAME_SHIFT;
        room = (extent->frames << FRAME_SHIFT) - at;
        part = bytes < room ? bytes : room;
        if (check_read(log->checking, out, part, (extent->frame << FRAME_SHIFT) + at) < 0)
            return -EIO;
        out += part;
        at += part;
        bytes -= part;
    }
    return 0;
}

static uint64_t offset_in_file(const struct reading_log *log, uint64_t at)
{
    for (uint32_t i = 0; i < log->place->extent_count; i++) {
        const struct log_extent *extent = &log->place->extents[i];

        if (at < extent->frames << FRAME_SHIFT)
            return (extent->frame << FRAME_SHIFT) + at;
        at -= extent->frames << FRAME_SHIFT;
    }
    return PLACE_UNKNOWN;
}

static struct reading_log begin_log(struct checking *checking)
{
    const struct log_place *place = &checking->result->super.log;
    struct reading_log log = {.checking = checking, .place = place, .previous = place->nonce};

    for (uint32_t i = 0; i < place->extent_count; i++)
        log.capacity += place->extents[i].frames << FRAME_SHIFT;
    return log;
}

/* --- records --- */

static bool has_checksum(const struct checking *checking, struct log_record *record)
{
    uint64_t expected = record->checksum, found;

    memcpy(&record->checksum, checking->result->super.uuid, sizeof record->checksum);
    found = checksum64(record, record->bytes);
    record->checksum = expected;
    return found == expected;
}

/* A record whose bytes lie in the log and agree with its checksum, to be freed; or NULL. */
static struct log_record *read_record(struct reading_log *log, uint64_t at,
                                      const struct log_record *header)
{
    struct log_record *record;

    if (header->magic != LOG_MAGIC || header->bytes < sizeof *header || header->bytes % 8 != 0 ||
        header->bytes > log->capacity - at)
        return NULL;
    record = malloc(header->bytes);
    if (record == NULL) {
        log->status = -ENOMEM;
        return NULL;
    }
    if (read_bytes(log, at, record, header->bytes) == 0 && record->bytes == header->bytes &&
        has_checksum(log->checking, record))
        return record;
    free(record);
    return NULL;
}

/* To be freed; NULL: the log ends here. */
static struct log_record *next_record(struct reading_log *log)
{
    struct log_record header, *record;

    if (log->capacity - log->used < sizeof header ||
        read_bytes(log, log->used, &header, sizeof header) < 0 ||
        header.sequence != log->sequence + 1 || header.previous != log->previous ||
        header.generation != log->place->generation)
        return NULL;
    record = read_record(log, log->used, &header);
    if (record == NULL)
        return NULL;
    log->used += (record->bytes + LOG_RECORD_ALIGN - 1) & ~(uint64_t)(LOG_RECORD_ALIGN - 1);
    log->sequence = record->sequence;
    log->previous = record->checksum;
    return record;
}

static bool is_later(struct reading_log *log, uint64_t at, const struct log_record *header)
{
    struct log_record *record;

    if (header->magic != LOG_MAGIC || header->generation < log->place->generation ||
        (header->generation == log->place->generation && header->sequence <= log->sequence))
        return false;
    record = read_record(log, at, header);
    free(record);
    return record != NULL;
}

/* Behind the log's end: where the first record begins that should not be there, or the capacity. */
static uint64_t find_later(struct reading_log *log)
{
    struct log_record piece[PIECE_BYTES / sizeof(struct log_record)];

    for (uint64_t at = log->used; at < log->capacity; at += PIECE_BYTES) {
        uint64_t left = log->capacity - at, bytes = left < PIECE_BYTES ? left : PIECE_BYTES;

        if (read_bytes(log, at, piece, bytes) < 0)
            continue;
        for (uint64_t i = 0; i < bytes / sizeof piece[0]; i++)
            if (is_later(log, at + i * sizeof piece[0], &piece[i]))
                return at + i * sizeof piece[0];
    }
    return log->capacity;
}

/* --- entries --- */

/* False: it reaches beyond its record. */
static bool pass_entry(const uint8_t **at, uint64_t *left, const struct log_entry **entry)
{
    uint64_t bytes = sizeof **entry;

    *entry = (const struct log_entry *)*at;
    if (*left < bytes)
        return false;
    if ((*entry)->kind == LOG_WRITE) {
        if ((*entry)->bytes > *left - bytes)
            return false;
        bytes += ((*entry)->bytes + 7) & ~7ull;
    }
    if (bytes > *left)
        return false;
    *at += bytes;
    *left -= bytes;
    return true;
}

static void tell_entry(const struct reading_log *log, uint64_t record_at, uint64_t number,
                       uint64_t address, const char *expected)
{
    struct place place = place_of(log->place->generation, offset_in_file(log, record_at), address);

    check_tell(log->checking, LG_ENTRY, SEVERITY_DAMAGE, place, expected, "entry %lu of record %lu",
               number, log->sequence);
    log->checking->result->log_is_damaged = true;
}

/* False: one of them makes no sense, and so neither does what follows. */
static bool apply_record(struct reading_log *log, struct opened_model *model,
                         const struct log_record *record, uint64_t record_at)
{
    const uint8_t *at = (const uint8_t *)(record + 1);
    uint64_t left = record->bytes - sizeof *record;

    for (uint64_t i = 0; i < record->entry_count; i++) {
        const struct log_entry *entry;
        const char *expected;

        if (!pass_entry(&at, &left, &entry)) {
            tell_entry(log, record_at, i, 0, "entries within their record");
            return false;
        }
        expected = model_apply(model, entry);
        if (expected != NULL) {
            tell_entry(log, record_at, i, entry->address, expected);
            return false;
        }
    }
    return true;
}

int check_log_entries(struct opened_model *model)
{
    struct reading_log log = begin_log(model->view->checking);
    struct log_record *record;
    bool goes_on = true;

    while (goes_on) {
        uint64_t at = log.used;

        record = next_record(&log);
        goes_on = record != NULL && apply_record(&log, model, record, at);
        free(record);
    }
    return log.status;
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

static int check_records_follow(struct checking *checking)
{
    struct reading_log log = begin_log(checking);
    struct log_record *record;
    uint64_t later;

    while ((record = next_record(&log)) != NULL)
        free(record);
    checking->result->log_records = log.sequence;
    checking->result->log_bytes = log.used;
    checking->result->checked_bytes += log.used;
    if (log.status < 0 || checking->result->is_in_use)
        return log.status;
    later = find_later(&log);
    if (later < log.capacity) {
        checking->result->log_is_damaged = true;
        check_tell(checking, LG_BREAKS, SEVERITY_DAMAGE,
                   place_of(log.place->generation, offset_in_file(&log, log.used), 0),
                   "records without a gap", "record %lu missing, a whole one at offset %lu",
                   log.sequence + 1, offset_in_file(&log, later));
    }
    return log.status;
}

int check_log(struct checking *checking)
{
    int status = 0;

    if (checking->in_force < 0 || checking->result->super.log.extent_count == 0)
        return 0;
    check_what_it_follows(checking);
    status = claim_frames(checking);
    if (status == 0 && !checking->result->log_is_damaged)
        status = check_records_follow(checking);
    if (status < 0)
        return problem_set(checking->why, status, "no memory to check the log of '%s'",
                           checking->request->path);
    return 0;
}
