/*
 * pool_load.c - derives from the kept generations which frames are in use, and since when.
 *
 * Two passes over the indexes, each visiting a shared subtree once. (With deltas about, a shared
 * subtree does not show the same pages in two generations, and everything is visited for each.)
 *   1. generations oldest first: who refers to a frame first, gave birth to it. All checksums and
 *      frame numbers of the indexes are checked here; a generation that does not pass is dropped
 *      from the list, and what only it refers to is forgotten.
 *   2. the base first (its frames are live), then newest first: who refers to a frame first here
 *      is the last to need it.
 * A generation's record counts as a part of it. The newest generation of the superblock before is
 * looked at as well, when it is no longer listed: its frames are spared until the next commit
 * (pool.h says why); whether it is still whole does not matter.
 *
 * What must always be true: a frame is noted in pass 1 by the oldest generation that was walked
 * completely; every node that was skipped because it had been seen was seen in a complete walk.
 */
#include "core/pool/pool.h"

#include <errno.h>
#include <string.h>
#include "core/pool/pool_log.h"
#include "core/pool/pool_record.h"
#include "core/pool/superblock.h"

struct loading {
    struct pool *pool;
    struct generation_entry entries[SUPERBLOCK_GENERATIONS + 1]; /* ascending numbers */
    unsigned count;
    uint64_t base;
    uint64_t base_pages;
    bool has_deltas;
};

struct loading_visit {
    struct loading *loading;
    uint64_t number;
    bool first_pass;
};

static int note(const struct loading_visit *visit, uint64_t frame)
{
    struct frames *frames = visit->loading->pool->frames;
    uint64_t base = visit->loading->base;

    if (visit->first_pass)
        return frames_note_first(frames, frame, visit->number);
    return frames_note_last(frames, frame, visit->number == base ? 0 : visit->number);
}

static int visit_frame(void *context, uint64_t frame, int level)
{
    const struct loading_visit *visit = context;
    int status;

    if (level == INDEX_LEVEL_PAGE && !visit->first_pass && visit->number == visit->loading->base)
        visit->loading->base_pages++;
    status = note(visit, frame);
    return status == 1 && visit->loading->has_deltas ? 0 : status;
}

/* A record is dead from the start: no later generation refers to it. */
static int note_record(const struct loading_visit *visit, const struct generation_entry *entry)
{
    struct frames *frames = visit->loading->pool->frames;
    uint64_t end = entry->record_frame + (entry->record_bytes + FRAME_BYTES - 1) / FRAME_BYTES;
    int status = 0;

    for (uint64_t frame = entry->record_frame; status >= 0 && frame < end; frame++) {
        if (visit->first_pass)
            status = frames_note_first(frames, frame, entry->number);
        else
            status = frames_note_last(frames, frame, entry->number);
    }
    return status < 0 ? status : 0;
}

static int walk_generation(struct loading *loading, const struct generation_entry *entry,
                           bool first_pass)
{
    struct pool *pool = loading->pool;
    uintptr_t mark = arena_mark(pool->arena);
    struct loading_visit visit = {loading, entry->number, first_pass};
    struct index_tree *tree;
    int status = index_open(&tree, pool->arena, pool->fd, generation_index(entry));

    if (status == 0)
        status = index_walk_frames(tree, visit_frame, &visit);
    if (status == 0)
        status = note_record(&visit, entry);
    arena_rewind(pool->arena, mark);
    return status;
}

/* --- pass 1 --- */

static bool is_listed(const struct pool *pool, uint64_t number)
{
    return number > 0 && pool_generation(pool, number) != NULL;
}

static void list_generations(struct loading *loading)
{
    const struct pool *pool = loading->pool;
    const struct generation_entry *previous = &pool->previous;
    bool spare = previous->number > 0 && !is_listed(pool, previous->number);

    for (uint32_t i = 0; i < pool->super.generation_count; i++) {
        if (spare && previous->number < pool->super.generations[i].number) {
            loading->entries[loading->count++] = *previous;
            spare = false;
        }
        loading->entries[loading->count++] = pool->super.generations[i];
    }
    if (spare)
        loading->entries[loading->count++] = *previous;
    for (unsigned i = 0; i < loading->count; i++)
        loading->has_deltas |= loading->entries[i].index_delta.frames > 0;
}

