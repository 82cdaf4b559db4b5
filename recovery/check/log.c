/*
 * log.c - the redo log of an opened heap: where it lies, that it follows the newest generation, and
 * its records, one after the other, up to where it ends.
 *
 * A log ends where the next record would begin and none is whole. That may be the end of what was
 * written, or a record that a power cut has torn, which nobody was told of: harmless. But a record
 * is written when the one before is durable: with a whole one behind its end the log is damaged.
 * What is not a record means nothing.
 *
 * A log that a program writes to meanwhile is not looked at.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/tx/log_format.h"
#include "recovery/check/checking.h"

#define PIECE_BYTES (1u << 20)

struct log_check {
    struct checking *checking;
    const struct log_place *place;
    uint64_t capacity;
    uint64_t at;       /* what is before it has been read */
    uint64_t sequence; /* of the record before */
    uint64_t previous; /* its checksum, or the nonce */
};

/* Where in the file the log's byte at `at` lies; *run: how many follow it there. */
static uint64_t place_of_byte(const struct log_place *place, uint64_t at, uint64_t *run)
{
    const struct log_extent *extent = place->extents;

    while (at >= extent->frames << FRAME_SHIFT)
        at -= extent++->frames << FRAME_SHIFT;
    *run = (extent->frames << FRAME_SHIFT) - at;
    return (extent->frame << FRAME_SHIFT) + at;
}

/* The caller has looked that it is within the capacity. */
static int read_log(const struct log_check *check, uint64_t at, void *buffer, uint64_t bytes)
{
    uint8_t *out = buffer;
    int status = 0;

    while (status == 0 && bytes > 0) {
        uint64_t run, offset = place_of_byte(check->place, at, &run);

        run = run < bytes ? run : bytes;
        status = check_read(check->checking, out, run, offset);
        out += run;
        at += run;
        bytes -= run;
    }
    return status;
}

static void tell(const struct log_check *check, enum finding_kind kind, enum severity severity,
                 uint64_t at, const char *expected, const char *found)
{
    uint64_t run;

    check_tell(check->checking, kind, severity,
               place_of(check->place->generation, place_of_byte(check->place, at, &run), 0),
               expected, "%s, after record %lu", found, check->sequence);
}

static bool fits(const struct log_check *check, const struct log_record *record, uint64_t at)
{
    return record->magic == LOG_MAGIC && record->bytes >= sizeof *record &&
           record->bytes % 8 == 0 && record->bytes <= check->capacity - at;
}

/* 1: whole, 0: not. */
static int is_whole(const struct log_check *check, uint64_t at, const struct log_record *header)
{
    struct log_record *record = malloc(header->bytes);
    int status = record ? read_log(check, at, record, header->bytes) : -ENOMEM;

    if (status == 0) {
        memcpy(&record->checksum, check->checking->result->super.uuid, sizeof record->checksum);
        status = checksum64(record, record->bytes) == header->checksum;
    }
    free(record);
    return status == -EIO ? 0 : status;
}

static bool is_next(const struct log_check *check, const struct log_record *header)
{
    return fits(check, header, check->at) && header->sequence == check->sequence + 1 &&
           header->previous == check->previous && header->generation == check->place->generation;
}

/* Was meant to be the next one: only its place in this log's chain can say so. */
static bool is_meant(const struct log_check *check, const struct log_record *header)
{
    return header->previous == check->previous ||
           (header->magic == LOG_MAGIC && header->sequence == check->sequence + 1 &&
            header->generation == check->place->generation);
}

/* 1: there is another one, 0: here the log ends. */
static int next(struct log_check *check)
{
    struct log_record header;
    int status;

    if (check->capacity - check->at < sizeof header)
        return 0;
    status = read_log(check, check->at, &header, sizeof header);
    if (status == 0 && is_next(check, &header))
        status = is_whole(check, check->at, &header);
    if (status == 1) {
        check->at += (header.bytes + LOG_RECORD_ALIGN - 1) & ~(uint64_t)(LOG_RECORD_ALIGN - 1);
        check->at = check->at < check->capacity ? check->at : check->capacity;
        check->sequence = header.sequence;
        check->previous = header.checksum;
        check->checking->result->checked_bytes += header.bytes;
    } else if (status == 0 && is_meant(check, &header)) {
        tell(check, LG_TORN, SEVERITY_HARMLESS, check->at, "a whole record, or none", "a torn one");
    } else if (status == -EIO) {
        tell(check, LG_BROKEN, SEVERITY_DAMAGE, check->at, "a readable log", "none");
        status = 0;
    }
    return status;
}

