/*
 * verify.c - see verify.h. Pages whose frames follow one another are read in one piece. Of the
 * program's memory nothing is touched but page tables: what the program has put there meanwhile
 * stays, where it maps nothing any more nothing comes, and what would fail is left to the program.
 */
#include "core/agent/verify.h"

#include <errno.h>
#include <fcntl.h>

#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"

#define VERIFY_FRAMES 256u
#define STEP_FRAMES   2048u  /* 8 MiB: about two milliseconds from the page cache */
#define BLOCK_PAGES   16384u /* 64 MiB: looked at forwards, from the last block to the first */

/* With a page the kernel maps in most of what lies around it and is in the page cache, an aligned
 * piece of this size; but nothing on DAX, where there is no page cache. */
#define AROUND_PAGES 16u

/* Bits of an entry of /proc/self/pagemap. */
#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)

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
    verification->memory = sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
    verification->pagemap = sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    return 0;
}

void verify_end(struct verification *verification)
{
    verification->block = verification->first;
    verification->page = verification->end;
    if (verification->memory >= 0)
        sys_close(verification->memory);
    if (verification->pagemap >= 0)
        sys_close(verification->pagemap);
    verification->memory = verification->pagemap = -1;
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

/*
 * Reads a byte, if the page can be read. Through /proc/self/mem, where a page that waits for a
 * userfaultfd of the program's own is refused: MADV_POPULATE_READ, and any other read, waits until
 * the program has filled it, which may be for ever.
 */
static void touch(const struct verification *verification, uint64_t page)
{
    char byte;

    (void)sys_pread(verification->memory, &byte, 1, page << PAGE_SHIFT);
}

/* One page for those around it, then those that were left out. */
static void map_in(const struct verification *verification, uint64_t page, uint32_t count)
{
    uint64_t entries[VERIFY_FRAMES], end = page + count;
    long bytes = (long)(count * sizeof entries[0]);

    for (uint64_t at = page; at < end; at = (at / AROUND_PAGES + 1) * AROUND_PAGES)
        touch(verification, at);
    if (sys_pread(verification->pagemap, entries, (size_t)bytes, page * sizeof entries[0]) != bytes)
        return;
    for (uint32_t i = 0; i < count; i++)
        if ((entries[i] & (PRESENT | SWAPPED)) == 0)
            touch(verification, page + i);
}

static void map_in_run(const struct verification *verification, const struct frame_run *run)
{
    uint32_t first = 0;

    for (uint32_t i = 1; i <= run->count && verification->memory >= 0; i++)
        if (i == run->count || run->pages[i] != run->pages[i - 1] + 1) {
            map_in(verification, run->pages[first], i - first);
            first = i;
        }
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
    if (status == 0 && !verify_is_under_way(verification))
        verify_end(verification);
    return status;
}
