/*
 * pool_log.c - see pool.h and pool_log.h.
 *
 * What must always be true: a superblock lists frames of the log only when the file's length that
 * they need is durable; a frame that was given to the log is never released.
 */
#include "core/pool/pool_log.h"

#include <string.h>

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
