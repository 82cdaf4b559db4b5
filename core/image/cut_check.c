/*
 * cut_check.c - the invariant of the cut: while the program stands still, every saved page is as
 * the generation in progress has it.
 *
 * An expensive check (all memory is read inside the freeze). It asks which pages are saved, not
 * which were written: what the tracking misses is found here and nowhere else.
 */
#include "core/image/image_writer.h"
#include "core/image/writer_state.h"

struct check {
    struct image_writer *writer;
    bool threads_run;
    enum page_backing backing; /* of the group at hand */
    uint64_t flags;            /* MEMORY_FILE or 0, likewise */
    uint64_t known_entries;    /* of the index, that a page of the group bears out */
    uint64_t wrong, first;     /* pages that differ or are gone, and the lowest that differs */
};

static int note_marked(void *context, const struct page_run *run)
{
    (void)run;
    *(bool *)context = true;
    return 0;
}

static int is_marked(struct check *check, uint64_t page, bool *marked)
{
    *marked = false;
    return pagemap_look_written(&check->writer->tracker.pagemap, page << PAGE_SHIFT,
                                (page + 1) << PAGE_SHIFT, check->backing, note_marked, marked);
}

/* A page that is not as the generation has it. */
static int count_wrong(struct check *check, uint64_t page)
{
    bool stored_since = false;
    int status = check->threads_run ? is_marked(check, page, &stored_since) : 0;

    if (status == 0 && !stored_since && check->wrong++ == 0)
        check->first = page;
    return status;
}

static int check_page(struct check *check, uint64_t page_and_flags)
{
    uint8_t *data = check->writer->stage.data; /* the stage is empty: room for one page */
    struct index_entry entry;
    uint64_t page = page_and_flags;
    int status;

    if (memory_read(&check->writer->memory, &page, 1, data))
        return 0; /* a marker in the place of a page */
    page &= MEMORY_PAGE_MASK;
    status = index_lookup(check->writer->pool->index, page, &entry);
    if (status < 0)
        return status;
    check->known_entries += entry.frame != FRAME_NONE;
    return stage_entry_shows(page_and_flags, &entry, data) ? 0 : count_wrong(check, page);
}

static int check_run(void *context, const struct page_run *run)
{
    struct check *check = context;
    const struct page_set *garbage = &check->writer->garbage;
    uint64_t page = run->page, stop = 0;
    int status = 0;

    for (; page_set_next_outside(garbage, &page, run->end, &stop); page = stop)
        for (uint64_t at = page; at < stop && status >= 0; at++)
            status = check_page(check, at | check->flags);
    return status;
}

/* Entries that no page of the group has borne out are of pages that are gone. */
static int check_absent(struct check *check, const struct tracker_group *group)
{
    uint64_t page = group->start >> PAGE_SHIFT, end = group->end >> PAGE_SHIFT, entries = 0;
    struct index_entry entry;
    int status;

    while ((status = index_next(check->writer->pool->index, page, end, &page, &entry)) == 1) {
        entries++;
        page++;
    }
    if (entries > check->known_entries)
        check->wrong += entries - check->known_entries;
    return status;
}

static int check_group(void *context, const struct tracker_group *group)
{
    struct check *check = context;
    int status;

    check->backing = group->backing;
    check->flags = group->backing == BACKING_FILE ? MEMORY_FILE : 0;
    check->known_entries = 0;
    status = pagemap_saved(&check->writer->tracker.pagemap, group->start, group->end,
                           group->backing, check_run, check);
    /* Of frames that a restore mapped, absent and clean pages keep their entries. */
    return status < 0 || group->backing == BACKING_POOL ? status : check_absent(check, group);
}

int image_writer_check_cut(struct image_writer *writer, const struct address_space *space,
                           bool threads_run, struct problem *why)
{
    struct check check = {.writer = writer, .threads_run = threads_run};
    int status = writer_flush_scratch(writer, &writer->stats.freeze_written_bytes);

    if (status >= 0)
        status = tracker_each_group(&writer->tracker, space, check_group, &check);
    if (status < 0)
        return writer_failed(writer, status, "cannot check the cut", why);
    if (check.wrong == 0)
        return 0;
    (void)writer_failed(writer, STATUS_DAMAGED, "checking the cut", why);
    return problem_set(why, STATUS_DAMAGED,
                       "%s: the cut missed %lu pages (0x%lx is the first that differs): an error "
                       "of pheap's; PHEAP_TRACK=checksum finds written pages another way",
                       writer->pool->path, (unsigned long)check.wrong,
                       (unsigned long)(check.first << PAGE_SHIFT));
}
