/*
 * replay.c - see replay.h. A record's entries stand in the order in which they are applied.
 */
#include "core/tx/replay.h"

#include <errno.h>
#include <string.h>
#include "core/tx/block.h"
#include "core/tx/decisions.h"
#include "core/tx/log_cursor.h"
#include "core/tx/mutant.h"

static int replay_write(struct slot_memory *memory, const struct log_entry *entry)
{
    if (!slot_memory_may_write(memory, entry->address, entry->bytes) &&
        !decisions_cover(memory->base, entry->address, entry->bytes))
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

static int replay_entries(struct slot_memory *memory, struct log_cursor *cursor)
{
    const struct log_entry *entry;
    int status = 0;

    while (status == 0 && (entry = log_cursor_next(cursor)))
        status = replay_entry(memory, entry);
    return cursor->broken ? STATUS_DAMAGED : status;
}

/* --- promises --- */

int replay_promise(struct slot_memory *memory, const struct promise *promise)
{
    struct log_cursor cursor;

    log_cursor_begin(&cursor, promise->record);
    (void)log_cursor_next(&cursor);
    return replay_entries(memory, &cursor);
}

static bool has_terms(const struct log_entry *entry)
{
    const struct log_promise *terms = (const struct log_promise *)(entry + 1);

    return entry->bytes > sizeof *terms &&
           memchr(terms->path, 0, entry->bytes - sizeof *terms) != NULL;
}

/* At the list's end; not open yet. */
static struct promise *add_promise(struct promises *promises, struct arena *scratch,
                                   struct id_node **place, uint64_t id)
{
    struct promise *promise = arena_alloc(scratch, sizeof *promise, 8);

    if (!promise)
        return NULL;
    *promise = (struct promise){.node = {.id = id}, .outcome = LOG_UNDONE};
    *place = &promise->node;
    if (promises->last)
        promises->last->next = promise;
    else
        promises->first = promise;
    return promises->last = promise;
}

/* The record stays in the arena. */
static int take_promise(struct promises *promises, struct arena *scratch,
                        const struct log_record *record, const struct log_entry *entry)
{
    struct id_node **place = id_tree_place(&promises->by_id, entry->address);
    struct promise *promise = (struct promise *)*place;

    if (!has_terms(entry) || (promise && promise->outcome == 0))
        return STATUS_DAMAGED;
    if (!promise)
        promise = add_promise(promises, scratch, place, entry->address);
    if (!promise)
        return -ENOMEM;
    promise->record = record;
    promise->terms = (const struct log_promise *)(entry + 1);
    promise->outcome = 0;
    promises->mark = arena_mark(scratch);
    return 0;
}

static int keep_promise(struct promises *promises, struct slot_memory *memory,
                        const struct log_entry *entry)
{
    struct promise *promise = (struct promise *)*id_tree_place(&promises->by_id, entry->address);

    if (!promise || promise->outcome != 0 ||
        (entry->type != LOG_COMMITTED && entry->type != LOG_UNDONE))
        return STATUS_DAMAGED;
    promise->outcome = entry->type;
    return entry->type == LOG_COMMITTED ? replay_promise(memory, promise) : 0;
}

/* What is left is open. */
static void drop_kept(struct promises *promises)
{
    struct promise **at = &promises->first;

    while (*at)
        if ((*at)->outcome != 0)
            *at = (*at)->next;
        else
            at = &(*at)->next;
}

static int replay_record(struct slot_memory *memory, struct arena *scratch,
                         struct promises *promises, const struct log_record *record)
{
    struct log_cursor cursor;
    const struct log_entry *entry;

    log_cursor_begin(&cursor, record);
    entry = log_cursor_next(&cursor);
    if (entry && entry->kind == LOG_PREPARE && !TX_MUTANT(TX_MUTANT_PROMISE_KEPT_AT_ONCE))
        return take_promise(promises, scratch, record, entry);
    if (entry && entry->kind == LOG_OUTCOME)
        return TX_MUTANT(TX_MUTANT_PROMISE_KEPT_AT_ONCE) ? 0
                                                         : keep_promise(promises, memory, entry);
    if (!entry || entry->kind != LOG_PREPARE)
        log_cursor_begin(&cursor, record);
    return replay_entries(memory, &cursor);
}

/* A fault for the tests: the log's first record once more. */
static int replay_first_again(const struct log *replayed, struct slot_memory *memory,
                              struct arena *scratch)
{
    const struct log_record *record;
    struct promises none = {0};
    struct log log = *replayed;
    int status;

    log_begin(&log, log.pool);
    status = log_next(&log, scratch, &record);
    return status == 1 ? replay_record(memory, scratch, &none, record) : status;
}

static int replay_rest(struct log *log, struct slot_memory *memory, struct arena *scratch,
                       struct promises *promises, struct problem *why)
{
    const struct log_record *record;
    int status;

    while ((status = log_next(log, scratch, &record)) == 1) {
        status = replay_record(memory, scratch, promises, record);
        arena_rewind(scratch, promises->mark);
        if (status < 0)
            return problem_set(why, status, "record %lu of the log of pool '%s' cannot be applied",
                               log->sequence, log->pool->path);
    }
    if (status < 0)
        problem_set(why, status, "cannot read the log of pool '%s': %s", log->pool->path,
                    status_text(status));
    return status;
}

static int refuse_broken(const struct log *log, struct problem *why)
{
    return problem_set(why, STATUS_DAMAGED,
                       "pool '%s' is damaged: its log breaks off after record %lu, and more than "
                       "that was durable once",
                       log->pool->path, log->sequence);
}

int replay_log(struct log *log, struct slot_memory *memory, struct arena *scratch,
               struct promises *promises, struct problem *why)
{
    int status;

    *promises = (struct promises){.mark = scratch->base};
    status = replay_rest(log, memory, scratch, promises, why);
    drop_kept(promises);
    if (status == 0 && log_has_later(log, scratch) == 1)
        status = refuse_broken(log, why);
    if (status == 0 && TX_MUTANT(TX_MUTANT_RECORD_APPLIED_TWICE))
        status = replay_first_again(log, memory, scratch);
    arena_rewind(scratch, promises->mark);
    return status;
}

_Static_assert(__builtin_offsetof(struct promise, node) == 0, "a promise is found by its node");
