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

#define ARENA_BYTES (16ull << 30)
#define ATTEMPTS    20

/* A file, as it was read. Beside a writer all promises are asked of one moment: the asking heap's
 * log was read before, so what it builds upon is there. */
struct deciding_pool {
    struct deciding_pool *next;
    uint64_t device, inode;
    int status;        /* negative: it could not be read */
    uint64_t sequence; /* of the last record in its log */
    uint8_t uuid[TX_POOL_BYTES];
    struct tx_decision table[TX_DECISIONS];
};

struct question {
    uint64_t id;
    const struct log_promise *promise;
    struct deciding_pools *pools;
    struct pool pool;
    struct deciding_pool *asked;
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
    status = image_open(&image, &question->pool, newest, &question->pools->arena, why);
    return status < 0
               ? status
               : image_read(&image, at, question->asked->table, sizeof question->asked->table, why);
}

static void take_write(struct question *question, const struct log_entry *entry)
{
    uintptr_t base = SLOT_BASE(question->pool.super.slot);

    if (decisions_cover(base, entry->address, entry->bytes))
        memcpy((uint8_t *)question->asked->table + (entry->address - base - TX_DECISIONS_OFFSET),
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
    struct arena *arena = &question->pools->arena;
    const struct log_record *record;
    struct log log;
    uintptr_t mark;
    int status;

    log_begin(&log, &question->pool);
    mark = arena_mark(arena);
    while ((status = log_next(&log, arena, &record)) == 1) {
        take_record(question, record);
        arena_rewind(arena, mark);
    }
    if (status == 0)
        status = log_has_later(&log, arena) == 1 ? (int)STATUS_DAMAGED : 0;
    question->asked->sequence = log.sequence;
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
static int read_still(struct question *question, const char *path, struct problem *why)
{
    uintptr_t mark = arena_mark(&question->pools->arena);
    int status = STATUS_DEFERRED;

    for (unsigned i = 0; i < ATTEMPTS; i++) {
        uint64_t before;

        status = open_pool(question, path, why);
        if (status < 0)
            return status;
        before = question->pool.super.sequence;
        status = read_pool(question, why);
        pool_close(&question->pool);
        arena_rewind(&question->pools->arena, mark);
        if (open_pool(question, path, NULL) < 0)
            return STATUS_DEFERRED;
        pool_close(&question->pool);
        if (question->pool.super.sequence == before)
            break;
    }
    return status;
}

/* --- the files that were read --- */

static struct deciding_pool *find_asked(const struct question *question, const struct stat *info)
{
    struct deciding_pool *at = question->pools->first;

    while (at && (at->device != info->st_dev || at->inode != info->st_ino ||
                  memcmp(at->uuid, question->promise->pool, TX_POOL_BYTES) != 0))
        at = at->next;
    return at;
}

/* 1: the file has been read, as question->asked says; 0: that is for it, then. */
static int recall(struct question *question)
{
    struct deciding_pools *pools = question->pools;
    struct stat info;
    int status = sys_fstat(question->pool.fd, &info);

    if (status < 0)
        return status;
    question->asked = find_asked(question, &info);
    if (question->asked)
        return 1;
    question->asked = arena_alloc(&pools->arena, sizeof *question->asked, 64);
    if (!question->asked)
        return -ENOMEM;
    question->asked->next = pools->first;
    question->asked->device = info.st_dev;
    question->asked->inode = info.st_ino;
    memcpy(question->asked->uuid, question->promise->pool, TX_POOL_BYTES);
    pools->first = question->asked;
    return 0;
}

static int read_at(struct question *question, const char *path, struct problem *why)
{
    int status = open_pool(question, path, why);

    if (status < 0)
        return status;
    status = recall(question);
    pool_close(&question->pool);
    if (status == 0)
        question->asked->status = read_still(question, path, why);
    return status < 0 ? status : question->asked->status;
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
    if (decisions_have(question->asked->table, question->id))
        return 1;
    if (question->asked->sequence >= question->promise->sequence ||
        TX_MUTANT(TX_MUTANT_OLD_POOL_DECIDES))
        return 0;
    return problem_set(why, STATUS_IN_DOUBT,
                       "pool '%s', which decides, is an older copy: its log ends at record %lu, it "
                       "had come to %lu",
                       question->promise->path, question->asked->sequence,
                       question->promise->sequence);
}

int deciding_pool_ask(struct deciding_pools *pools, uint64_t id, const struct log_promise *promise,
                      const char *asking, struct problem *why)
{
    struct question question = {.id = id, .promise = promise, .pools = pools};
    struct problem reason = {0};
    int status = pools->arena.base ? 0 : arena_create(&pools->arena, ARENA_BYTES);

    if (status < 0)
        return status;
    status = read_at(&question, promise->path, &reason);
    if (status == -ENOENT || status == STATUS_NOT_A_POOL)
        status = read_beside(&question, asking, &reason);
    if (status >= 0)
        return judge(&question, why);
    return problem_set(why, STATUS_IN_DOUBT, "pool '%s', which decides, %s%s%s", promise->path,
                       status == -ENOENT ? "is not there" : "cannot be read: ",
                       status == -ENOENT ? "" : status_text(status),
                       status == STATUS_DAMAGED ? " (pheap recover --check)" : "");
}

void deciding_pools_forget(struct deciding_pools *pools)
{
    if (pools->arena.base)
        arena_destroy(&pools->arena);
    pools->first = NULL;
}