static int drop_damaged(struct loading *loading, unsigned at, struct problem *why)
{
    struct pool *pool = loading->pool;
    uint64_t number = loading->entries[at].number;

    frames_forget(pool->frames, number);
    loading->count--;
    memmove(&loading->entries[at], &loading->entries[at + 1],
            (loading->count - at) * sizeof loading->entries[0]);
    if (!is_listed(pool, number))
        return 0;
    problem_set(why, STATUS_DAMAGED,
                "generation %lu of pool '%s' is damaged (its index cannot be read) and is given up",
                number, pool->path);
    if (number == loading->base)
        return STATUS_DAMAGED;
    superblock_unlist(&pool->super, number);
    return 0;
}

/* What makes a generation unusable, and not the whole pool or this process. */
static bool is_damage(int status)
{
    return status == STATUS_DAMAGED || status == -EIO;
}

static int first_pass(struct loading *loading, struct problem *why)
{
    unsigned at = 0;

    while (at < loading->count) {
        int status = walk_generation(loading, &loading->entries[at], true);

        if (status == 0) {
            at++;
            continue;
        }
        if (is_damage(status))
            status = drop_damaged(loading, at, why);
        if (status < 0)
            return status;
    }
    return 0;
}

/* --- pass 2 --- */

static int second_pass(struct loading *loading)
{
    int status = 0;

    for (unsigned i = 0; status == 0 && i < loading->count; i++)
        if (loading->entries[i].number == loading->base)
            status = walk_generation(loading, &loading->entries[i], false);
    for (unsigned i = loading->count; status == 0 && i-- > 0;)
        if (loading->entries[i].number != loading->base)
            status = walk_generation(loading, &loading->entries[i], false);
    return status;
}

static int open_base(struct loading *loading)
{
    struct pool *pool = loading->pool;
    struct index_root root = {0};
    int status;

    if (loading->base != 0)
        root = generation_index(pool_generation(pool, loading->base));
    status = index_open(&pool->index, pool->arena, pool->fd, root);
    if (status == 0)
        index_know_page_count(pool->index, loading->base_pages);
    return status;
}

static int load(struct loading *loading, struct problem *why)
{
    struct pool *pool = loading->pool;
    uint64_t oldest;
    int status;

    list_generations(loading);
    pool->next_log = pool->super.log;
    oldest = loading->count > 0 ? loading->entries[0].number : pool->super.next_generation;
    status = frames_create(&pool->frames, pool->arena, &pool->persist, oldest);
    if (status == 0)
        status = pool_note_log(pool, oldest);
    if (status == 0)
        status = first_pass(loading, why);
    if (status == 0)
        status = second_pass(loading);
    if (status == 0) {
        frames_loaded(pool->frames, pool->super.next_generation - 1);
        status = open_base(loading);
    }
    if (status == 0 && loading->base != 0)
        pool_record_reserve(pool, pool_generation(pool, loading->base)->record_bytes);
    return status;
}

static void change_nothing(struct superblock *super, void *context)
{
    (void)super, (void)context;
}

/*
 * The superblock that is not valid may be a torn one, with all but one sector of it in the file,
 * and the next one to be written there may have the missing sector in common with it: torn as well,
 * it would complete the first. What that one leads to must not be overwritten before it is gone. So
 * the one in force is written over it first.
 *
 * Crash: the one in force, the copy, or that ghost itself, which is whole: what it leads to had
 * been made durable before it was written, and nothing has been written to since.
 */
static int lay_ghost(struct pool *pool, struct problem *why)
{
    int status;

    if (!pool->super_fell_back)
        return 0;
    status = pool_update(pool, change_nothing, NULL, why);
    pool->super_fell_back = true; /* still true of what is shown */
    return status;
}

int pool_load(struct pool *pool, struct arena *arena, uint64_t base, struct problem *why)
{
    struct loading loading = {.pool = pool, .base = base};
    int status;

    if (pool->mode != POOL_WRITE)
        return problem_set(why, -EINVAL, "pool '%s' is open for reading only", pool->path);
    if (base != 0 && pool_generation(pool, base) == NULL)
        return problem_set(why, STATUS_NO_GENERATION, "pool '%s' has no generation %lu", pool->path,
                           base);
    if (why != NULL)
        *why = (struct problem){0};
    pool->arena = arena;
    pool->building_bytes = 0;
    pool->reserve_frames = 0;
    status = lay_ghost(pool, why);
    if (status < 0)
        return status;
    status = load(&loading, why);
    if (status < 0) {
        pool->frames = NULL;
        pool->index = NULL;
    }
    if (status < 0 && why != NULL && why->status != status)
        problem_set(why, status, "cannot read the indexes of pool '%s': %s", pool->path,
                    status_text(status));
    return status;
}
