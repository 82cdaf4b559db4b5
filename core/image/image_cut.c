/*
 * image_cut.c - the freeze's part of image_writer.h: everything is stopped, every microsecond
 * counts. Nothing here looks at a clean page: the kernel's scans name written and absent ones, the
 * rest is copied unseen into scratch and compared when the program runs again.
 *
 * The order: unregistered mappings are found (and registered, so that stores after the freeze
 * are tracked); entries outside all saved mappings are cleared; then, group by group, written pages
 * are copied and entries of absent pages cleared; last, entries of garbage are cleared.
 */
#include <errno.h>

#include "core/base/sys.h"
#include "core/image/changed.h"
#include "core/image/file_area.h"
#include "core/image/image_writer.h"
#include "core/image/writer_state.h"

#define STEP_PAGES 1024u

struct cut {
    struct image_writer *writer;
    const struct address_space *space;
    uint64_t flags;   /* of the group at hand */
    bool suspect;     /* its pages are not known to be written: most are as the index has them */
    uint64_t covered; /* of an untracked group: pages before this one are dealt with */
    uint64_t changed_pages, max_changed_pages;
    uint64_t copy_ns;
};

static int clear(struct cut *cut, uint64_t page, uint64_t end)
{
    struct pool *pool = cut->writer->pool;
    uint64_t count = index_page_count(pool->index);
    int status = page < end ? index_clear(pool->index, pool->frames, page, end) : 0;

    cut->writer->stats.cleared_pages += count - index_page_count(pool->index);
    return status;
}

/* A marker in the place of a page (guard, poison) has no content; a page in memory must have. */
static int cut_unread(void *context, uint64_t page_and_flags)
{
    struct cut *cut = context;
    uint64_t page = page_and_flags & MEMORY_PAGE_MASK;

    return page_and_flags & MEMORY_SWAPPED ? clear(cut, page, page + 1) : -EFAULT;
}

/* Copies what is named, and makes room if there is none. */
static int cut_settle(struct cut *cut)
{
    struct image_writer *writer = cut->writer;
    struct stage *scratch = &writer->scratch;
    uint64_t start_ns = sys_clock_ns(CLOCK_MONOTONIC);
    uint64_t before = scratch->read_count;
    int status = stage_read(scratch, &writer->memory, cut_unread, cut);

    writer->stats.frozen_pages += scratch->read_count - before;
    if (status >= 0 && stage_room(scratch) == 0)
        status = writer_flush_scratch(writer, &writer->stats.freeze_written_bytes);
    cut->copy_ns += sys_clock_ns(CLOCK_MONOTONIC) - start_ns;
    return status;
}

/* A suspect page that can be looked at where it is need not be copied if the index has it. */
static int is_worth_copying(struct cut *cut, uint64_t page_and_flags)
{
    const void *data = (const void *)((page_and_flags & MEMORY_PAGE_MASK) << PAGE_SHIFT);
    uint64_t checksum = 0;

    if (!cut->suspect || !(page_and_flags & MEMORY_DIRECT))
        return 1;
    return stage_compare_one(&cut->writer->scratch, page_and_flags, data, &checksum);
}

/* Whether to go on is asked now and then: comparing a large heap in place takes long. */
static int cut_step(const struct cut *cut, uint64_t page)
{
    return page % STEP_PAGES == 0 ? writer_step(cut->writer) : 0;
}

static int cut_pages(struct cut *cut, uint64_t page, uint64_t end, uint64_t flags)
{
    struct stage *scratch = &cut->writer->scratch;
    int status = 0;

    for (; page < end && status >= 0; page++) {
        status = cut_step(cut, page);
        if (status >= 0)
            status = is_worth_copying(cut, page | flags);
        if (status <= 0)
            continue;
        stage_add(scratch, page | flags);
        if (stage_room(scratch) == 0)
            status = cut_settle(cut);
    }
    return status;
}

static int cut_run(void *context, const struct page_run *run)
{
    struct cut *cut = context;
    uint64_t flags = cut->flags, page = run->page, stop = 0;
    int status = 0;

    cut->writer->stats.candidate_pages += run->end - run->page;
    if ((run->flags & RUN_ZERO) && !(flags & MEMORY_FILE))
        return clear(cut, run->page, run->end);
    if (run->flags & RUN_SWAPPED)
        flags = (flags | MEMORY_SWAPPED) & ~MEMORY_DIRECT;
    while (status >= 0 && page_set_next_outside(&cut->writer->garbage, &page, run->end, &stop)) {
        status = cut_pages(cut, page, stop, flags);
        page = stop;
    }
    return status;
}

static int cut_absent(void *context, const struct page_run *run)
{
    return clear(context, run->page, run->end);
}

/* Nothing has been protected: what is given up here is told again. */
static int cut_changed_run(void *context, const struct page_run *run)
{
    struct cut *cut = context;

    if (run->flags & RUN_ABSENT)
        return clear(cut, run->page, run->end);
    cut->changed_pages += run->end - run->page;
    if (cut->changed_pages > cut->max_changed_pages) {
        stage_forget_named(&cut->writer->scratch);
        return STATUS_DEFERRED;
    }
    return cut_run(cut, run);
}

