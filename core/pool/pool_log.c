/*
 * pool_log.c - see pool.h and pool_log.h.
 *
 * What must always be true: a superblock lists frames of the log only when the file's length that
 * they need is durable; a frame that was given to the log is never released.
 */
#include "core/pool/pool_log.h"

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
    const struct log_place before = super->log;

    super->log = pool->next_log;
    super->log.generation = before.generation;
    super->log.nonce = before.nonce;
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
static uint64_t new_nonce(void)
{
    uint64_t nonce = 0;

    if (sys_call(SYS_getrandom, &nonce, sizeof nonce, 0) != sizeof nonce || nonce == 0)
        nonce = sys_clock_ns(CLOCK_REALTIME) * 0x9e3779b97f4a7c15ull | 1;
    return nonce;
}

/* Where in the file the log's byte at `at` lies, and in *run how many follow it there; 0: nowhere.
 */
static uint64_t place_in_file(const struct log_place *log, uint64_t at, uint64_t *run)
{
    for (uint32_t i = 0; i < log->extent_count; i++) {
        uint64_t bytes = log->extents[i].frames << FRAME_SHIFT;

        if (at < bytes) {
            *run = bytes - at;
            return (log->extents[i].frame << FRAME_SHIFT) + at;
        }
        at -= bytes;
    }
    *run = 0;
    return 0;
}

/* A piece of the new log: of the present one up to keep_bytes, then zeroes. */
static int write_piece(struct pool *pool, uint64_t at, uint64_t keep_bytes, uint64_t offset)
{
    uint8_t piece[PIECE_BYTES] = {0};
    uint64_t have = 0;
    int status = 0;

    while (status == 0 && have < sizeof piece && at + have < keep_bytes) {
        uint64_t run, from = place_in_file(&pool->super.log, at + have, &run);
        uint64_t left = keep_bytes - at - have;

        run = run < left ? run : left;
        run = run < sizeof piece - have ? run : sizeof piece - have;
        if (run == 0)
            return STATUS_DAMAGED;
        status = sys_pread_all(pool->fd, piece + have, run, from);
        have += run;
    }
    return status < 0 ? status : persist_write(&pool->persist, offset, piece, sizeof piece);
}

int pool_make_log(struct pool *pool, uint64_t generation, uint64_t keep_bytes,
                  struct log_place *place, struct problem *why)
{
    uint64_t first = pool->persist.file_bytes >> FRAME_SHIFT;
    uint64_t bytes = POOL_LOG_BYTES;
    int status;

    while (bytes < keep_bytes + PIECE_BYTES)
        bytes *= 2;
    *place = (struct log_place){.generation = keep_bytes ? pool->super.log.generation : generation,
                                .nonce = keep_bytes ? pool->super.log.nonce : new_nonce(),
                                .extent_count = 1,
                                .extents[0] = {first, bytes >> FRAME_SHIFT}};
    status = persist_grow(&pool->persist, (first << FRAME_SHIFT) + bytes);
    for (uint64_t at = 0; status == 0 && at < bytes; at += PIECE_BYTES)
        status = write_piece(pool, at, keep_bytes, (first << FRAME_SHIFT) + at);
    if (status == 0)
        status = persist_sync(&pool->persist);
    if (status < 0)
        return problem_set(why, status, "cannot make a new log for pool '%s': %s", pool->path,
                           status_text(status));
    return 0;
}
