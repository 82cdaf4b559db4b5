/*
 * pool_pin.c - generations are pinned, unpinned, dropped by name, gone back to, and given up.
 *
 * What must always be true:
 *   1. frames of a dropped generation are free, and lose their space, only after neither superblock
 *      lists it: nobody can fall back to one that leads to them;
 *   2. nobody begins to read a generation while it is dropped, and one that somebody reads or has
 *      mapped is not dropped;
 *   3. what would be resumed is never dropped, unless another one is resumed instead from the
 *      same superblock on, or it is not whole.
 */
#include "core/pool/pool.h"

#include "core/pool/pool_lock.h"
#include "core/pool/pool_log.h"
#include "core/pool/superblock.h"

#define MARGIN_FRAMES_MIN (16u << (20 - FRAME_SHIFT)) /* what a pool grows by at least */

static int no_generation(const struct pool *pool, uint64_t number, struct problem *why)
{
    return problem_set(why, STATUS_NO_GENERATION,
                       "pool '%s' has no generation %lu; `pheap inspect POOL generations` lists "
                       "what it has",
                       pool->path, number);
}

static uint32_t pinned_count(const struct superblock *super)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < super->generation_count; i++)
        count += (super->generations[i].flags & GENERATION_PINNED) != 0;
    return count;
}

struct pinning {
    uint64_t number;
    bool pinned;
};

static void set_pinned(struct superblock *super, void *context)
{
    const struct pinning *pinning = context;

    for (uint32_t i = 0; i < super->generation_count; i++) {
        struct generation_entry *entry = &super->generations[i];

        if (entry->number != pinning->number)
            continue;
        entry->flags &= ~(uint32_t)GENERATION_PINNED;
        entry->flags |= pinning->pinned ? GENERATION_PINNED : 0;
    }
}

int pool_pin(struct pool *pool, uint64_t number, bool pinned, struct problem *why)
{
    const struct generation_entry *entry = number ? pool_generation(pool, number) : NULL;
    struct pinning pinning = {number, pinned};

    if (entry == NULL)
        return no_generation(pool, number, why);
    if (pinned == ((entry->flags & GENERATION_PINNED) != 0))
        return 0;
    if (pinned && pinned_count(&pool->super) >= POOL_PINNED_MAX)
        return problem_set(why, STATUS_LIMIT,
                           "pool '%s' has %u pinned generations, which is the limit: unpin one "
                           "first (pheap recover --unpin)",
                           pool->path, POOL_PINNED_MAX);
    return pool_update(pool, set_pinned, &pinning, why);
}

/* --- dropping --- */

static bool would_be_resumed(const struct superblock *super, uint64_t number)
{
    uint64_t newest = 0;

    for (uint32_t i = 0; i < super->generation_count; i++)
        if (super->generations[i].kind == GENERATION_PROCESS &&
            super->generations[i].number >= super->run_first_generation)
            newest = super->generations[i].number;
    return super->run_state == RUN_STARTED && newest == number;
}

static int check_drop(const struct pool *pool, uint64_t number, struct problem *why)
{
    const struct generation_entry *entry = number ? pool_generation(pool, number) : NULL;

    if (entry == NULL)
        return no_generation(pool, number, why);
    if (entry->flags & GENERATION_PINNED)
        return problem_set(why, STATUS_REFUSED,
                           "generation %lu of pool '%s' is pinned: unpin it first", number,
                           pool->path);
    if (would_be_resumed(&pool->super, number))
        return problem_set(why, STATUS_REFUSED,
                           "generation %lu of pool '%s' is the one that its program would go on "
                           "from; `pheap run --fresh` gives it up",
                           number, pool->path);
    if (pool->super.log.extent_count > 0 && pool->super.log.generation == number)
        return problem_set(why, STATUS_REFUSED,
                           "generation %lu of pool '%s' is the one that its heap's log follows, "
                           "nothing is dropped: drop an older one",
                           number, pool->path);
    return 0;
}

