/*
 * pool_commit.c - a generation committed, a superblock updated. Pages are written in pool_pages.c.
 *
 * What must always be true:
 *   1. the superblock is written after all it leads to is durable, and counts only when it is
 *      durable itself;
 *   2. it is written over the one that is not in force;
 *   3. frames of a generation are free only after the superblock that no longer lists it is
 *      durable, and nobody can take up reading it from before that superblock is written.
 */
#include "core/pool/pool.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/pool/mutant.h"
#include "core/pool/pool_lock.h"
#include "core/pool/pool_record.h"
#include "core/pool/superblock.h"

#define ROOM_KEEP_MIN 3 /* pool_make_room() leaves two at least */

/* --- which generations are kept --- */

enum keep_reason {
    KEEP_NOT,
    KEEP_BY_COUNT, /* among the N newest: yields when the list is full */
    KEEP_PINNED,
    KEEP_LOCKED,
};

/* One attempt at a commit. */
struct commit {
    struct superblock next;
    uint64_t dropping[SUPERBLOCK_GENERATIONS]; /* write-locked until the commit has ended */
    unsigned dropping_count;
    uint64_t record_frame, record_frames; /* taken, not yet in a durable generation */
};

static void choose_by_count(const struct superblock *super, uint32_t new_kind,
                            enum keep_reason reasons[SUPERBLOCK_GENERATIONS])
{
    uint32_t crash_left = new_kind == GENERATION_CRASH ? 0 : 1;
    uint32_t left = super->keep - (new_kind == GENERATION_CRASH ? 0 : 1);

    for (uint32_t i = super->generation_count; i-- > 0;) {
        bool crash = super->generations[i].kind == GENERATION_CRASH;
        uint32_t *budget = crash ? &crash_left : &left;

        reasons[i] = *budget > 0 ? KEEP_BY_COUNT : KEEP_NOT;
        *budget -= *budget > 0;
        if (super->generations[i].flags & GENERATION_PINNED)
            reasons[i] = KEEP_PINNED;
    }
}

/* Nobody may begin to read what is dropped; what somebody reads is kept. */
static void try_drop(struct pool *pool, struct commit *commit, uint32_t i, enum keep_reason *reason)
{
    uint64_t number = pool->super.generations[i].number;

    if (!pool_begin_drop(pool, number)) {
        *reason = KEEP_LOCKED;
        return;
    }
    *reason = KEEP_NOT;
    commit->dropping[commit->dropping_count++] = number;
}

/* The list must have room for the new generation: the oldest that are kept by count go first. */
static void make_room(struct pool *pool, struct commit *commit,
                      enum keep_reason reasons[SUPERBLOCK_GENERATIONS])
{
    uint32_t count = pool->super.generation_count;

    for (uint32_t i = 0; i < count; i++)
        if (reasons[i] == KEEP_NOT)
            try_drop(pool, commit, i, &reasons[i]);
    for (uint32_t i = 0; i < count; i++)
        if (reasons[i] == KEEP_BY_COUNT && count - commit->dropping_count >= SUPERBLOCK_GENERATIONS)
            try_drop(pool, commit, i, &reasons[i]);
}

static void unlock_dropped(const struct pool *pool, struct commit *commit)
{
    for (unsigned i = 0; i < commit->dropping_count; i++)
        pool_end_drop(pool, commit->dropping[i]);
    commit->dropping_count = 0;
}

/* Fills commit->next's list with what is kept of the present one. */
static int choose_kept(struct pool *pool, struct commit *commit, uint32_t new_kind,
                       struct problem *why)
{
    enum keep_reason reasons[SUPERBLOCK_GENERATIONS] = {KEEP_NOT};
    const struct superblock *present = &pool->super;
    struct superblock *next = &commit->next;

    choose_by_count(present, new_kind, reasons);
    make_room(pool, commit, reasons);
    next->generation_count = 0;
    memset(next->generations, 0, sizeof next->generations);
    for (uint32_t i = 0; i < present->generation_count; i++)
        if (reasons[i] != KEEP_NOT)
            next->generations[next->generation_count++] = present->generations[i];
    if (next->generation_count < SUPERBLOCK_GENERATIONS)
        return 0;
    return problem_set(why, STATUS_LIMIT,
                       "pool '%s' lists %u generations that are pinned or in use, which is the "
                       "limit: unpin some, or end the programs that read them",
                       pool->path, SUPERBLOCK_GENERATIONS);
}

/* Tells the frames what is kept. The generation that was the newest before this commit, crash
 * images apart, is spared even when it was dropped (N = 1): the superblock before the new one leads
 * to it. */
