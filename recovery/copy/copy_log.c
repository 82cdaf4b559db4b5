/*
 * copy_log.c - the log of an opened heap in a new file: the records that are whole, one run of
 * frames, zeroes behind them.
 *
 * A record's checksum covers the pool's uuid, and the next session names it: in a copy with another
 * identity all of them are sealed again. Lanes are gone: their records stand among the others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/pool/pool_log.h"
#include "core/tx/log.h"
#include "core/tx/log_cursor.h"
#include "recovery/copy/copying.h"

struct appending {
    struct copying *copying;
    uint8_t frame[FRAME_BYTES]; /* being filled */
    uint64_t bytes;             /* of the log so far */
    struct log_rewriting rewriting;
    int64_t promises; /* that are not settled */
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
    log_rewrite(&to->rewriting, sealed);
    status = append(to, sealed, sealed->bytes);
    free(sealed);
    return status;
}

/* A heap that waits for another pool's decision is known to that one by its uuid. */
static void count_promises(struct appending *to, const struct log_record *record)
{
    const struct log_entry *entry;
    struct log_cursor cursor;

    log_cursor_begin(&cursor, record);
    entry = log_cursor_next(&cursor);
    if (entry != NULL && entry->kind == LOG_PREPARE)
        to->promises++;
    if (entry != NULL && entry->kind == LOG_OUTCOME)
        to->promises--;
}

static int append_records(struct appending *to)
{
    uintptr_t mark = arena_mark(&to->copying->arena);
    const struct log_record *record;
    struct log log;
    int status = 0;

    log_begin(&log, to->copying->request->pool);
    while (log.records < to->rewriting.records &&
           (status = log_next(&log, &to->copying->arena, &record)) == 1) {
        count_promises(to, record);
        status = append_record(to, record);
        arena_rewind(&to->copying->arena, mark);
        if (status < 0)
            return status;
    }
    if (status >= 0 && to->promises > 0 && to->copying->request->new_identity)
        return problem_set(to->copying->why, STATUS_IN_DOUBT,
                           "pool '%s' waits for another pool's decision on %ld transactions, which "
                           "knows it by its identity: open it, or settle them with `pheap recover "
                           "--resolve`, and copy it then",
                           to->copying->request->pool->path, (long)to->promises);
    return status < 0 ? status : 0;
}

static bool has_generation(const struct superblock *super, uint64_t number)
{
    for (uint32_t i = 0; i < super->generation_count; i++)
        if (super->generations[i].number == number)
            return true;
    return false;
}

int copy_log(struct copying *copying)
{
    struct log_place *place = &copying->super.log;
    struct appending *to;
    uint64_t bytes = POOL_LOG_BYTES;
    int status = -ENOMEM;

    if (place->extent_count == 0 || !has_generation(&copying->super, place->generation)) {
        *place = (struct log_place){0};
        return 0;
    }
    to = calloc(1, sizeof *to);
    memset(place->extents, 0, sizeof place->extents);
    place->extent_count = 1;
    place->start_extent = 0;
    place->start = 0;
    place->extents[0].frame = copying->output.next_frame;
    if (to != NULL) {
        to->copying = copying;
        status = log_rewriting_begin(&to->rewriting, copying->request->pool, UINT64_MAX,
                                     &copying->arena);
        place->sequence = to->rewriting.sequence;
        memcpy(&to->rewriting.uuid, copying->super.uuid, sizeof to->rewriting.uuid);
        if (status == 0)
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