static void unlist(struct superblock *super, void *context)
{
    superblock_unlist(super, *(const uint64_t *)context);
}

/* Twice what the newest generation took, so that those to come find room even on a full disk. */
static uint64_t margin_frames(const struct superblock *super)
{
    const struct generation_entry *newest = superblock_newest_kept(super);
    uint64_t frames = newest ? 2 * (newest->written_bytes >> FRAME_SHIFT) : 0;

    return frames > MARGIN_FRAMES_MIN ? frames : MARGIN_FRAMES_MIN;
}

static void free_frames(struct pool *pool)
{
    uint64_t numbers[SUPERBLOCK_GENERATIONS];

    for (uint32_t i = 0; i < pool->super.generation_count; i++)
        numbers[i] = pool->super.generations[i].number;
    frames_keep(pool->frames, numbers, pool->super.generation_count);
    (void)frames_give_back(pool->frames, margin_frames(&pool->super));
}

/*
 *   1. the superblock without the generation is written and synced     (crash: with it or without)
 *   2. once more, over the one that still lists it, and synced         (crash: without it)
 *   3. in memory: its frames become free, and long runs of free ones lose their space
 *                                                                      (crash: holes where no
 *                                                                       superblock leads to)
 * A failure of 2 leaves it dropped; its frames become free with the next commit.
 */
int pool_drop(struct pool *pool, uint64_t number, struct problem *why)
{
    int status = check_drop(pool, number, why);

    if (status < 0)
        return status;
    if (!pool_begin_drop(pool, number))
        return problem_set(why, STATUS_IN_USE,
                           "generation %lu of pool '%s' is being read, or mapped by a program that "
                           "went on from it",
                           number, pool->path);
    for (int i = 0; i < 2 && status == 0; i++)
        status = pool_update(pool, unlist, &number, why);
    if (status == 0)
        free_frames(pool);
    pool_end_drop(pool, number);
    return status;
}

/* --- going back --- */

static bool is_newer(const struct generation_entry *entry, uint64_t number)
{
    return entry->number > number;
}

static int check_rollback(const struct pool *pool, uint64_t number, struct problem *why)
{
    const struct generation_entry *entry = number ? pool_generation(pool, number) : NULL;

    if (entry == NULL)
        return no_generation(pool, number, why);
    if (entry->kind == GENERATION_CRASH)
        return problem_set(why, STATUS_REFUSED,
                           "generation %lu of pool '%s' is the memory of a program that died: "
                           "nothing can go on from it; name another one",
                           number, pool->path);
    for (uint32_t i = 0; i < pool->super.generation_count; i++)
        if (is_newer(&pool->super.generations[i], number) &&
            pool->super.generations[i].flags & GENERATION_PINNED)
            return problem_set(why, STATUS_REFUSED,
                               "generation %lu of pool '%s' is newer, and pinned: unpin it first",
                               pool->super.generations[i].number, pool->path);
    return 0;
}

struct going_back {
    uint64_t number;
    struct log_place log; /* without extents: as it is */
    uint64_t file_frames; /* with it */
};

/* What is listed with a log that pool_make_log() has made. */
static void set_log(struct superblock *super, const struct log_place *log, uint64_t file_frames)
{
    if (log->extent_count == 0)
        return;
    super->log = *log;
    super->frame_count = file_frames;
}

/* The run goes on from this generation, though it may have ended since, or be an earlier one. */
static void go_back(struct superblock *super, void *context)
{
    const struct going_back *back = context;
    uint64_t number = back->number;

    set_log(super, &back->log, back->file_frames);

    while (super->generation_count > 0 &&
           is_newer(&super->generations[super->generation_count - 1], number))
        superblock_unlist(super, super->generations[super->generation_count - 1].number);
    if (super->generations[super->generation_count - 1].kind == GENERATION_PROCESS) {
        super->run_state = RUN_STARTED;
        super->end_status = 0;
    }
    if (super->run_first_generation > number)
        super->run_first_generation = number;
    super->resumed_generation = 0;
    super->resume_count = 0;
}