static int is_later(const struct log_check *check, uint64_t at, const struct log_record *header)
{
    if (!fits(check, header, at) || header->generation < check->place->generation ||
        (header->generation == check->place->generation && header->sequence <= check->sequence))
        return 0;
    return is_whole(check, at, header);
}

/* 1: a whole record lies behind the log's end. */
static int has_later(const struct log_check *check, uint64_t *found)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    int status = piece ? 0 : -ENOMEM;

    for (uint64_t at = check->at; status == 0 && at < check->capacity; at += PIECE_BYTES) {
        uint64_t left = check->capacity - at, bytes = left < PIECE_BYTES ? left : PIECE_BYTES;

        status = read_log(check, at, piece, bytes);
        for (uint64_t i = 0; status == 0 && i < bytes; i += LOG_RECORD_ALIGN) {
            *found = at + i;
            status = is_later(check, at + i, (const struct log_record *)(piece + i));
        }
    }
    free(piece);
    return status == -EIO ? 0 : status;
}

static int check_records_of(struct log_check *check)
{
    uint64_t found = 0;
    int status;

    do
        status = next(check);
    while (status == 1);
    if (status == 0)
        status = has_later(check, &found);
    if (status == 1)
        tell(check, LG_BROKEN, SEVERITY_DAMAGE, found, "nothing behind the log's end",
             "a whole record");
    return status < 0 ? status : 0;
}

/* No frame of it is anything else's, its own other extents' included. */
static bool has_its_own_frames(struct log_check *check)
{
    const struct log_place *place = check->place;
    bool fine = true;

    for (uint32_t i = 0; i < place->extent_count; i++) {
        uint64_t first = place->extents[i].frame, end = first + place->extents[i].frames;

        for (uint32_t k = 0; k < i; k++)
            if (first < place->extents[k].frame + place->extents[k].frames &&
                place->extents[k].frame < end) {
                check_tell(check->checking, FR_TWICE, SEVERITY_DAMAGE,
                           place_at(first << FRAME_SHIFT), "the log, once", "twice");
                return false;
            }
        for (uint64_t frame = first; frame < end; frame++)
            if (frame_use_of(check->checking, frame) != NULL) {
                frame_is_bad(check->checking, frame);
                check_tell(check->checking, FR_TWICE, SEVERITY_DAMAGE,
                           place_at(frame << FRAME_SHIFT), "the log", "a generation's as well");
                fine = false;
            }
    }
    return fine;
}

/* The file may be shorter than its superblock says, and the log with it. */
static bool is_in_file(const struct log_check *check)
{
    const struct log_place *place = check->place;

    for (uint32_t i = 0; i < place->extent_count; i++)
        if (place->extents[i].frame + place->extents[i].frames > check->checking->frame_count) {
            check_tell(check->checking, FR_BEYOND, SEVERITY_DAMAGE,
                       place_at(place->extents[i].frame << FRAME_SHIFT),
                       "the log's frames, in the file", "a file of %lu frames",
                       check->checking->frame_count);
            return false;
        }
    return true;
}

static bool follows_the_newest(const struct log_check *check, const struct superblock *super)
{
    uint64_t newest =
        super->generation_count ? super->generations[super->generation_count - 1].number : 0;

    if (check->place->generation == newest)
        return true;
    check_tell(check->checking, LG_GENERATION, SEVERITY_DAMAGE,
               place_at(__builtin_offsetof(struct superblock, log)), "the newest generation's",
               "that of generation %lu", check->place->generation);
    return false;
}

int check_log(struct checking *checking)
{
    const struct superblock *super = &checking->result->super;
    struct log_check check = {
        .checking = checking, .place = &super->log, .previous = super->log.nonce};
    int status = 0;

    if (checking->in_force < 0 || checking->result->is_in_use)
        return 0;
    if (super->log.extent_count == 0) {
        if (super->format_version > POOL_FORMAT_NO_LOG)
            check_tell(checking, LG_GENERATION, SEVERITY_DAMAGE,
                       place_at(__builtin_offsetof(struct superblock, log)),
                       "a log, in a pool of this format", "none");
        return 0;
    }
    for (uint32_t i = 0; i < super->log.extent_count; i++)
        check.capacity += super->log.extents[i].frames << FRAME_SHIFT;
    if (is_in_file(&check) && has_its_own_frames(&check) && follows_the_newest(&check, super))
        status = check_records_of(&check);
    if (status < 0)
        return problem_set(checking->why, status, "cannot check the log of '%s': %s",
                           checking->request->path, status_text(status));
    return 0;
}
