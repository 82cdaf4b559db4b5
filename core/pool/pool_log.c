/*
 * pool_log.c - see pool.h and pool_log.h.
 *
 * What must always be true: a superblock lists frames of the log only when the file's length that
 * they need is durable; a frame that was given to the log is never released.
 */
#include "core/pool/pool_log.h"

#include <string.h>
#include "core/base/sys.h"

#define PIECE_BYTES (64u << 10)

int pool_note_log(struct pool *pool, uint64_t oldest)
{
    const struct log_place *log = &pool->super.log;
    int status = 0;

    for (uint32_t i = 0; i < log->extent_count; i++) {
        const struct log_extent *extent = &log->extents[i];

        for (uint64_t k = 0; status == 0 && k < extent->frames; k++) {
            status = frames_note_first(pool->frames, extent->frame + k, oldest);
            if (status == 0)
                status = frames_note_last(pool->frames, extent->frame + k, 0);
        }
    }
    return status == 1 ? STATUS_DAMAGED : status;
}

int pool_add_log_extent(struct pool *pool, uint64_t frames, struct problem *why)
{
    struct log_place *log = &pool->next_log;
    struct log_extent extent;
    int status = STATUS_LIMIT;

    if (log->extent_count < LOG_EXTENTS)
        status = frames_take(pool->frames, frames, true, &extent.frame, &extent.frames);
    if (status == 0)
        status = persist_sync(&pool->persist);
    if (status < 0)
        return problem_set(why, status, "cannot give the log of pool '%s' %lu frames more: %s",
                           pool->path, frames, status_text(status));
    log->extents[log->extent_count++] = extent;
    return 0;
}

static void list_log(struct superblock *super, void *context)
{
    const struct pool *pool = context;

    super->log.extent_count = pool->next_log.extent_count;
    memcpy(super->log.extents, pool->next_log.extents, sizeof super->log.extents);
    super->frame_count = pool->persist.file_bytes >> FRAME_SHIFT;
}

int pool_list_log(struct pool *pool, struct problem *why)
{
    int status = pool_update(pool, list_log, pool, why);

    if (status == 0)
        pool->file_frames = pool->super.frame_count;
    return status;
}

/* --- another log in its place --- */

/* Not guessed from the one before: what that one's frames hold must never count again. */
static uint64_t new_root(void)
{
    uint64_t root = 0;

    if (sys_call(SYS_getrandom, &root, sizeof root, 0) != sizeof root || root == 0)
        root = sys_clock_ns(CLOCK_REALTIME) * 0x9e3779b97f4a7c15ull | 1;
    return root;
}

/* The records, and zeroes behind them. */
static int fill_extent(struct pool *pool, uint64_t offset, uint64_t bytes,
                       const struct pool_new_log *from)
{
    uint8_t piece[PIECE_BYTES];
    int status = 0;

    for (uint64_t at = 0; status == 0 && at < bytes; at += PIECE_BYTES) {
        uint64_t have = at < from->bytes ? from->bytes - at : 0;

        memset(piece, 0, sizeof piece);
        if (have > 0)
            memcpy(piece, (const uint8_t *)from->records + at,
                   have < PIECE_BYTES ? have : PIECE_BYTES);
        status = persist_write(&pool->persist, offset + at, piece, sizeof piece);
    }
    return status;
}

int pool_make_log(struct pool *pool, uint64_t generation, const struct pool_new_log *from,
                  struct log_place *place, struct problem *why)
{
    uint64_t first = pool->persist.file_bytes >> FRAME_SHIFT;
    uint64_t bytes = POOL_LOG_BYTES;
    int status;

    while (bytes < from->bytes + PIECE_BYTES)
        bytes *= 2;
    *place = (struct log_place){.generation = generation,
                                .root = from->bytes ? pool->super.log.root : new_root(),
                                .sequence = from->bytes ? from->sequence : 0,
                                .extent_count = 1,
                                .extents[0] = {first, bytes >> FRAME_SHIFT}};
    status = persist_grow(&pool->persist, (first << FRAME_SHIFT) + bytes);
    if (status == 0)
        status = fill_extent(pool, first << FRAME_SHIFT, bytes, from);
    if (status == 0)
        status = persist_sync(&pool->persist);
    if (status < 0)
        return problem_set(why, status, "cannot make a new log for pool '%s': %s", pool->path,
                           status_text(status));
    return 0;
}
