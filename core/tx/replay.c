/*
 * replay.c - see replay.h. A record's entries stand in the order in which they are applied.
 */
#include "core/tx/replay.h"

#include <string.h>
#include "core/tx/block.h"
#include "core/tx/mutant.h"

static int replay_write(struct slot_memory *memory, const struct log_entry *entry)
{
    if (!slot_memory_may_write(memory, entry->address, entry->bytes))
        return STATUS_DAMAGED;
    memcpy((void *)entry->address, entry + 1, entry->bytes);
    return 0;
}

static int replay_entry(struct slot_memory *memory, const struct log_entry *entry)
{
    switch (entry->kind) {
    case LOG_ALLOC:
        return block_replay_alloc(memory, entry);
    case LOG_WRITE:
        return replay_write(memory, entry);
    case LOG_FREE:
        return block_replay_free(memory, entry);
    default:
        return STATUS_DAMAGED;
    }
}

static int replay_record(struct slot_memory *memory, const struct log_record *record)
{
    const uint8_t *at = (const uint8_t *)(record + 1);
    uint64_t left = record->bytes - sizeof *record;
    int status = 0;

    for (uint64_t i = 0; status == 0 && i < record->entry_count; i++) {
        const struct log_entry *entry = (const struct log_entry *)at;
        uint64_t bytes = sizeof *entry;

        if (left < bytes || (entry->kind == LOG_WRITE && entry->bytes > left - bytes))
            return STATUS_DAMAGED;
        if (entry->kind == LOG_WRITE)
            bytes += (entry->bytes + 7) & ~7ull;
        if (bytes > left)
            return STATUS_DAMAGED;
        status = replay_entry(memory, entry);
        at += bytes;
        left -= bytes;
    }
    return status;
}

/* A fault for the tests: the log's first record once more. */
static int replay_first_again(struct log log, struct slot_memory *memory, struct arena *scratch)
{
    const struct log_record *record;
    int status;

    log_begin(&log, log.pool);
    status = log_next(&log, scratch, &record);
    return status == 1 ? replay_record(memory, record) : status;
}

static int replay_rest(struct log *log, struct slot_memory *memory, struct arena *scratch,
                       struct problem *why)
{
    const struct log_record *record;
    int status;

    while ((status = log_next(log, scratch, &record)) == 1) {
        status = replay_record(memory, record);
        arena_rewind(scratch, scratch->base);
        if (status < 0)
            return problem_set(why, status, "record %lu of the log of pool '%s' cannot be applied",
                               log->sequence, log->pool->path);
    }
    if (status < 0)
        problem_set(why, status, "cannot read the log of pool '%s': %s", log->pool->path,
                    status_text(status));
    return status;
}

/* Beside a writer the log may only have gone on meanwhile. */
static int refuse_broken(struct log *log, struct slot_memory *memory, struct arena *scratch,
                         struct problem *why)
{
    uint64_t last = log->sequence;
    int status = replay_rest(log, memory, scratch, why);

    if (status < 0 || log->sequence > last)
        return status;
    return problem_set(why, STATUS_DAMAGED,
                       "pool '%s' is damaged: its log breaks off after record %lu, and more than "
                       "that was durable once",
                       log->pool->path, last);
}

int replay_log(struct log *log, struct slot_memory *memory, struct arena *scratch,
               struct problem *why)
{
    int status = replay_rest(log, memory, scratch, why);

    if (status == 0 && log_has_later(log, scratch) == 1)
        status = refuse_broken(log, memory, scratch, why);
    if (status == 0 && TX_MUTANT(TX_MUTANT_RECORD_APPLIED_TWICE))
        status = replay_first_again(*log, memory, scratch);
    arena_rewind(scratch, scratch->base);
    return status;
}
