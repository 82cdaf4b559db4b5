/*
 * log.c - see log.h.
 *
 * What must always be true: a record is written behind the last one that is durable, to frames that
 * a durable superblock lists; nothing before `used` is written to until a generation has been
 * committed that contains it.
 */
#include "core/tx/log.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/tx/mutant.h"

#define PIECE_BYTES (64u << 10)

uint64_t log_random(void)
{
    uint64_t number = 0;

    if (sys_call(SYS_getrandom, &number, sizeof number, 0) != sizeof number || number == 0)
        number = sys_clock_ns(CLOCK_REALTIME) * 0x9e3779b97f4a7c15ull | 1;
    return number;
}

static uint64_t log_capacity(const struct log_place *place)
{
    uint64_t frames = 0;

    for (uint32_t i = 0; i < place->extent_count; i++)
        frames += place->extents[i].frames;
    return frames << FRAME_SHIFT;
}

static uint64_t round_to(uint64_t bytes, uint64_t unit)
{
    return (bytes + unit - 1) & ~(unit - 1);
}

void log_begin(struct log *log, struct pool *pool)
{
    *log = (struct log){.pool = pool,
                        .capacity = log_capacity(&pool->super.log),
                        .previous = pool->super.log.nonce,
                        .generation = pool->super.log.generation,
                        .session = log_random()};
}

/* Where in the file the log's byte at `at` lies, and how many follow it there. */
static uint64_t log_place_of(const struct log_place *place, uint64_t at, uint64_t *run)
{
    uint32_t i = 0;

    for (; at >= place->extents[i].frames << FRAME_SHIFT; i++)
        at -= place->extents[i].frames << FRAME_SHIFT;
    *run = (place->extents[i].frames << FRAME_SHIFT) - at;
    return (place->extents[i].frame << FRAME_SHIFT) + at;
}

/* --- reading --- */

static int log_read(const struct log *log, uint64_t at, void *buffer, uint64_t bytes)
{
    uint8_t *out = buffer;
    int status = 0;

    while (status == 0 && bytes > 0) {
        uint64_t run, offset = log_place_of(&log->pool->super.log, at, &run);

        if (run > bytes)
            run = bytes;
        status = sys_pread_all(log->pool->fd, out, run, offset);
        out += run;
        at += run;
        bytes -= run;
    }
    return status;
}

static bool header_is_next(const struct log *log, const struct log_record *record)
{
    bool follows = record->previous == log->previous && record->generation == log->generation;

    if (TX_MUTANT(TX_MUTANT_LEFTOVERS_COUNT))
        follows = true;
    return record->magic == LOG_MAGIC && record->sequence == log->sequence + 1 && follows &&
           record->bytes >= sizeof *record && record->bytes % 8 == 0 &&
           record->bytes <= log->capacity - log->used;
}

/* What lies behind the log's end may be what a program has stored, of whatever origin: nobody who
 * does not know the pool's uuid can make it look like a record. */
static uint64_t record_checksum(const struct log *log, struct log_record *record)
{
    memcpy(&record->checksum, log->pool->super.uuid, sizeof record->checksum);
    return checksum64(record, record->bytes);
}

static bool record_is_whole(const struct log *log, struct log_record *record)
{
    uint64_t expected = record->checksum;
    bool whole = record_checksum(log, record) == expected;

    record->checksum = expected;
    return whole || TX_MUTANT(TX_MUTANT_CHECKSUM_NOT_CHECKED);
}

static void log_pass(struct log *log, const struct log_record *record)
{
    log->used += round_to(record->bytes, LOG_RECORD_ALIGN);
    log->sequence = record->sequence;
    log->previous = record->checksum;
}

int log_next(struct log *log, struct arena *arena, const struct log_record **out)
{
    struct log_record header, *record;
    int status;

    if (log->capacity - log->used < sizeof header)
        return 0;
    status = log_read(log, log->used, &header, sizeof header);
    if (status < 0 || !header_is_next(log, &header))
        return status;
    record = arena_alloc(arena, header.bytes, 64);
    if (!record)
        return -ENOMEM;
    status = log_read(log, log->used, record, header.bytes);
    /* A writer may be at work meanwhile, if this is a reader: the header too may be another. */
    if (status < 0 || memcmp(record, &header, sizeof header) != 0 || !record_is_whole(log, record))
        return status;
    log_pass(log, record);
    *out = record;
    return 1;
}

