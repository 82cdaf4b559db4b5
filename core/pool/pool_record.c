/*
 * pool_record.c - see pool_record.h.
 *
 * Always true: the reserve is building frames that nothing refers to; it is in memory only.
 */
#include "core/pool/pool_record.h"

#include "core/base/checksum.h"
#include "core/pool/frame.h"

static uint64_t frames_for(uint64_t bytes)
{
    return (bytes + FRAME_BYTES - 1) / FRAME_BYTES;
}

void pool_record_reserve(struct pool *pool, uint64_t record_bytes)
{
    uint64_t frames = frames_for(record_bytes), got;

    if (pool->reserve_frames > 0 || frames < 2) /* one frame is always easy to find */
        return;
    if (frames_take(pool->frames, frames + frames / 4, true, &pool->reserve_first, &got) == 0 ||
        frames_take(pool->frames, frames, true, &pool->reserve_first, &got) == 0)
        pool->reserve_frames = got;
}

/* All of the reserve but its first `keep` frames are free again. */
static int release_reserve(struct pool *pool, uint64_t keep)
{
    int status = 0;

    for (uint64_t i = keep; status == 0 && i < pool->reserve_frames; i++)
        status = frames_release(pool->frames, pool->reserve_first + i);
    pool->reserve_frames = 0;
    return status;
}

static int take(struct pool *pool, uint64_t frames, uint64_t *first)
{
    uint64_t got;
    int status;

    if (pool->reserve_frames >= frames) {
        *first = pool->reserve_first;
        return release_reserve(pool, frames);
    }
    status = release_reserve(pool, 0);
    return status < 0 ? status : frames_take(pool->frames, frames, true, first, &got);
}

int pool_record_write(struct pool *pool, struct generation_entry *entry, const void *record,
                      size_t record_bytes, uint64_t *frames)
{
    int status;

    *frames = 0;
    entry->record_frame = FRAME_NONE;
    entry->record_bytes = record_bytes;
    entry->record_checksum = 0;
    if (record_bytes == 0)
        return 0;
    status = take(pool, frames_for(record_bytes), &entry->record_frame);
    if (status < 0)
        return status;
    *frames = frames_for(record_bytes);
    entry->record_checksum = checksum64(record, record_bytes);
    status =
        persist_write(&pool->persist, entry->record_frame << FRAME_SHIFT, record, record_bytes);
    if (status == 0)
        pool->building_bytes += record_bytes;
    return status;
}