/* How many of these nobody can begin to read now: all of them, or somebody reads one. */
static uint32_t begin_drops(const struct pool *pool, const uint64_t *numbers, uint32_t count,
                            struct problem *why)
{
    for (uint32_t i = 0; i < count; i++) {
        if (pool_begin_drop(pool, numbers[i]))
            continue;
        problem_set(why, STATUS_IN_USE,
                    "generation %lu of pool '%s' would be given up, and is being read", numbers[i],
                    pool->path);
        return i;
    }
    return count;
}

/* As pool_drop() does it, for all that are newer in one superblock: a crash leaves all of them or
 * none. */
int pool_rollback(struct pool *pool, uint64_t number, struct problem *why)
{
    const struct pool_new_log nothing = {0};
    struct going_back back = {.number = number};
    uint64_t newer[SUPERBLOCK_GENERATIONS];
    uint32_t count = 0, locked;
    int status = check_rollback(pool, number, why);

    if (status == 0 && pool->super.log.extent_count > 0)
        status = pool_make_log(pool, number, &nothing, &back.log, why);
    if (status < 0)
        return status;
    back.file_frames = pool->persist.file_bytes >> FRAME_SHIFT;
    for (uint32_t i = 0; i < pool->super.generation_count; i++)
        if (is_newer(&pool->super.generations[i], number))
            newer[count++] = pool->super.generations[i].number;
    locked = begin_drops(pool, newer, count, why);
    if (locked < count)
        status = STATUS_IN_USE;
    for (int i = 0; i < 2 && status == 0; i++)
        status = pool_update(pool, go_back, &back, why);
    if (status == 0)
        free_frames(pool);
    while (locked-- > 0)
        pool_end_drop(pool, newer[locked]);
    return status;
}

/* --- giving up --- */

struct giving_up {
    const uint64_t *numbers;
    uint32_t count;
    uint64_t file_frames;
    struct log_place log; /* without extents: as it is */
};

static void give_up(struct superblock *super, void *context)
{
    const struct giving_up *giving_up = context;
    uint64_t present = giving_up->file_frames < FRAME_FIRST ? FRAME_FIRST : giving_up->file_frames;

    for (uint32_t i = 0; i < giving_up->count; i++)
        superblock_unlist(super, giving_up->numbers[i]);
    if (super->frame_count > present)
        super->frame_count = present;
    set_log(super, &giving_up->log, giving_up->file_frames);
}

/* The newest generation that is not given up; 0: none. */
static uint64_t newest_left(const struct superblock *super, const uint64_t *numbers, uint32_t count)
{
    struct superblock left = *super;

    for (uint32_t i = 0; i < count; i++)
        superblock_unlist(&left, numbers[i]);
    return left.generation_count ? left.generations[left.generation_count - 1].number : 0;
}

int pool_give_up(struct pool *pool, const uint64_t *numbers, uint32_t count,
                 const struct pool_new_log *log, struct problem *why)
{
    struct giving_up giving_up = {.numbers = numbers, .count = count};
    uint32_t locked = begin_drops(pool, numbers, count, why);
    int status = locked < count ? STATUS_IN_USE : 0;

    giving_up.file_frames = pool->file_frames;
    if (status == 0 && log != NULL) {
        status = pool_make_log(pool, newest_left(&pool->super, numbers, count), log, &giving_up.log,
                               why);
        giving_up.file_frames = pool->persist.file_bytes >> FRAME_SHIFT;
    }
    for (int i = 0; i < 2 && status == 0; i++)
        status = pool_update(pool, give_up, &giving_up, why);
    while (locked-- > 0)
        pool_end_drop(pool, numbers[locked]);
    return status;
}