/* Does a record that should not be there begin at `at`? */
static int is_later(const struct log *log, uint64_t at, const struct log_record *header,
                    struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    struct log_record *record;
    int status;

    if (header->magic != LOG_MAGIC || header->generation < log->generation ||
        (header->generation == log->generation && header->sequence <= log->sequence) ||
        header->bytes < sizeof *header || header->bytes > log->capacity - at)
        return 0;
    record = arena_alloc(arena, header->bytes, 64);
    if (!record)
        return -ENOMEM;
    status = log_read(log, at, record, header->bytes);
    if (status == 0)
        status = memcmp(record, header, sizeof *header) == 0 && record_is_whole(log, record);
    arena_rewind(arena, mark);
    return status;
}

int log_has_later(const struct log *log, struct arena *arena)
{
    uintptr_t mark = arena_mark(arena);
    uint8_t *piece = arena_alloc(arena, PIECE_BYTES, 64);
    int status = piece ? 0 : -ENOMEM;

    for (uint64_t at = log->used; status == 0 && at < log->capacity; at += PIECE_BYTES) {
        uint64_t left = log->capacity - at;
        uint64_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;

        status = log_read(log, at, piece, bytes);
        for (uint64_t i = 0; status == 0 && i < bytes; i += LOG_RECORD_ALIGN)
            status = is_later(log, at + i, (const struct log_record *)(piece + i), arena);
    }
    arena_rewind(arena, mark);
    return status;
}

/* --- appending --- */

static int log_write(const struct log *log, uint64_t at, const void *data, uint64_t bytes)
{
    const uint8_t *from = data;
    int status = 0;

    while (status == 0 && bytes > 0) {
        uint64_t run, offset = log_place_of(&log->pool->next_log, at, &run);

        if (run > bytes)
            run = bytes;
        status = persist_write(&log->pool->persist, offset, from, run);
        from += run;
        at += run;
        bytes -= run;
    }
    return status;
}

int log_extend(struct log *log, uint64_t frames, struct problem *why)
{
    static const uint8_t zeroes[PIECE_BYTES];
    uint64_t at = log_capacity(&log->pool->next_log), end;
    int status = pool_add_log_extent(log->pool, frames, why);

    if (status < 0)
        return status;
    end = log_capacity(&log->pool->next_log);
    for (; status == 0 && at < end; at += PIECE_BYTES)
        status = log_write(log, at, zeroes, end - at < PIECE_BYTES ? end - at : PIECE_BYTES);
    if (status < 0)
        return problem_set(why, status, "cannot write to the log of pool '%s': %s", log->pool->path,
                           status_text(status));
    return 0;
}

/* Room for so many bytes more, listed by a durable superblock. */
static int log_make_room(struct log *log, uint64_t bytes, struct problem *why)
{
    const struct log_place *place = &log->pool->next_log;
    uint64_t frames = log->capacity >> FRAME_SHIFT;
    int status = 0;

    if (bytes <= log->capacity - log->used)
        return 0;
    if (frames << FRAME_SHIFT < bytes)
        frames = (bytes >> FRAME_SHIFT) + 1;
    if (log_capacity(place) - log->used < bytes) /* else an attempt before has come so far */
        status = log_extend(log, frames, why);
    if (status == 0 && !TX_MUTANT(TX_MUTANT_GROWTH_NOT_LISTED))
        status = pool_list_log(log->pool, why);
    if (status == 0)
        log->capacity = log_capacity(place);
    return status;
}

/* Step 1 of a commit. */
static int write_record(struct log *log, struct log_record *record)
{
    record->magic = LOG_MAGIC;
    record->sequence = log->sequence + 1;
    record->previous = log->previous;
    record->session = log->session;
    record->generation = log->generation;
    record->checksum = record_checksum(log, record);
    return log_write(log, log->used, record, record->bytes);
}

/*
 * Crash: before or in step 1 the record is not whole, and the log ends before it; between the
 * steps it may be there or not; after step 2 it is.
 */
int log_append(struct log *log, struct log_record *record, struct problem *why)
{
    int status = log_make_room(log, round_to(record->bytes, LOG_RECORD_ALIGN), why);

    if (status < 0)
        return status;
    status = write_record(log, record);
    if (status == 0 && !TX_MUTANT(TX_MUTANT_COMMIT_WITHOUT_SYNC))
        status = persist_sync(&log->pool->persist); /* step 2 */
    if (status < 0)
        return problem_set(why, status, "cannot write to the log of pool '%s': %s", log->pool->path,
                           status_text(status));
    log_pass(log, record);
    return 0;
}

void log_restart(struct log *log)
{
    uint64_t session = log->session;

    if (TX_MUTANT(TX_MUTANT_LOG_NOT_CUT))
        return;
    log_begin(log, log->pool);
    log->session = session;
}
