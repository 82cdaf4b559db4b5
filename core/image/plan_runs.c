/*
 * plan_runs.c - see plan_runs.h. The index passes by once, a leaf at a time; a page costs a few
 * nanoseconds, so what is done for each of them is a comparison.
 */
#include "core/image/plan_runs.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"
#include "core/pool/index_scan.h"

#define FIRST_LIMIT_MIN 1024u
#define FIRST_LIMIT_MAX 65536u
#define PAGES_PER_RUN   16u /* more than after many generations of random writes */

/* What is not used of it is never touched; what has to grow is copied to memory that is. */
static uint64_t first_limit(const struct image *image)
{
    uint64_t runs = image->generation.page_count / PAGES_PER_RUN;

    return runs < FIRST_LIMIT_MIN   ? FIRST_LIMIT_MIN
           : runs < FIRST_LIMIT_MAX ? runs
                                    : FIRST_LIMIT_MAX;
}

/* Room for `wanted` things in all, in *things, of which there is room for *limit. */
static int grow(const struct image *image, void **things, uint32_t *limit, size_t bytes,
                uint64_t wanted)
{
    uint64_t room = *limit ? *limit : first_limit(image);
    void *larger;

    while (room < wanted)
        room *= 2;
    if (room == *limit)
        return 0;
    if (room > PLAN_NONE / 2)
        return STATUS_LIMIT;
    larger = arena_alloc(image->arena, room * bytes, 64);
    if (!larger)
        return -ENOMEM;
    if (*limit)
        memcpy(larger, *things, *limit * bytes);
    *things = larger;
    *limit = (uint32_t)room;
    return 0;
}

static int new_run(struct planner *planner, uint64_t page, uint64_t frame, bool starts_segment)
{
    void *runs = planner->runs;
    int status =
        grow(planner->image, &runs, &planner->limit, sizeof *planner->runs, planner->count + 1ull);

    planner->runs = runs;
    if (status < 0)
        return status;
    planner->runs[planner->count++] = (struct run){.page = page,
                                                   .frame = frame,
                                                   .first_checksum = planner->checksum_count,
                                                   .starts_segment = starts_segment};
    return 0;
}

/* Keeps the checksums of pages that were added to the last run, while it is short; what was kept
 * of one that is not any more is forgotten. */
static int keep_checksums(struct planner *planner, struct run *run,
                          const struct index_entry *entries, uint64_t pages)
{
    void *checksums = planner->checksums;
    int status;

    if (run->first_checksum == PLAN_NONE)
        return 0;
    if (run->pages > planner->kept_pages) {
        planner->checksum_count = run->first_checksum;
        run->first_checksum = PLAN_NONE;
        return 0;
    }
    status = grow(planner->image, &checksums, &planner->checksum_limit, sizeof *planner->checksums,
                  planner->checksum_count + pages);
    planner->checksums = checksums;
    for (uint64_t i = 0; status == 0 && i < pages; i++)
        planner->checksums[planner->checksum_count++] = entries[i].checksum;
    return status;
}

/* Pages whose frames follow each other, or are all FRAME_ZERO. */
static int add_pages(struct planner *planner, uint64_t page, const struct index_entry *entries,
                     uint64_t pages)
{
    struct run *last = planner->count ? &planner->runs[planner->count - 1] : NULL;
    bool adjoins = last && last->page + last->pages == page;
    uint64_t frame = entries->frame;
    int status = 0;

    planner->page_count += pages;
    if (!adjoins ||
        (frame == FRAME_ZERO ? last->frame != FRAME_ZERO
                             : last->frame == FRAME_ZERO || last->frame + last->pages != frame))
        status = new_run(planner, page, frame, !adjoins);
    if (status < 0)
        return status;
    last = &planner->runs[planner->count - 1];
    last->pages += pages;
    return keep_checksums(planner, last, entries, pages);
}

struct collecting {
    struct planner *planner;
    uint64_t first_page, end_page, frames;
    uint64_t page; /* the one at hand, for the message */
    struct problem *why;
};

