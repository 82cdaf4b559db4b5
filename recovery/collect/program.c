/*
 * program.c - see README.md: the heap of a program's checkpoints.
 *
 * What must always be true:
 *   1. no block is freed that anything leads to which stays: a root, or a block that is not freed
 *      with it, reached or not;
 *   2. the pool is the caller's from before the generation is looked at until the new one is
 *      durable;
 *   3. the quarantine never says that a block was found unreachable at a moment at which it was
 *      not.
 */
#include "recovery/collect/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/heap/reclaim.h"
#include "recovery/check/check.h"
#include "recovery/collect/quarantine.h"
#include "recovery/view/reach.h"

struct collecting {
    const struct collect_request *request;
    struct collect_result *result;
    struct pool pool; /* open for writing, unless nothing is to be written */
    struct view view;
    struct block_map map;
    struct reach reach;
    uint64_t *chosen; /* a bit a block: to be freed */
    struct quarantine quarantine;
    struct quarantine_writing writing;
};

static struct heap *heap_of(struct collecting *collecting)
{
    return (struct heap *)view_slot_base(&collecting->view);
}

/* --- what may be looked at --- */

static void ignore_finding(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

/* Lists of the heap are followed later without a look at each step. */
static int check_whole(const char *path, uint64_t *sequence, struct problem *why)
{
    const struct check_request check = {
        .path = path, .heaps = HEAP_OF_NEWEST, .found = ignore_finding};
    struct check_result *result = malloc(sizeof *result);
    int status = result ? check_pool(&check, result, why)
                        : problem_set(why, -ENOMEM, "no memory to check '%s'", path);

    if (status == 0 && result->worst == SEVERITY_DAMAGE)
        status = problem_set(why, STATUS_DAMAGED,
                             "%s: it is damaged, nothing is freed; `pheap recover --check` says "
                             "more",
                             path);
    if (status == 0)
        *sequence = result->super.sequence;
    free(result);
    return status;
}

static int open_pool(struct collecting *collecting, struct problem *why)
{
    const char *path = collecting->request->path;
    uint64_t sequence = 0;
    int status;

    if (collecting->request->only_says)
        return pool_open(&collecting->pool, path, POOL_READ, why);
    status = check_whole(path, &sequence, why);
    if (status == 0)
        status = pool_open(&collecting->pool, path, POOL_WRITE, why);
    if (status == 0 && collecting->pool.super.sequence != sequence) {
        pool_close(&collecting->pool);
        status =
            problem_set(why, STATUS_IN_USE, "%s: a program ran on it meanwhile: try again", path);
    }
    return status;
}

/* The newest generation is what the program goes on from. */
static int judge_generation(const struct collecting *collecting, struct problem *why)
{
    const struct superblock *super = &collecting->pool.super;
    const struct generation_entry *entry = &collecting->view.generation;

    if (entry->kind == GENERATION_PROCESS && super->run_state == RUN_STARTED &&
        entry->number >= super->run_first_generation)
        return 0;
    return problem_set(why, STATUS_ENDED,
                       "%s: there is no program to be resumed from it, so there is nothing to free",
                       collecting->pool.path);
}

static int look(struct collecting *collecting, struct problem *why)
{
    struct view *view = &collecting->view;
    int status = view_open(view, collecting->request->path, 0, why);

    if (status == 0)
        status = judge_generation(collecting, why);
    if (status == 0)
        status = block_map_build_whole(&collecting->map, view, "nothing is freed", why);
    if (status == 0)
        status = reclaim_ready(heap_of(collecting), why);
    if (status == 0)
        status = reach_mark_in_place(&collecting->reach, &collecting->map, why);
    if (status == 0 && view->damaged_pages)
        status = problem_set(why, STATUS_DAMAGED,
                             "%s: %lu pages are damaged, nothing is freed; `pheap recover --check` "
                             "says more",
                             view->pool.path, (unsigned long)view->damaged_pages);
    return status;
}

/* --- the verdict --- */

static struct quarantine_entry entry_of(struct collecting *collecting, const struct block *block)
{
    return (struct quarantine_entry){.address = block->address,
                                     .bytes = block->bytes,
                                     .identity =
                                         reclaim_identity(heap_of(collecting), block->address)};
}

static bool choose_block(void *context, const struct block *block)
{
    struct collecting *collecting = context;
    const struct quarantine_entry entry = entry_of(collecting, block);
    uint64_t bit = 1ull << block->number % 64;

    if (!reclaim_holds(heap_of(collecting), block->address))
        return true;
    collecting->result->blocks++;
    collecting->result->bytes += block->bytes;
    if (collecting->request->now ||
        quarantine_has(&collecting->quarantine, &entry, (const void *)block->address))
        collecting->chosen[block->number / 64] |= bit;
    return true;
}

static bool count_chosen(void *context, const struct block *block)
{
    struct collect_result *result = context;

    result->freed_blocks++;
    result->freed_bytes += block->bytes;
    return true;
}

/* A verdict on what has not run since is the same one again. */
static int open_quarantine(struct collecting *collecting, struct problem *why)
{
    struct collect_result *result = collecting->result;
    int status = quarantine_open(&collecting->quarantine, &collecting->pool, why);

    if (collecting->quarantine.head == NULL)
        return status;
    result->earlier = collecting->quarantine.head->generation;
    result->has_not_run = result->earlier >= collecting->view.generation.number;
    if (result->has_not_run)
        collecting->quarantine.next = collecting->quarantine.end;
    return 0;
}

/* What a block that stays leads to stays too: it may be in use after all, the one because its
 * content has changed, another because it is seen for the first time. */
static int choose(struct collecting *collecting, struct problem *why)
{
    struct collect_result *result = collecting->result;
    const struct block_map *map = &collecting->map;
    int status;

    result->marked = collecting->view.generation.number;
    result->blocks_in_use = map->used_count;
    collecting->chosen =
        arena_alloc(&collecting->view.arena, (map->count / 64 + 1) * sizeof(uint64_t), 64);
    if (collecting->chosen == NULL)
        return problem_set(why, -ENOMEM, "no memory for %lu blocks", (unsigned long)map->count);
    status = open_quarantine(collecting, why);
    if (status < 0)
        return status;
    block_map_each(map, collecting->reach.unreached, choose_block, collecting);
    status = reach_keep_apart(&collecting->reach, map, collecting->chosen, why);
    block_map_each(map, collecting->chosen, count_chosen, result);
    return status;
}

/* --- freeing --- */

static bool free_block(void *context, const struct block *block)
{
    reclaim_free(context, block->address);
    return true;
}

/* What every later reader will find is found before anything is written. */
static int free_chosen(struct collecting *collecting, struct problem *why)
{
    const struct view *view = &collecting->view;
    struct heap_census before, after;
    int status = heap_census(view->generation.slot, &before, why);

    block_map_each(&collecting->map, collecting->chosen, free_block, heap_of(collecting));
    if (status == 0)
        status = heap_census(view->generation.slot, &after, why);
    if (status == 0 &&
        before.totals.live_blocks - after.totals.live_blocks != collecting->result->freed_blocks)
        status =
            problem_set(why, STATUS_DAMAGED,
                        "%s: %lu blocks were freed, and the heap has %lu fewer: it is damaged, "
                        "nothing is changed",
                        view->pool.path, (unsigned long)collecting->result->freed_blocks,
                        (unsigned long)(before.totals.live_blocks - after.totals.live_blocks));
    return status;
}

/* Crash: as collect_write(). Until the new generation is durable nothing of the pool that anybody
 * reads has changed, and the quarantine is that of the earlier verdict. */
static int free_and_commit(struct collecting *collecting, struct problem *why)
{
    struct collect_result *result = collecting->result;
    int status = free_chosen(collecting, why);

    if (status == 0)
        status = collect_write(&collecting->pool, &collecting->view.generation, heap_of(collecting),
                               &result->generation, why);
    return status;
}

/* --- the quarantine --- */

static bool note_block(void *context, const struct block *block)
{
    struct collecting *collecting = context;
    struct quarantine_entry entry;

    if (block_bit(collecting->chosen, block->number) ||
        !reclaim_holds(heap_of(collecting), block->address))
        return true;
    entry = entry_of(collecting, block);
    entry.checksum = checksum64((const void *)block->address, block->bytes);
    quarantine_add(&collecting->writing, &entry);
    return true;
}

/*
 * After the commit, so that it never names a generation that is not durable.
 *
 * Crash before: the file is that of the earlier verdict. What was freed is not in use any more; of
 * what was not freed it has only blocks with another content, or those that such a block led to,
 * and both are judged as before. Crash after: all is done.
 */
static int write_quarantine(struct collecting *collecting, struct problem *why)
{
    struct collect_result *result = collecting->result;
    uint64_t number = result->generation ? result->generation : result->marked;

    quarantine_begin(&collecting->writing, &collecting->pool, number);
    block_map_each(&collecting->map, collecting->reach.unreached, note_block, collecting);
    result->waiting_blocks = collecting->writing.head.count;
    return quarantine_finish(&collecting->writing, why);
}

/* --- in order --- */

static int collect(struct collecting *collecting, struct problem *why)
{
    const struct collect_request *request = collecting->request;
    struct collect_result *result = collecting->result;
    int status = look(collecting, why);

    if (status == 0)
        status = choose(collecting, why);
    if (status == 0 && request->only_says)
        result->waiting_blocks = result->blocks - result->freed_blocks;
    if (status < 0 || request->only_says)
        return status;
    if (result->freed_blocks > 0)
        status = free_and_commit(collecting, why);
    if (status == 0)
        status = write_quarantine(collecting, why);
    return status;
}

int collect_program(const struct collect_request *request, struct collect_result *result,
                    struct problem *why)
{
    static struct collecting collecting;
    int status;

    memset(&collecting, 0, sizeof collecting);
    collecting.request = request;
    collecting.result = result;
    result->is_programs = true;
    status = open_pool(&collecting, why);
    if (status < 0)
        return status;
    status = collect(&collecting, why);
    quarantine_close(&collecting.quarantine);
    view_close(&collecting.view);
    pool_close(&collecting.pool);
    return status;
}