static void keep_frames(struct pool *pool, const struct superblock *next, uint64_t previous_newest)
{
    uint64_t numbers[SUPERBLOCK_GENERATIONS + 1];
    unsigned count = 0;

    for (uint32_t i = 0; i < next->generation_count; i++) {
        uint64_t number = next->generations[i].number;

        if (previous_newest > 0 && previous_newest < number)
            numbers[count++] = previous_newest;
        if (previous_newest <= number)
            previous_newest = 0;
        numbers[count++] = number;
    }
    frames_keep(pool->frames, numbers, count);
}

/* --- the steps --- */

static int release_run(struct pool *pool, uint64_t first, uint64_t end)
{
    int status = 0;

    for (uint64_t frame = first; status == 0 && frame < end; frame++)
        status = frames_release(pool->frames, frame);
    return status;
}

static int write_record(struct pool *pool, struct commit *commit, struct generation_entry *entry,
                        const void *record, size_t record_bytes)
{
    int status = pool_record_write(pool, entry, record, record_bytes, &commit->record_frames);

    commit->record_frame = entry->record_frame;
    return status;
}

/*
 * Step 1: index and record (pages were written before, by pool_write_pages()).
 *
 * Crash: the superblock in force lists none of this; all of it went to frames that no listed
 * generation refers to. The old generation is the newest.
 */
static int write_image(struct pool *pool, struct commit *commit, struct generation_entry *entry,
                       const void *record, size_t record_bytes)
{
    struct index_root root;
    int status =
        index_write(pool->index, pool->frames, &pool->persist, &root, &pool->building_bytes);

    entry->index_root = root.node;
    entry->index_delta = root.delta;
    if (status == 0 && !POOL_MUTANT(MUTANT_RECORD_AFTER_SYNC))
        status = write_record(pool, commit, entry, record, record_bytes);
    return status;
}

/*
 * Step 2: all that the new superblock will lead to becomes durable, the file's new length too.
 *
 * Crash: as in step 1. If the sync fails nothing is known of what was written; the pool stays
 * failed, and the old superblock leads to none of it.
 */
static int sync_image(struct pool *pool)
{
    if (POOL_MUTANT(MUTANT_SUPERBLOCK_BEFORE_SYNC))
        return 0;
    return persist_sync(&pool->persist);
}

static void complete_entry(struct pool *pool, struct commit *commit, struct generation_entry *entry)
{
    struct superblock *next = &commit->next;

    entry->number = next->next_generation++;
    entry->page_count = index_page_count(pool->index);
    entry->written_bytes = pool->building_bytes;
    entry->reserved0 = 0;
    next->generations[next->generation_count++] = *entry;
    next->frame_count = pool->persist.file_bytes >> FRAME_SHIFT;
    if (pool->next_log.extent_count > 0) {
        next->log = pool->next_log;
        next->log.generation = entry->number;
        if (pool->next_log_has_lanes)
            next->format_version = POOL_FORMAT_LANES;
    }
    next->sequence++;
    superblock_seal(next);
}

/*
 * Step 3: the superblock goes to the place of the one before the present one.
 *
 * Crash: torn, its checksum is wrong, and the present one is in force; whole, it is in force, and
 * all it leads to has been durable since step 2.
 */
static int write_superblock(struct pool *pool, const struct superblock *next)
{
    if (POOL_MUTANT(MUTANT_ONE_SUPERBLOCK_SLOT))
        return persist_write(&pool->persist, 0, next, sizeof *next);
    return superblock_write(&pool->persist, next);
}

/*
 * Step 4: the superblock becomes durable; only now may the caller say "committed".
 *
 * Crash: the new generation is the newest.
 */
static int sync_superblock(struct pool *pool)
{
    if (POOL_MUTANT(MUTANT_NO_FINAL_SYNC))
        return 0;
    return persist_sync(&pool->persist);
}

/*
 * Step 5: memory follows. Frames of dropped generations become free; they are written from the
 * next generation on, when the superblock that dropped them has long been durable. The record's
 * frames belong to this generation alone.
 */
static int adopt(struct pool *pool, struct commit *commit)
{
    const struct generation_entry *before = superblock_newest_kept(&pool->super);
    uint64_t previous_newest = before != NULL ? before->number : 0;
    int status;

    pool->super = commit->next;
    pool->super_fell_back = false;
    pool->file_frames = pool->super.frame_count;
    pool->building_bytes = 0;
    frames_committed(pool->frames, pool->super.next_generation - 1);
    index_committed(pool->index);
    status = release_run(pool, commit->record_frame, commit->record_frame + commit->record_frames);
    keep_frames(pool, &pool->super, previous_newest);
    pool_record_reserve(pool, pool_generation(pool, 0)->record_bytes);
    return status;
}

/* What belongs to this generation alone and not to the next one. */
static int release_written(struct pool *pool, const struct commit *commit)
{
    int status = index_uncommitted(pool->index, pool->frames);

    return status < 0 ? status
                      : release_run(pool, commit->record_frame,
                                    commit->record_frame + commit->record_frames);
}

