/*
 * verify.c - see verify.h. Pages whose frames follow one another are read in one piece. Of the
 * program's memory nothing is touched but page tables: what the program has put there meanwhile
 * stays, where it maps nothing any more nothing comes, and what would fail is left to the program.
 */
#include "core/agent/verify.h"

#include <errno.h>

#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"

#define VERIFY_FRAMES 256u
#define STEP_FRAMES   2048u  /* 8 MiB: about two milliseconds from the page cache */
#define BLOCK_PAGES   16384u /* 64 MiB: looked at forwards, from the last block to the first */

#define MAP_IN_PAGES 512u /* of one call: a fraction of a millisecond */

/* Pages with frames in a row. */
struct frame_run {
    uint64_t pages[VERIFY_FRAMES];
    uint64_t checksums[VERIFY_FRAMES];
    uint64_t first;
    uint32_t count;
};

int verify_begin(struct verification *verification, struct arena *arena, uint32_t slot)
{
    verification->frames = arena_alloc(arena, VERIFY_FRAMES * FRAME_BYTES, PAGE_BYTES);
    if (!verification->frames)
        return -ENOMEM;
    verification->first = SLOT_BASE(slot) >> PAGE_SHIFT;
    verification->block = verification->first + (SLOT_BYTES >> PAGE_SHIFT);
    verification->page = verification->end = verification->block;
    verification->maps_in = true;
    return 0;
}

/* The next block, counted from the end. */
static void next_block(struct verification *verification)
{
    verification->end = verification->block;
    verification->block -= BLOCK_PAGES;
    verification->page = verification->block;
}

/* The next run from verification->page on; count 0 at the end of the block. */
static int next_run(struct verification *verification, const struct pool *pool,
                    struct frame_run *run)
{
    run->first = FRAME_NONE;
    run->count = 0;
    while (run->count < VERIFY_FRAMES) {
        struct index_entry entry;
        uint64_t page;
        int found = index_next(pool->index, verification->page, verification->end, &page, &entry);

        if (found < 0)
            return found;
        if (found == 0)
            page = verification->end;
        if (found && entry.frame >= FRAME_FIRST) {
            if (run->count && entry.frame != run->first + run->count)
                break;
            if (run->count == 0)
                run->first = entry.frame;
            run->pages[run->count] = page;
            run->checksums[run->count++] = entry.checksum;
        }
        verification->page = found ? page + 1 : page;
        if (!found)
            break;
    }
    return 0;
}

static int compare(const struct verification *verification, const struct pool *pool,
                   const struct frame_run *run, struct problem *why)
{
    int status = sys_pread_all(pool->fd, verification->frames, run->count * FRAME_BYTES,
                               run->first * FRAME_BYTES);

    if (status < 0)
        return problem_set(why, STATUS_DAMAGED, "frame %lu or one of %u behind it: %s",
                           (unsigned long)run->first, run->count, status_text(status));
    for (uint32_t i = 0; i < run->count; i++)
        if (checksum64(verification->frames + i * FRAME_BYTES, FRAME_BYTES) != run->checksums[i])
            return problem_set(
                why, STATUS_DAMAGED, "frame %lu (page at %lx) has the wrong checksum",
                (unsigned long)(run->first + i), (unsigned long)(run->pages[i] << PAGE_SHIFT));
    return 0;
}

static void map_in(struct verification *verification)
{
    uint64_t pages = verification->map_end - verification->map_first;

    if (pages > 0 && verification->maps_in &&
        sys_madvise((void *)(verification->map_first << PAGE_SHIFT), pages << PAGE_SHIFT,
                    MADV_POPULATE_READ) == -EINVAL)
        verification->maps_in = false; /* before Linux 5.14 */
    verification->map_first = verification->map_end;
}

/* Notes the run's pages, and maps in what they are no neighbours of, or all there is at the end of
 * a block. */
static void map_in_run(struct verification *verification, const struct frame_run *run)
{
    for (uint32_t i = 0; i < run->count; i++) {
        if (run->pages[i] != verification->map_end ||
            verification->map_end - verification->map_first == MAP_IN_PAGES) {
            map_in(verification);
            verification->map_first = run->pages[i];
        }
        verification->map_end = run->pages[i] + 1;
    }
    if (verification->page == verification->end)
        map_in(verification);
}

int verify_step(struct verification *verification, const struct pool *pool, struct problem *why)
{
    struct frame_run run;
    uint32_t done = 0;
    int status = 0;

    while (status == 0 && done < STEP_FRAMES && verify_is_under_way(verification)) {
        if (verification->page == verification->end)
            next_block(verification);
        status = next_run(verification, pool, &run);
        if (status < 0)
            return problem_set(why, STATUS_DAMAGED, "the index: %s", status_text(status));
        status = compare(verification, pool, &run, why);
        if (status == 0)
            map_in_run(verification, &run);
        done += run.count;
    }
    return status;
}