static int frame_beyond_file(const struct collecting *collecting, uint64_t frame)
{
    const struct image *image = collecting->planner->image;

    return problem_set(collecting->why, STATUS_DAMAGED,
                       "%s: generation %lu refers to frame %lu of a file of %lu frames",
                       image->pool->path, (unsigned long)image->generation.number,
                       (unsigned long)frame, (unsigned long)collecting->frames);
}

/* Entries that are alike at the start of the list: frames in a row, or FRAME_ZERO, or FRAME_NONE.
 */
static uint64_t count_alike(const struct index_entry *entries, uint64_t count)
{
    uint64_t step = entries->frame >= FRAME_FIRST, next = entries->frame + step, i = 1;

    for (; i < count && entries[i].frame == next; i++)
        next += step;
    return i;
}

static int collect_leaf(void *context, uint64_t first_page,
                        const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct collecting *collecting = context;
    uint64_t page = first_page > collecting->first_page ? first_page : collecting->first_page;
    uint64_t end = first_page + INDEX_NODE_ENTRIES, count;
    int status = 0;

    end = end < collecting->end_page ? end : collecting->end_page;
    for (; page < end && status >= 0; page += count) {
        const struct index_entry *first = &entries[page - first_page];
        bool has_frames = first->frame >= FRAME_FIRST;

        count = count_alike(first, end - page);
        collecting->page = page;
        if (has_frames && first->frame >= collecting->frames)
            status = frame_beyond_file(collecting, first->frame);
        else if (has_frames && count > collecting->frames - first->frame)
            status = frame_beyond_file(collecting, collecting->frames);
        else if (first->frame != FRAME_NONE)
            status = add_pages(collecting->planner, page, first, count);
    }
    return status;
}

int planner_collect(struct planner *planner, uint64_t first_page, uint64_t end_page,
                    struct problem *why)
{
    struct image *image = planner->image;
    struct collecting collecting = {.planner = planner,
                                    .first_page = first_page,
                                    .end_page = end_page,
                                    .frames = pool_frames_present(image->pool),
                                    .page = first_page,
                                    .why = why};
    int status = index_scan_leaves(image->scan, first_page, end_page, collect_leaf, &collecting);

    if (status < 0 && (why == NULL || why->status != status))
        return problem_set(why, status, "%s: cannot plan generation %lu from 0x%lx on: %s",
                           image->pool->path, (unsigned long)image->generation.number,
                           (unsigned long)(collecting.page << PAGE_SHIFT), status_text(status));
    return status;
}

/* --- what is read in --- */

/* For one run whose checksums were not kept. */
struct looking_up {
    const struct run *run;
    struct plan_fill *fills; /* of its pages */
    uint64_t found;
};

static int look_up_leaf(void *context, uint64_t first_page,
                        const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct looking_up *looking = context;
    const struct run *run = looking->run;

    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++) {
        uint64_t k = first_page + i - run->page; /* of pages before it: out of range */

        if (k >= run->pages)
            continue;
        if (entries[i].frame != looking->fills[k].entry.frame)
            return STATUS_DAMAGED;
        looking->fills[k].entry.checksum = entries[i].checksum;
        looking->found++;
    }
    return 0;
}

static int look_up_checksums(const struct planner *planner, const struct run *run,
                             struct plan_fill *fills)
{
    struct looking_up looking = {run, fills, 0};
    int status = index_scan_leaves(planner->image->scan, run->page, run->page + run->pages,
                                   look_up_leaf, &looking);

    return status == 0 && looking.found != run->pages ? STATUS_DAMAGED : status;
}

int planner_fill(const struct planner *planner, const struct run *run, struct plan_fill *fills)
{
    bool is_zero = run->frame == FRAME_ZERO, is_kept = !is_zero && run->first_checksum != PLAN_NONE;

    for (uint64_t k = 0; k < run->pages; k++) {
        fills[k].page = run->page + k;
        fills[k].entry.frame = is_zero ? FRAME_ZERO : run->frame + k;
        fills[k].entry.checksum = is_kept ? planner->checksums[run->first_checksum + k] : 0;
    }
    return is_zero || is_kept ? 0 : look_up_checksums(planner, run, fills);
}