/* Runs of an untracked group are all that is saved: what lies between them is absent. */
static int cut_untracked_run(void *context, const struct page_run *run)
{
    struct cut *cut = context;
    int status = clear(cut, cut->covered, run->page);

    cut->covered = run->end;
    return status < 0 ? status : cut_run(cut, run);
}

/*
 * Clears absent pages of a tracked group. The question costs time by what is present, so it is
 * asked only from where the index has something; in file mappings, mostly text without any entry,
 * that is seldom.
 */
static int clear_absent(struct cut *cut, const struct tracker_group *group)
{
    struct pool *pool = cut->writer->pool;
    uint64_t end = group->end >> PAGE_SHIFT, page = group->start >> PAGE_SHIFT;
    struct index_entry entry;

    if (group->backing == BACKING_POOL)
        return 0;
    while (page < end) {
        const struct mapping *mapping = NULL;
        uint64_t found = 0, stop = group->end;
        int status = index_next(pool->index, page, end, &found, &entry);

        if (status <= 0)
            return status;
        if (group->backing == BACKING_FILE) {
            mapping = maps_find(cut->space, found << PAGE_SHIFT);
            stop = mapping ? mapping->end : group->end;
        }
        status = pagemap_absent(&cut->writer->tracker.pagemap, found << PAGE_SHIFT, stop,
                                group->backing, cut_absent, cut);
        if (status < 0)
            return status;
        page = stop >> PAGE_SHIFT;
    }
    return 0;
}

/* Compares saved pages of [page, end) that lie in the group with the index where they are. */
static int cut_compare(struct cut *cut, const struct tracker_group *group, uint64_t page,
                       uint64_t end)
{
    uint64_t start = page << PAGE_SHIFT, stop = end << PAGE_SHIFT;

    start = start > group->start ? start : group->start;
    stop = stop < group->end ? stop : group->end;
    if (start >= stop)
        return 0;
    return pagemap_saved(&cut->writer->tracker.pagemap, start, stop, group->backing, cut_run, cut);
}

/* What was left out of a tracked group as garbage, and is in use again. */
static int cut_missed(struct cut *cut, const struct tracker_group *group)
{
    uint64_t page = group->start >> PAGE_SHIFT, end = group->end >> PAGE_SHIFT, stop = 0;
    int status = 0;

    cut->suspect = true;
    for (; status >= 0 && page_set_next_inside(&cut->writer->missed, &page, end, &stop);
         page = stop)
        status = cut_compare(cut, group, page, stop);
    return status < 0 ? status : cut_settle(cut);
}

/* Compares with the index, once more, what was pre-copied of a tracked group. */
static int cut_precopied(struct cut *cut, const struct tracker_group *group)
{
    struct image_writer *writer = cut->writer;
    int status = 0;

    if (!writer->distrusts_precopy || cut->suspect)
        return 0;
    cut->suspect = true;
    for (uint32_t i = 0; i < writer->span_count && status >= 0; i++)
        status = cut_compare(cut, group, writer->spans[i].page, writer->spans[i].end);
    return status < 0 ? status : cut_settle(cut);
}

/*
 * In anonymous memory what was written and what is gone is one question. It protects nothing:
 * what is copied here counts as written in the next round too, which compares it once more.
 */
static int cut_changed(struct cut *cut, const struct tracker_group *group)
{
    struct image_writer *writer = cut->writer;
    struct pagemap *pagemap = &writer->tracker.pagemap;

    if (writer->tracker.is_quick)
        return changed_each(pagemap, group->start, group->end,
                            index_page_count(writer->pool->index), cut_changed_run, cut);
    return pagemap_changed(pagemap, group->start, group->end, cut_changed_run, cut);
}

static int cut_tracked(struct cut *cut, const struct tracker_group *group)
{
    struct image_writer *writer = cut->writer;
    struct pagemap *pagemap = &writer->tracker.pagemap;
    bool in_one = group->backing == BACKING_ZERO && !writer->suspect_all;
    int status = 0;

    if (in_one)
        status = cut_changed(cut, group);
    else
        status = pagemap_written(pagemap, group->start, group->end, group->backing,
                                 writer->suspect_all, cut_run, cut);
    if (status >= 0)
        status = cut_settle(cut);
    if (status >= 0)
        status = cut_precopied(cut, group);
    return status < 0 || in_one ? status : clear_absent(cut, group);
}

/*
 * By soft-dirty bits: one walk too. What was pre-copied is told again, since the bits stay until
 * the cut is done; it is compared where it is.
 */
static int cut_soft_dirty(struct cut *cut, const struct tracker_group *group)
{
    struct image_writer *writer = cut->writer;
    int status = pagemap_soft_dirty(&writer->tracker.pagemap, group->start, group->end,
                                    group->backing, writer->suspect_all, cut_changed_run, cut);

    return status < 0 ? status : cut_settle(cut);
}