/* Steps 3 and 4 failed: the new superblock may be in the file or not, and become durable by a later
 * sync or not. Treated as if it were durable: its frames are not building any more, and its number
 * is not used again; the old one is still in force, and the next attempt writes over this one. */
static int disown(struct pool *pool, struct commit *commit)
{
    frames_committed(pool->frames, commit->next.next_generation - 1);
    pool->super.next_generation = commit->next.next_generation;
    superblock_seal(&pool->super);
    return release_written(pool, commit);
}

static int explain_commit(const struct pool *pool, int status, const char *what,
                          struct problem *why)
{
    if (status == -ENOSPC || status == -EDQUOT || status == -EFBIG)
        return problem_set(why, status,
                           "cannot %s pool '%s': %s; the last generation stays, make room and the "
                           "next attempt goes on",
                           what, pool->path, status_text(status));
    if (status == -ESTALE)
        return problem_set(
            why, status,
            "cannot %s pool '%s': the file was truncated by another process; no more "
            "is written to it: start the program with another pool",
            what, pool->path);
    if (pool->persist.failed)
        return problem_set(why, status,
                           "cannot %s pool '%s': making it durable failed (%s); the last "
                           "generation stays, no more are written before the pool is opened anew",
                           what, pool->path, status_text(status));
    return problem_set(why, status, "cannot %s pool '%s': %s; the last generation stays", what,
                       pool->path, status_text(status));
}

static int publish(struct pool *pool, struct commit *commit)
{
    int status;

    status = write_superblock(pool, &commit->next);
    if (status == 0)
        status = sync_superblock(pool);
    if (status == 0)
        return adopt(pool, commit);
    return disown(pool, commit) < 0 ? STATUS_DAMAGED : status;
}

int pool_commit(struct pool *pool, struct generation_entry *entry, const void *record,
                size_t record_bytes, struct problem *why)
{
    struct commit commit = {.next = pool->super};
    int status = choose_kept(pool, &commit, entry->kind, why);

    if (status < 0)
        goto out;
    if (POOL_MUTANT(MUTANT_DROPPED_REUSED_EARLY))
        keep_frames(pool, &commit.next, 0);
    status = write_image(pool, &commit, entry, record, record_bytes);
    if (status == 0)
        status = sync_image(pool);
    if (status == 0 && POOL_MUTANT(MUTANT_RECORD_AFTER_SYNC))
        status = write_record(pool, &commit, entry, record, record_bytes);
    if (status == 0) {
        complete_entry(pool, &commit, entry);
        if (!superblock_is_valid(&commit.next)) /* nobody could open it */
            status = -EINVAL;
    }
    if (status == 0)
        status = publish(pool, &commit);
    else if (release_written(pool, &commit) < 0)
        status = STATUS_DAMAGED;
    if (status < 0)
        explain_commit(pool, status, "write a generation to", why);
out:
    unlock_dropped(pool, &commit);
    return status;
}

/*
 * The next commit's step 5 before its step 1: the superblock that no longer lists what that commit
 * will drop.
 *
 * Crash: torn, the present superblock is in force, and nothing of what it lists has been touched;
 * whole, one generation fewer than N is listed. Frames are free when it is durable.
 */
int pool_make_room(struct pool *pool, struct problem *why)
{
    struct commit commit = {.next = pool->super};
    int status = 0;

    if (pool->super.keep < ROOM_KEEP_MIN)
        return 0;
    status = choose_kept(pool, &commit, GENERATION_PROCESS, why);
    if (status < 0 || commit.dropping_count == 0)
        goto out;
    commit.next.sequence++;
    superblock_seal(&commit.next);
    status = superblock_write(&pool->persist, &commit.next);
    if (status == 0)
        status = persist_sync(&pool->persist);
    if (status < 0) {
        explain_commit(pool, status, "drop old generations of", why);
        goto out;
    }
    pool->super = commit.next;
    pool->super_fell_back = false;
    keep_frames(pool, &pool->super, 0);
out:
    unlock_dropped(pool, &commit);
    return status;
}

int pool_update(struct pool *pool, pool_edit *edit, void *context, struct problem *why)
{
    struct superblock next = pool->super;
    int status;

    edit(&next, context);
    next.sequence = pool->super.sequence + 1;
    superblock_seal(&next);
    if (!superblock_is_valid(&next))
        return problem_set(why, -EINVAL,
                           "an update of the superblock of pool '%s' is not valid: a value is out "
                           "of its limits",
                           pool->path);
    status = superblock_write(&pool->persist, &next);
    if (status == 0)
        status = persist_sync(&pool->persist);
    if (status < 0)
        return explain_commit(pool, status, "update the superblock of", why);
    pool->super = next;
    pool->super_fell_back = false;
    return 0;
}
