/*
 * repair.c - see repair.h and README.md.
 *
 * What must always be true: nothing is written before the superblocks have been saved durably; and
 * nobody is told that a pool is repaired before it has been checked as a whole again.
 */
#include "recovery/repair/repair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/arena.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "core/tx/log.h"

#define ARENA_BYTES       (16ull << 30) /* reserved, not used: the frames of very large pools */
#define BACKUP_NAME_BYTES (4096 + 8)

/* --- the plan --- */

static bool would_be_resumed(const struct superblock *super, const struct generation_entry *entry)
{
    return super->run_state == RUN_STARTED && entry->kind == GENERATION_PROCESS &&
           entry->number >= super->run_first_generation;
}

static void plan_generations(struct repair_plan *plan, const struct check_result *result)
{
    const struct superblock *super = &result->super;

    for (uint32_t i = 0; i < super->generation_count; i++) {
        const struct generation_entry *entry = &super->generations[i];

        if (result->damaged >> i & 1) {
            plan->gives_up[plan->gives_up_count++] = entry->number;
        } else if (entry->kind != GENERATION_CRASH) {
            plan->newest = entry->number;
            plan->is_resumed = would_be_resumed(super, entry);
        }
    }
}

/* A log that is not whole, or that does not follow what will be the newest generation. */
static void plan_log(struct repair_plan *plan, const struct check_result *result)
{
    const struct superblock *super = &result->super;
    bool follows = super->log.generation == plan->newest;

    if (super->log.extent_count == 0 || (follows && !result->log_is_damaged))
        return;
    plan->renews_log = true;
    if (follows)
        plan->log_records = result->log_records;
}

/* Damage that is neither a generation's nor the log's: nothing here helps against it. */
static bool is_beyond_repair(const struct check_result *result)
{
    return result->worst == SEVERITY_DAMAGE && result->damaged == 0 && !result->log_is_damaged;
}

int repair_plan(struct repair_plan *plan, const char *path, const struct check_result *result,
                struct problem *why)
{
    const struct superblock *super = &result->super;

    memset(plan, 0, sizeof *plan);
    if (result->is_in_use)
        return problem_set(why, STATUS_IN_USE, "%s: in use: end its program first", path);
    if (super->frame_count == 0)
        return problem_set(why, STATUS_DAMAGED,
                           "%s: neither superblock is valid, so nothing says what is where: it "
                           "cannot be repaired; --salvage DIR gets out what can be read",
                           path);
    if (is_beyond_repair(result))
        return problem_set(why, STATUS_DAMAGED,
                           "%s: what `pheap recover --check` finds cannot be repaired", path);
    plan->writes_superblock = result->super_fell_back;
    plan->file_frames = result->file_bytes >> FRAME_SHIFT;
    plan->listed_frames = super->frame_count;
    plan->trims = plan->file_frames < plan->listed_frames;
    plan_generations(plan, result);
    plan_log(plan, result);
    if (plan->gives_up_count > 0 && plan->gives_up_count == super->generation_count)
        return problem_set(why, STATUS_DAMAGED,
                           "%s: no generation is whole, nothing would be left: it cannot be "
                           "repaired; --salvage DIR gets out what can be read",
                           path);
    return 0;
}

bool repair_is_needed(const struct repair_plan *plan)
{
    return plan->writes_superblock || plan->trims || plan->gives_up_count > 0 || plan->renews_log;
}

/* --- the backup --- */

static int write_backup(int from, const char *name)
{
    uint8_t superblocks[2 * FRAME_BYTES] = {0};
    struct stat info;
    int fd, status = sys_fstat(from, &info);
    uint64_t bytes = sizeof superblocks;

    if (status < 0)
        return status;
    if ((uint64_t)info.st_size < bytes)
        bytes = (uint64_t)info.st_size;
    status = sys_pread_all(from, superblocks, bytes, 0);
    if (status < 0)
        return status;
    fd = sys_open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fd;
    status = sys_pwrite_all(fd, superblocks, bytes, 0);
    if (status == 0)
        status = (int)sys_call(SYS_fsync, fd);
    sys_close(fd);
    if (status < 0)
        (void)sys_call(SYS_unlinkat, AT_FDCWD, name, 0);
    return status;
}

/* buffer: BACKUP_NAME_BYTES; returned. */
static const char *backup_name(char *buffer, const struct pool *pool)
{
    snprintf(buffer, BACKUP_NAME_BYTES, "%s.backup", pool->path);
    return buffer;
}

static int back_up(const struct pool *pool, struct problem *why)
{
    char buffer[BACKUP_NAME_BYTES];
    const char *name = backup_name(buffer, pool);
    int status = write_backup(pool->fd, name);

    if (status == -EEXIST)
        return problem_set(why, STATUS_REFUSED,
                           "'%s' exists, of a repair before this one: move it away first", name);
    if (status == 0)
        status = pool_sync_directory(name);
    if (status < 0)
        return problem_set(why, status, "cannot write '%s': %s; the pool is unchanged", name,
                           status_text(status));
    return 0;
}

/* --- the repair --- */

