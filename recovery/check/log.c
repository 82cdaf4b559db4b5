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

/* Where a record may lie. */
struct spot {
    uint32_t extent;
    uint64_t at;
};

struct log_check {
    struct checking *checking;
    const struct log_place *place;
    struct spot end;   /* behind the record that was read last */
    uint32_t busy;     /* bits of extents with records of this log */
    uint64_t sequence; /* of that record, */
    uint64_t session;  /* its session; 0 before the first */
    uint64_t checksum; /* and its checksum, or the root */
};

static uint64_t extent_bytes(const struct log_check *check, uint32_t extent)
{
    return check->place->extents[extent].frames << FRAME_SHIFT;
}

static uint64_t offset_of(const struct log_check *check, struct spot spot)
{
    return (check->place->extents[spot.extent].frame << FRAME_SHIFT) + spot.at;
}

static void tell(const struct log_check *check, enum finding_kind kind, enum severity severity,
                 struct spot spot, const char *expected, const char *found)
{
    check_tell(check->checking, kind, severity,
               place_of(check->place->generation, offset_of(check, spot), 0), expected,
               "%s, after record %lu", found, check->sequence);
}

static bool fits(const struct log_check *check, struct spot spot, const struct log_record *record)
{
    return record->magic == LOG_MAGIC && record->bytes >= sizeof *record &&
           record->bytes % LOG_ALIGN == 0 &&
           record->bytes <= extent_bytes(check, spot.extent) - spot.at;
}

/* 1: whole, 0: not. */
static int is_whole(const struct log_check *check, struct spot spot,
                    const struct log_record *header)
{
    struct log_record *record = malloc(header->bytes);
    int status = record ? check_read(check->checking, record, header->bytes, offset_of(check, spot))
                        : -ENOMEM;

    if (status == 0) {
        memcpy(&record->checksum, check->checking->result->super.uuid, sizeof record->checksum);
        status = checksum64(record, record->bytes) == header->checksum;
    }
    free(record);
    return status == -EIO ? 0 : status;
}

static bool follows(const struct log_check *check, const struct log_record *header)
{
    return header->session == check->session || header->previous == check->checksum;
}

/* Was meant to be the next one: most of what says so is there. */
static bool is_meant(const struct log_check *check, const struct log_record *header)
{
    return (header->magic == LOG_MAGIC) + (header->sequence == check->sequence + 1) +
               (header->sequence != 0 && follows(check, header)) >=
           2;
}

/* 1: the next record is here. */
static int try_spot(struct log_check *check, struct spot spot)
{
    struct log_record header;
    int status;

    if (spot.at + sizeof header > extent_bytes(check, spot.extent))
        return 0;
    status = check_read(check->checking, &header, sizeof header, offset_of(check, spot));
    if (status < 0) {
        tell(check, LG_BROKEN, SEVERITY_DAMAGE, spot, "a readable log", status_text(status));
        return status == -EIO ? 0 : status;
    }
    if (fits(check, spot, &header) && header.sequence == check->sequence + 1 &&
        follows(check, &header))
        status = is_whole(check, spot, &header);
    if (status == 0 && is_meant(check, &header))
        tell(check, LG_TORN, SEVERITY_HARMLESS, spot, "a whole record, or none", "a torn one");
    if (status != 1)
        return status;
    check->end = (struct spot){spot.extent, spot.at + header.bytes};
    check->busy |= 1u << spot.extent;
    check->sequence = header.sequence;
    check->session = header.session;
    check->checksum = header.checksum;
    check->checking->result->checked_bytes += header.bytes;
    return 1;
}

/* 1: there was another one, 0: here the log ends. */
static int next(struct log_check *check)
{
    int status = try_spot(check, check->end);

    for (uint32_t i = 0; status == 0 && i < check->place->extent_count; i++)
        if (!(check->busy >> i & 1))
            status = try_spot(check, (struct spot){i, 0});
    return status;
}

/* 1: a whole record here says that the log was longer once. */
static int is_later(const struct log_check *check, struct spot spot,
                    const struct log_record *header)
{
    if (!fits(check, spot, header) || header->durable <= check->sequence)
        return 0;
    return is_whole(check, spot, header);
}

static int extent_has_later(struct log_check *check, uint32_t extent, uint8_t *piece)
{
    uint64_t end = extent_bytes(check, extent);
    int status = 0;

    for (struct spot at = {extent, 0}; status == 0 && at.at < end; at.at += PIECE_BYTES) {
        uint64_t bytes = end - at.at < PIECE_BYTES ? end - at.at : PIECE_BYTES;

        status = check_read(check->checking, piece, bytes, offset_of(check, at));
        for (uint64_t i = 0; status == 0 && i < bytes; i += LOG_ALIGN) {
            struct spot spot = {extent, at.at + i};

            status = is_later(check, spot, (const struct log_record *)(piece + i));
            if (status == 1)
                tell(check, LG_BROKEN, SEVERITY_DAMAGE, spot, "no record that knows of later ones",
                     "one");
        }
    }
    return status == -EIO ? 0 : status;
}

static int check_records_of(struct log_check *check)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    int status = piece ? 1 : -ENOMEM;

    while (status == 1)
        status = next(check);
    for (uint32_t i = 0; status == 0 && i < check->place->extent_count; i++)
        status = extent_has_later(check, i, piece);
    free(piece);
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
    const struct log_place *place = &super->log;
    struct log_check check = {.checking = checking,
                              .place = place,
                              .end = {place->start_extent, place->start},
                              .busy = 1u << (place->start_extent & 31),
                              .sequence = place->sequence,
                              .checksum = place->root};
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
    if (is_in_file(&check) && has_its_own_frames(&check) && follows_the_newest(&check, super))
        status = check_records_of(&check);
    if (status < 0)
        return problem_set(checking->why, status, "cannot check the log of '%s': %s",
                           checking->request->path, status_text(status));
    return 0;
}
