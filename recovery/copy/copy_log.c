/*
 * copy_log.c - the log of an opened heap in a new file: the records that are whole, one run of
 * frames, zeroes behind them.
 *
 * A record's checksum covers the pool's uuid, and the next record names it: in a copy with another
 * identity all of them are sealed again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/pool/pool_log.h"
#include "core/tx/log.h"
#include "recovery/copy/copying.h"

struct appending {
    struct copying *copying;
    uint8_t frame[FRAME_BYTES]; /* being filled */
    uint64_t bytes;             /* of the log so far */
    uint64_t previous;
};

static int append(struct appending *to, const void *data, uint64_t bytes)
{
    const uint8_t *from = data;
    int status = 0;

    while (status == 0 && bytes > 0) {
        uint64_t at = to->bytes % FRAME_BYTES, where;
        uint64_t part = FRAME_BYTES - at < bytes ? FRAME_BYTES - at : bytes;

        memcpy(to->frame + at, from, part);
        to->bytes += part;
        from += part;
        bytes -= part;
        if (to->bytes % FRAME_BYTES == 0)
            status = output_append(&to->copying->output, to->frame, &where);
    }
    return status;
}

static int append_zeroes(struct appending *to, uint64_t end)
{
    static const uint8_t zeroes[FRAME_BYTES];
    int status = 0;

    while (status == 0 && to->bytes < end) {
        uint64_t left = end - to->bytes;

        status = append(to, zeroes, left < FRAME_BYTES ? left : FRAME_BYTES);
    }
    return status;
}

static int append_record(struct appending *to, const struct log_record *record)
{
    struct log_record *sealed = malloc(record->bytes);
    int status;

    if (sealed == NULL)
        return -ENOMEM;
    memcpy(sealed, record, record->bytes);
    sealed->previous = to->previous;
    memcpy(&sealed->checksum, to->copying->super.uuid, sizeof sealed->checksum);
    to->previous = sealed->checksum = checksum64(sealed, sealed->bytes);
    status = append(to, sealed, sealed->bytes);
    free(sealed);
    if (status == 0)
        status = append_zeroes(to, (to->bytes + LOG_RECORD_ALIGN - 1) &
                                       ~(uint64_t)(LOG_RECORD_ALIGN - 1));
    return status;
}

static int append_records(struct appending *to)
{
    uintptr_t mark = arena_mark(&to->copying->arena);
    const struct log_record *record;
    struct log log;
    int status;

    log_begin(&log, to->copying->request->pool);
    while ((status = log_next(&log, &to->copying->arena, &record)) == 1) {
        status = append_record(to, record);
        arena_rewind(&to->copying->arena, mark);
        if (status < 0)
            return status;
    }
    return status;
}

int copy_log(struct copying *copying)
{
    struct log_place *place = &copying->super.log;
    struct appending *to;
    uint64_t bytes = POOL_LOG_BYTES;
    int status = -ENOMEM;

    if (place->extent_count == 0)
        return 0;
    to = calloc(1, sizeof *to);
    memset(place->extents, 0, sizeof place->extents);
    place->extent_count = 1;
    place->extents[0].frame = copying->output.next_frame;
    if (to != NULL) {
        to->copying = copying;
        to->previous = place->nonce;
        status = append_records(to);
        while (bytes < to->bytes + FRAME_BYTES)
            bytes *= 2;
        if (status == 0)
            status = append_zeroes(to, bytes);
    }
    place->extents[0].frames = bytes >> FRAME_SHIFT;
    free(to);
    return status;
}