/* The first records of the log, one behind the other; to be freed. */
static int read_records(struct pool *pool, uint64_t count, struct pool_new_log *out)
{
    const struct log_record *record;
    struct arena arena;
    struct log log;
    struct log_rewriting rewriting;
    uint8_t *records = NULL;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return status;
    status = log_rewriting_begin(&rewriting, pool, count, &arena);
    out->sequence = rewriting.sequence;
    log_begin(&log, pool);
    while (status == 0 && count-- > 0) {
        status = log_next(&log, &arena, &record) == 1 ? 0 : STATUS_DAMAGED;
        if (status == 0)
            records = realloc(records, out->bytes + record->bytes);
        if (status == 0 && records != NULL)
            log_rewrite(&rewriting, memcpy(records + out->bytes, record, record->bytes));
        out->bytes += status == 0 ? record->bytes : 0;
        arena_rewind(&arena, arena.base);
        out->records = records;
        if (status == 0 && records == NULL)
            status = -ENOMEM;
    }
    arena_destroy(&arena);
    return status;
}

static int give_up(const struct repair_plan *plan, struct pool *pool, struct problem *why)
{
    struct pool_new_log records = {0};
    int status = 0;

    if (plan->renews_log)
        status = read_records(pool, plan->log_records, &records);
    if (status == 0)
        status = pool_give_up(pool, plan->gives_up, plan->gives_up_count,
                              plan->renews_log ? &records : NULL, why);
    else
        problem_set(why, status, "cannot read the log of pool '%s': %s", pool->path,
                    status_text(status));
    free((void *)(uintptr_t)records.records);
    return status;
}

static int change(const struct repair_plan *plan, struct pool *pool, const char *path,
                  struct problem *why)
{
    char backup[BACKUP_NAME_BYTES];
    int status = pool_open(pool, path, POOL_WRITE, why);

    if (status < 0)
        return status;
    status = back_up(pool, why);
    if (status == 0)
        status = give_up(plan, pool, why);
    if (status == STATUS_IN_USE) /* of a generation: nothing was written */
        (void)sys_call(SYS_unlinkat, AT_FDCWD, backup_name(backup, pool), 0);
    pool_close(pool);
    return status;
}

static void change_nothing(struct superblock *super, void *context)
{
    (void)super, (void)context;
}

/* What a writer does, but for the pages. */
static int try_out(struct pool *pool, const char *path, uint64_t base, struct problem *why)
{
    struct arena arena;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0)
        return status;
    status = pool_open(pool, path, POOL_WRITE, why);
    if (status == 0) {
        status = pool_load(pool, &arena, base, why);
        if (status == 0 && why->status < 0)
            status = why->status;
        if (status == 0)
            status = pool_update(pool, change_nothing, NULL, why);
        pool_close(pool);
    }
    arena_destroy(&arena);
    return status;
}

static void ignore_finding(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

static int check_again(const char *path, struct problem *why)
{
    const struct check_request check = {
        .path = path, .heaps = HEAPS_OF_NONE, .found = ignore_finding};
    struct check_result *result = malloc(sizeof *result);
    int status = result ? check_pool(&check, result, why) : -ENOMEM;

    if (status == 0 && result->worst == SEVERITY_DAMAGE)
        status = STATUS_DAMAGED;
    free(result);
    return status;
}

int repair_apply(const struct repair_plan *plan, const char *path, struct problem *why)
{
    struct pool *pool = malloc(sizeof *pool);
    int status = -ENOMEM;

    if (pool != NULL) {
        status = change(plan, pool, path, why);
        if (status == 0 &&
            (check_again(path, why) < 0 || try_out(pool, path, plan->newest, why) < 0))
            status = problem_set(why, STATUS_DAMAGED,
                                 "%s: is not whole after the repair; put the superblocks back: dd "
                                 "if=%s.backup of=%s conv=notrunc",
                                 path, path, path);
    }
    free(pool);
    return status;
}

/* --- the heap --- */

struct heap_findings {
    struct finding first; /* that is damage */
    bool is_damaged;
};

static void note_damage(void *context, const struct finding *finding)
{
    struct heap_findings *findings = context;

    if (finding->severity != SEVERITY_DAMAGE || findings->is_damaged)
        return;
    findings->first = *finding;
    findings->is_damaged = true;
}

int repair_judge_heap(const struct repair_plan *plan, const char *path, struct problem *why)
{
    struct heap_findings findings = {0};
    const struct check_request check = {
        .path = path, .heaps = HEAP_OF_NEWEST, .found = note_damage, .context = &findings};
    struct check_result *result = malloc(sizeof *result);
    int status = result ? check_pool(&check, result, why) : -ENOMEM;

    free(result);
    if (status < 0 || !findings.is_damaged)
        return status;
    return problem_set(why, STATUS_DAMAGED,
                       "%s: is whole again, but the heap of its newest generation, %lu, makes no "
                       "sense (%s: %s): take an older one with --rollback",
                       path, (unsigned long)plan->newest, finding_id(findings.first.kind),
                       finding_meaning(findings.first.kind));
}
