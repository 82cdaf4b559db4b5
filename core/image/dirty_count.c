/*
 * dirty_count.c - about how much was written since the last cut, without changing anything.
 *
 * The question of a pre-copy round, only that nothing is protected: what was written in registered
 * mappings, and everything in mappings that are new. As many pages as the last round found in
 * mappings that are never registered are subtracted. By soft-dirty bits: what they say.
 */
#include "core/image/image_writer.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"
#include "core/image/writer_state.h"

#define STATM_BYTES 128

struct count {
    uint64_t pages, limit;
    uint64_t passed; /* pages before this one have been reported (a run may be told twice) */
};

struct counting {
    struct image_writer *writer;
    struct count count;
};

/* Ends the scan when there are enough. */
static int count_run(void *context, const struct page_run *run)
{
    struct count *count = context;
    uint64_t first = run->page > count->passed ? run->page : count->passed;

    if (first < run->end) {
        count->pages += run->end - first;
        count->passed = run->end;
    }
    return count->pages >= count->limit ? -ECANCELED : 0;
}

static int count_soft_dirty_run(void *context, const struct page_run *run)
{
    return run->flags & RUN_ABSENT ? 0 : count_run(context, run);
}

static int count_group(void *context, const struct tracker_group *group)
{
    struct counting *counting = context;
    struct tracker *tracker = &counting->writer->tracker;

    if (tracker->way == TRACKING_SOFT_DIRTY)
        return pagemap_soft_dirty(&tracker->pagemap, group->start, group->end, group->backing,
                                  false, count_soft_dirty_run, &counting->count);
    return pagemap_look_written(&tracker->pagemap, group->start, group->end, group->backing,
                                count_run, &counting->count);
}

static uint64_t number_at(const char **text)
{
    uint64_t value = 0;

    while (**text == ' ')
        (*text)++;
    for (; **text >= '0' && **text <= '9'; (*text)++)
        value = value * 10 + (uint64_t)(**text - '0');
    return value;
}

/* Pages of anonymous memory. */
uint64_t writer_resident_pages(void)
{
    char text[STATM_BYTES];
    const char *at = text;
    uint64_t resident, shared;

    if (sys_read_file("/proc/self/statm", text, sizeof text) <= 0)
        return 0;
    (void)number_at(&at);
    resident = number_at(&at);
    shared = number_at(&at);
    return resident > shared ? resident - shared : 0;
}

static int64_t growth(const struct image_writer *writer)
{
    uint64_t now = writer_resident_pages();

    return now > writer->resident_pages ? (int64_t)(now - writer->resident_pages) : 0;
}

int64_t image_writer_count_dirty(struct image_writer *writer, struct address_space *space,
                                 uint64_t limit)
{
    uint64_t untracked = writer->tracker.untracked_pages;
    struct counting counting = {writer, {0, limit + untracked, 0}};
    int status;

    writer->is_counted = true;
    if (writer->tracker.way == TRACKING_CHECKSUM)
        return growth(writer);
    status = pagemap_refresh(&writer->tracker.pagemap);
    if (status < 0)
        return status;
    arena_rewind(&writer->maps_arena, writer->maps_arena.base);
    status = maps_read(space, "/proc/self/maps", &writer->maps_arena);
    if (status == 0)
        status = writer->tracker.way == TRACKING_SOFT_DIRTY
                     ? tracker_each_group(&writer->tracker, space, count_group, &counting)
                     : tracker_each_backing(space, count_group, &counting);
    if (status < 0 && status != -ECANCELED)
        return status;
    return counting.count.pages > untracked ? (int64_t)(counting.count.pages - untracked) : 0;
}
