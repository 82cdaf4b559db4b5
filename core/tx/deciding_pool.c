/*
 * deciding_pool.c - see deciding_pool.h.
 *
 * What must always be true: a decision that is found is durable before anybody acts on it; one that
 * is not found counts as none only if the file is no older than the promise.
 */
#include "core/tx/deciding_pool.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/image/image_reader.h"
#include "core/tx/decisions.h"
#include "core/tx/log.h"
#include "core/tx/log_cursor.h"
#include "core/tx/mutant.h"

#define SCRATCH_BYTES (16ull << 30)
#define ATTEMPTS      20

struct question {
    uint64_t id;
    const struct log_promise *promise;
    struct arena arena;
    struct pool pool;
    uint64_t sequence; /* of the last record in its log */
    struct tx_decision *table;
};

/* --- the table: as the newest generation has it, and what the log has written to it since --- */

static int read_generation(struct question *question, struct problem *why)
{
    const struct generation_entry *newest = pool_generation(&question->pool, 0);
    uintptr_t at = SLOT_BASE(question->pool.super.slot) + TX_DECISIONS_OFFSET;
    struct image image;
    int status;

    if (!newest)
        return problem_set(why, STATUS_NO_GENERATION, "it holds no heap");
    status = image_open(&image, &question->pool, newest, &question->arena, why);
    return status < 0 ? status
                      : image_read(&image, at, question->table,
                                   TX_DECISIONS * sizeof *question->table, why);
}

static void take_write(struct question *question, const struct log_entry *entry)
{
    uintptr_t base = SLOT_BASE(question->pool.super.slot);

    if (decisions_cover(base, entry->address, entry->bytes))
        memcpy((uint8_t *)question->table + (entry->address - base - TX_DECISIONS_OFFSET),
               entry + 1, entry->bytes);
}

static void take_record(struct question *question, const struct log_record *record)
{
    const struct log_entry *entry;
    struct log_cursor cursor;

    log_cursor_begin(&cursor, record);
    while ((entry = log_cursor_next(&cursor)) && entry->kind != LOG_PREPARE)
        if (entry->kind == LOG_WRITE)
            take_write(question, entry);
}

static int read_log(struct question *question)
{
    const struct log_record *record;
    struct log log;
    uintptr_t mark;
    int status;

    log_begin(&log, &question->pool);
    mark = arena_mark(&question->arena);
    while ((status = log_next(&log, &question->arena, &record)) == 1) {
        take_record(question, record);
        arena_rewind(&question->arena, mark);
    }
    if (status == 0)
        status = log_has_later(&log, &question->arena) == 1 ? (int)STATUS_DAMAGED : 0;
    question->sequence = log.sequence;
    return status;
}

/* --- the file --- */

/* What a writer that was killed has left in the page cache alone must not be acted on. */
static int make_durable(const struct question *question)
{
    return (int)sys_call(SYS_fdatasync, question->pool.fd);
}

static int read_pool(struct question *question, struct problem *why)
{
    int lock = 0, status = make_durable(question);

    if (status == 0 && pool_generation(&question->pool, 0))
        status = lock =
            pool_lock_generation(&question->pool, pool_generation(&question->pool, 0)->number, why);
    if (status >= 0)
        status = read_generation(question, why);
    if (status >= 0)
        status = read_log(question);
    if (lock > 0)
        sys_close(lock);
    return status;
}

static int open_pool(struct question *question, const char *path, struct problem *why)
{
    int status = pool_open(&question->pool, path, POOL_READ, why);

    if (status == 0 && memcmp(question->pool.super.uuid, question->promise->pool, TX_POOL_BYTES)) {
        pool_close(&question->pool);
        status = -ENOENT;
    }
    return status;
}

/* Beside a writer: what was read counts if no other superblock came into force meanwhile. */
static int read_at(struct question *question, const char *path, struct problem *why)
{
    int status = STATUS_DEFERRED;

    for (unsigned i = 0; i < ATTEMPTS; i++) {
        uint64_t before;

        arena_rewind(&question->arena, question->arena.base);
        question->table = arena_alloc(&question->arena, TX_DECISIONS * sizeof *question->table, 64);
        status = question->table ? open_pool(question, path, why) : -ENOMEM;
        if (status < 0)
            return status;
        before = question->pool.super.sequence;
        status = read_pool(question, why);
        pool_close(&question->pool);
        if (open_pool(question, path, NULL) < 0)
            return STATUS_DEFERRED;
        pool_close(&question->pool);
        if (question->pool.super.sequence == before)
            break;
    }
    return status;
}

/* --- where it is --- */

static const char *last_part(const char *path)
{
    const char *slash = path;

    for (const char *at = path; *at; at++)
        if (*at == '/')
            slash = at + 1;
    return slash;
}

static int read_beside(struct question *question, const char *asking, struct problem *why)
{
    char path[PATH_MAX];
    size_t directory = (size_t)(last_part(asking) - asking);
    const char *name = last_part(question->promise->path);

    if (directory + strlen(name) >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, asking, directory);
    memcpy(path + directory, name, strlen(name) + 1);
    return read_at(question, path, why);
}

static int judge(const struct question *question, struct problem *why)
{
    if (decisions_have(question->table, question->id))
        return 1;
    if (question->sequence >= question->promise->sequence || TX_MUTANT(TX_MUTANT_OLD_POOL_DECIDES))
        return 0;
    return problem_set(why, STATUS_IN_DOUBT,
                       "pool '%s', which decides, is an older copy: its log ends at record %lu, it "
                       "had come to %lu",
                       question->promise->path, question->sequence, question->promise->sequence);
}

int deciding_pool_ask(uint64_t id, const struct log_promise *promise, const char *asking,
                      struct problem *why)
{
    struct question question = {.id = id, .promise = promise};
    struct problem reason = {0};
    int status = arena_create(&question.arena, SCRATCH_BYTES);

    if (status < 0)
        return status;
    status = read_at(&question, promise->path, &reason);
    if (status == -ENOENT || status == STATUS_NOT_A_POOL)
        status = read_beside(&question, asking, &reason);
    if (status >= 0)
        status = judge(&question, why);
    else
        status = problem_set(why, STATUS_IN_DOUBT, "pool '%s', which decides, %s%s%s",
                             promise->path, status == -ENOENT ? "is not there" : "cannot be read: ",
                             status == -ENOENT ? "" : status_text(status),
                             status == STATUS_DAMAGED ? " (pheap recover --check)" : "");
    arena_destroy(&question.arena);
    return status;
}