static int cut_untracked(struct cut *cut, const struct tracker_group *group)
{
    bool of_pool = group->backing == BACKING_POOL;
    int status = pagemap_saved(&cut->writer->tracker.pagemap, group->start, group->end,
                               group->backing, of_pool ? cut_run : cut_untracked_run, cut);

    if (status >= 0 && !of_pool)
        status = clear(cut, cut->covered, group->end >> PAGE_SHIFT);
    return status < 0 ? status : cut_settle(cut);
}

static int cut_group(void *context, const struct tracker_group *group)
{
    struct cut *cut = context;
    bool by_soft_dirty = cut->writer->tracker.way == TRACKING_SOFT_DIRTY;
    int status;

    cut->flags =
        (group->backing == BACKING_FILE ? MEMORY_FILE : 0) | (group->readable ? MEMORY_DIRECT : 0);
    cut->suspect = !group->tracked || by_soft_dirty || cut->writer->suspect_all;
    cut->covered = group->start >> PAGE_SHIFT;
    if (!group->tracked)
        return cut_untracked(cut, group);
    status = by_soft_dirty ? cut_soft_dirty(cut, group) : cut_tracked(cut, group);
    return status < 0 ? status : cut_missed(cut, group);
}

/* Nobody needs it: no entries. */
static int clear_garbage(struct cut *cut)
{
    const struct page_set *garbage = &cut->writer->garbage;
    int status = 0;

    for (uint32_t i = 0; i < garbage->count && status >= 0; i++)
        status = clear(cut, garbage->spans[i].page, garbage->spans[i].end);
    return status;
}

/* What was left out of a cut that is given up is to be looked at by the next one. */
static int give_up(struct image_writer *writer, uint64_t max_pages, struct problem *why)
{
    if (!page_set_join(&writer->left_out, &writer->garbage))
        writer->suspect_all = true;
    return problem_set(why, STATUS_DEFERRED, "more than %lu pages to copy",
                       (unsigned long)max_pages);
}

/* Entries of addresses where no saved mapping is. */
static int clear_unmapped(struct cut *cut)
{
    const struct address_space *space = cut->space;
    uint64_t page = 0;

    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];
        enum page_backing backing;
        int status = 0;

        if (!tracker_saves(mapping, &backing))
            continue;
        status = clear(cut, page, mapping->start >> PAGE_SHIFT);
        if (status < 0)
            return status;
        page = mapping->end >> PAGE_SHIFT;
    }
    return clear(cut, page, FILE_AREA_FIRST);
}

/* Pages that were found written in a pre-copy round but could not be read then. */
static int cut_unread_pages(struct cut *cut)
{
    struct image_writer *writer = cut->writer;
    int status = 0;

    for (uint32_t i = 0; i < writer->unread_count && status >= 0; i++) {
        struct page_run run = {writer->unread[i], writer->unread[i] + 1, RUN_SWAPPED};
        const struct mapping *mapping = maps_find(cut->space, run.page << PAGE_SHIFT);
        enum page_backing backing;

        if (!mapping || !tracker_saves(mapping, &backing))
            continue;
        cut->flags = backing == BACKING_FILE ? MEMORY_FILE : 0;
        status = cut_run(cut, &run);
        if (status >= 0)
            status = cut_settle(cut);
    }
    return status;
}

int image_writer_cut(struct image_writer *writer, const struct address_space *space,
                     uint64_t max_pages, struct problem *why)
{
    struct cut cut = {
        .writer = writer,
        .space = space,
        .max_changed_pages = max_pages && image_writer_tracks(writer) ? max_pages : UINT64_MAX,
    };
    uint64_t start_ns = sys_clock_ns(CLOCK_MONOTONIC);
    int status = 0;

    writer_begin(writer);
    memory_open_protection_keys();
    writer->suspect_all |= writer->distrusts_precopy && writer->spans_overflowed;
    writer_find_garbage(writer, true);
    /* Pages of an abandoned cut are older than what is found now. */
    status = writer_flush_scratch(writer, &writer->stats.freeze_written_bytes);
    if (status >= 0)
        status = tracker_prepare(&writer->tracker, space);
    if (status >= 0)
        status = clear_unmapped(&cut);
    if (status >= 0)
        status = tracker_each_group(&writer->tracker, space, cut_group, &cut);
    if (status >= 0)
        status = cut_unread_pages(&cut);
    if (status >= 0)
        status = clear_garbage(&cut);
    if (status >= 0)
        status = tracker_cut_done(&writer->tracker);
    if (status == STATUS_DEFERRED)
        return give_up(writer, max_pages, why);
    if (status < 0)
        return writer_failed(writer, status, "cannot copy dirty pages", why);
    if (writer->tracker.way == TRACKING_CHECKSUM)
        writer->resident_pages = writer_resident_pages();
    writer->suspect_all = false;
    writer_note_garbage(writer);
    writer->unread_count = writer->span_count = 0;
    writer->distrusts_precopy = writer->spans_overflowed = false;
    writer->stats.copy_ns = cut.copy_ns;
    writer->stats.scan_ns = sys_clock_ns(CLOCK_MONOTONIC) - start_ns - cut.copy_ns;
    return 0;
}
