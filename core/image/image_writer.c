/*
 * image_writer.c - see image_writer.h: creation, pre-copy, commit. The cut is in image_cut.c.
 *
 * Why no change is lost. A page that the kernel reports as written is protected again in the same
 * step, so from then on this writer alone knows that it must be looked at. It stays known until
 * the index of the generation in progress has what was read: as a page of a stage; as one of
 * `unread` if it could not be read; and if a step fails in between, `suspect_all` makes every saved
 * page a candidate of the next round. The index in turn outlives failed commits
 * (core/pool/frame.h).
 */
#include "core/image/image_writer.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/image/writer_state.h"

#define STAGE_PAGES       1024u /* written to the pool in one piece */
#define READ_PAGES        256u  /* read in one piece: small enough to be compared in cache, */
#define IN_PLACE_PAGES    16u   /* in the nearest one where no system call is to be saved */
#define SCRATCH_BYTES     (64ull << 20)
#define SCRATCH_PAGES_MIN 256u         /* of scratch that always have memory */
#define SCRATCH_PAGES_MAX 4096u        /* that have memory without having been used */
#define MAPS_BYTES_MIN    (4ull << 20) /* 65,530 mappings take about 24 MiB */

/* An arena within another's memory, for what is rewound while the outer one grows. */
static int carve_arena(struct arena *inner, struct arena *outer, size_t bytes)
{
    uintptr_t base = (uintptr_t)arena_alloc(outer, bytes, PAGE_BYTES);

    *inner = (struct arena){base, base, base + bytes, base + bytes};
    return base ? 0 : -ENOMEM;
}

int image_writer_create(struct image_writer **out, struct arena *arena, struct pool *pool,
                        const struct image_writer_options *options, struct problem *why)
{
    uint64_t scratch = options->scratch_bytes ? options->scratch_bytes : SCRATCH_BYTES;
    struct image_writer *writer = arena_alloc(arena, sizeof *writer, 64);
    int status = -ENOMEM;

    if (!writer)
        goto out;
    writer->pool = pool;
    writer->memory.fd = -1;
    if (scratch < PAGE_BYTES)
        scratch = PAGE_BYTES;
    status = carve_arena(&writer->maps_arena, arena,
                         scratch / 2 > MAPS_BYTES_MIN ? (scratch / 2 & ~0xfffull) : MAPS_BYTES_MIN);
    if (status >= 0)
        status = stage_create(&writer->stage, arena, pool, STAGE_PAGES);
    if (status >= 0)
        status = stage_create(&writer->scratch, arena, pool, scratch / PAGE_BYTES);
    if (status >= 0)
        status = rewriter_create(&writer->rewriter, arena, pool);
    if (status >= 0)
        status = busy_create(&writer->busy, arena, pool->super.slot);
    if (status >= 0)
        status = page_set_create(&writer->garbage, arena, GARBAGE_SPANS_MAX);
    if (status >= 0)
        status = page_set_create(&writer->left_out, arena, GARBAGE_SPANS_MAX);
    if (status >= 0)
        status = page_set_create(&writer->missed, arena, 2 * GARBAGE_SPANS_MAX);
    if (status >= 0)
        status = tracker_open(&writer->tracker, arena, options->features, options->track);
    if (status < 0)
        goto out;
    status = memory_open(&writer->memory);
    if (status < 0) {
        tracker_close(&writer->tracker);
        goto out;
    }
    writer->reads_in_place = options->survives_faults;
    if (writer->reads_in_place)
        memory_in_place(&writer->memory);
    /* Whoever cleared the bits before knew nothing of this generation. */
    writer->suspect_all = writer->tracker.way == TRACKING_SOFT_DIRTY;
    stage_prefault(&writer->scratch, SCRATCH_PAGES_MIN);
    *out = writer;
    return 0;
out:
    if (status == STATUS_UNSUPPORTED)
        return problem_set(why, status,
                           "PHEAP_TRACK=soft-dirty: this kernel has no soft-dirty bits "
                           "(CONFIG_MEM_SOFT_DIRTY): %s; unset PHEAP_TRACK",
                           status_text(options->features->soft_dirty_error));
    return problem_set(why, status, "cannot set up dirty tracking: %s", status_text(status));
}

void image_writer_destroy(struct image_writer *writer)
{
    tracker_close(&writer->tracker);
    memory_close(&writer->memory);
}

int writer_failed(struct image_writer *writer, int status, const char *doing, struct problem *why)
{
    stage_drop(&writer->stage);
    stage_drop(&writer->scratch);
    writer->losses++;
    writer->suspect_all = true;
    return problem_set(why, status, "%s: %s: %s", writer->pool->path, doing, status_text(status));
}

void writer_begin(struct image_writer *writer)
{
    if (!writer->committed)
        return;
    writer->committed = false;
    writer->stats = (struct image_writer_stats){0};
}

/* --- garbage --- */

void image_writer_set_garbage(struct image_writer *writer, image_writer_garbage *find,
                              void *context)
{
    writer->find_garbage = find;
    writer->garbage_context = context;
}

void writer_find_garbage(struct image_writer *writer, bool stopped)
{
    struct page_set *garbage = &writer->garbage;

    garbage->count = 0;
    if (writer->find_garbage)
        garbage->count =
            writer->find_garbage(writer->garbage_context, stopped, garbage->spans, garbage->limit);
    page_set_settle(garbage);
    if (!page_set_subtract(&writer->missed, &writer->left_out, garbage))
        writer->suspect_all = true; /* in more pieces than we can remember */
}

void writer_note_garbage(struct image_writer *writer)
{
    page_set_copy(&writer->left_out, &writer->garbage);
}

/* --- pre-copy --- */

struct precopy {
    struct image_writer *writer;
    uint64_t flags;  /* MEMORY_FILE or 0, of the group at hand */
    bool readable;   /* it is, and tracked by us: it may be read in place */
    bool all;        /* every saved page is a candidate */
    unsigned turn;   /* of busy neighbourhoods; BUSY_TURNS: all else */
    uint64_t passed; /* pages before this one have been reported in this turn */
    uint64_t copied_pages;
};

/* While the program runs a page may go away under our hands: the cut looks again. */
static int note_unread(void *context, uint64_t page_and_flags)
{
    struct image_writer *writer = context;

    if (writer->unread_count < WRITER_UNREAD_MAX)
        writer->unread[writer->unread_count++] = page_and_flags & MEMORY_PAGE_MASK;
    else
        writer->suspect_all = true;
    return 0;
}

static int precopy_write(struct precopy *precopy)
{
    struct image_writer *writer = precopy->writer;

    rewriter_note(&writer->rewriter, writer->stage.pages, writer->stage.compared);
    precopy->copied_pages += writer->stage.compared;
    writer->stats.precopied_pages += writer->stage.compared;
    return stage_write(&writer->stage, &writer->stats.written_bytes);
}

/* Reads and compares what is named, writes when the stage is full. */
static int precopy_settle(struct precopy *precopy)
{
    struct image_writer *writer = precopy->writer;
    int status = stage_read(&writer->stage, &writer->memory, note_unread, writer);

    if (status >= 0)
        status = stage_compare(&writer->stage);
    if (status >= 0 && stage_room(&writer->stage) == 0)
        status = precopy_write(precopy);
    return status < 0 ? status : writer_step(writer);
}

static void note_span(struct image_writer *writer, uint64_t page, uint64_t end)
{
    struct page_span *last = writer->span_count ? &writer->spans[writer->span_count - 1] : NULL;

    if (last && last->end == page)
        last->end = end;
    else if (writer->span_count < WRITER_SPANS_MAX)
        writer->spans[writer->span_count++] = (struct page_span){page, end};
    else
        writer->spans_overflowed = true;
}

/*
 * The kernel may go back and report a page twice in one round (pagemap.h), the second time with
 * what the program has stored since. What is staged must be in the index by then, or the second
 * content would be compared with one that is about to be replaced: a program that changes a word
 * and changes it back would find the changed word in the image.
 */
static int keep_ascending(struct precopy *precopy, const struct page_run *run)
{
    bool goes_back = run->page < precopy->passed;
    int status = 0;

    precopy->passed = run->end;
    if (goes_back)
        status = precopy_settle(precopy);
    return goes_back && status >= 0 ? precopy_write(precopy) : status;
}

/* In the pool's slot nobody but pheap maps anything. */
static bool is_in_place(const struct precopy *precopy, uint64_t page, uint64_t end)
{
    const struct image_writer *writer = precopy->writer;
    uint64_t slot_page = SLOT_BASE(writer->pool->super.slot) >> PAGE_SHIFT;

    return writer->reads_in_place && precopy->readable && page >= slot_page &&
           end <= slot_page + (SLOT_BYTES >> PAGE_SHIFT);
}

static int precopy_pages(struct precopy *precopy, uint64_t page, uint64_t end)
{
    struct stage *stage = &precopy->writer->stage;
    bool in_place = is_in_place(precopy, page, end);
    uint64_t flags = precopy->flags | (in_place ? MEMORY_IN_PLACE : 0);
    uint64_t piece = in_place ? IN_PLACE_PAGES : READ_PAGES;
    int status = 0;

    for (; page < end && status >= 0; page++) {
        stage_add(stage, page | flags);
        if (stage->named - stage->read_count >= piece || stage_room(stage) == 0)
            status = precopy_settle(precopy);
    }
    return status;
}

static int precopy_run(void *context, const struct page_run *run)
{
    struct precopy *precopy = context;
    struct image_writer *writer = precopy->writer;
    uint64_t page = run->page, stop = 0;
    int status = keep_ascending(precopy, run);

    if (status < 0)
        return status;
    writer->stats.candidate_pages += run->end - run->page;
    note_span(writer, run->page, run->end);
    if (!precopy->all)
        busy_note(&writer->busy, run->page, run->end);
    if ((run->flags & RUN_ZERO) && !(precopy->flags & MEMORY_FILE))
        return index_clear(writer->pool->index, writer->pool->frames, run->page, run->end);
    while (status >= 0 && page_set_next_outside(&writer->garbage, &page, run->end, &stop)) {
        status = precopy_pages(precopy, page, stop);
        page = stop;
    }
    return status;
}

/* What is absent is dealt with by the cut. */
static int precopy_soft_dirty_run(void *context, const struct page_run *run)
{
    return run->flags & RUN_ABSENT ? 0 : precopy_run(context, run);
}

/* Pages [start, end) of a tracked group that were written; all: or not. */
static int precopy_written(struct precopy *precopy, const struct tracker_group *group,
                           uint64_t start, uint64_t end, bool all)
{
    struct tracker *tracker = &precopy->writer->tracker;

    if (tracker->way == TRACKING_SOFT_DIRTY)
        return pagemap_soft_dirty(&tracker->pagemap, start, end, group->backing, all,
                                  precopy_soft_dirty_run, precopy);
    return pagemap_written(&tracker->pagemap, start, end, group->backing, all, precopy_run,
                           precopy);
}

/* What was left out of it as garbage and is in use again. */
static int precopy_missed(struct precopy *precopy, const struct tracker_group *group)
{
    uint64_t page = group->start >> PAGE_SHIFT, end = group->end >> PAGE_SHIFT, stop = 0;
    int status = 0;

    for (; status >= 0 && page_set_next_inside(&precopy->writer->missed, &page, end, &stop);
         page = stop)
        status = precopy_written(precopy, group, page << PAGE_SHIFT, stop << PAGE_SHIFT, true);
    return status;
}

/* What of a tracked group has its turn. */
static int precopy_turn(struct precopy *precopy, const struct tracker_group *group)
{
    const struct busy *busy = &precopy->writer->busy;
    uint64_t page = group->start >> PAGE_SHIFT, end = group->end >> PAGE_SHIFT, stop = 0;
    int status = 0;

    for (; status >= 0 && busy_next(busy, precopy->turn, &page, end, &stop); page = stop)
        status =
            precopy_written(precopy, group, page << PAGE_SHIFT, stop << PAGE_SHIFT, precopy->all);
    return status;
}

static int precopy_group(void *context, const struct tracker_group *group)
{
    struct precopy *precopy = context;
    bool first = precopy->turn == BUSY_TURNS;
    int status = 0;

    precopy->flags = group->backing == BACKING_FILE ? MEMORY_FILE : 0;
    /* What is not tracked may have a userfaultfd of the program's own, whose answer we must not
     * need. */
    precopy->readable = group->readable && group->tracked;
    if (group->tracked && first)
        status = precopy_missed(precopy, group);
    if (group->tracked && status >= 0)
        status = precopy_turn(precopy, group);
    else if (!group->tracked && first)
        status = pagemap_saved(&precopy->writer->tracker.pagemap, group->start, group->end,
                               group->backing, precopy_run, precopy);
    /* What is named carries the group's flags: it is settled before they change. */
    return status < 0 ? status : precopy_settle(precopy);
}

/* Busy neighbourhoods come last, the hot ones last of all: see busy.h. */
static int precopy_turns(struct precopy *precopy, const struct address_space *space)
{
    struct image_writer *writer = precopy->writer;
    int status;

    precopy->turn = BUSY_TURNS;
    status = tracker_each_group(&writer->tracker, space, precopy_group, precopy);
    for (precopy->turn = 0; precopy->turn < BUSY_TURNS && status >= 0; precopy->turn++)
        if (busy_has(&writer->busy, precopy->turn))
            status = tracker_each_group(&writer->tracker, space, precopy_group, precopy);
    return status;
}

int writer_flush_scratch(struct image_writer *writer, uint64_t *bytes_written)
{
    int status = stage_compare(&writer->scratch);

    if (status < 0)
        return status;
    rewriter_note(&writer->rewriter, writer->scratch.pages, writer->scratch.compared);
    return stage_write(&writer->scratch, bytes_written);
}

static int precopy_round(struct precopy *precopy, struct address_space *space)
{
    struct image_writer *writer = precopy->writer;
    int status = writer_flush_scratch(writer, &writer->stats.written_bytes);

    if (status < 0)
        return status;
    arena_rewind(&writer->maps_arena, writer->maps_arena.base);
    status = maps_read(space, "/proc/self/maps", &writer->maps_arena);
    if (status >= 0)
        status = tracker_prepare(&writer->tracker, space);
    if (status >= 0)
        status = precopy_turns(precopy, space);
    return status < 0 ? status : precopy_write(precopy);
}

/* The cut will find about as much as this round did: scratch gets memory for it now. */
static void expect_cut_of(struct image_writer *writer, uint64_t pages)
{
    uint64_t expected = pages + pages / 2;

    if (expected > SCRATCH_PAGES_MAX)
        expected = SCRATCH_PAGES_MAX;
    stage_prefault(&writer->scratch, expected);
}

int64_t image_writer_precopy(struct image_writer *writer, struct address_space *space,
                             struct problem *why)
{
    struct precopy precopy = {.writer = writer};
    int status = 0;

    writer_begin(writer);
    writer_find_garbage(writer, false);
    precopy.all = writer->suspect_all;
    writer->suspect_all = false; /* set again by what fails from here on */
    status = precopy_round(&precopy, space);
    if (status < 0)
        return writer_failed(writer, status, "cannot write dirty pages", why);
    writer_note_garbage(writer);
    busy_round_done(&writer->busy);
    expect_cut_of(writer, precopy.copied_pages);
    return (int64_t)precopy.copied_pages;
}

void image_writer_set_step(struct image_writer *writer, image_writer_step *step, void *context)
{
    writer->step = step;
    writer->step_context = context;
}

void image_writer_distrust_precopy(struct image_writer *writer)
{
    writer->distrusts_precopy = true;
}

/* --- after the freeze --- */

/* In a piece, where that is tracked throughout: each piece is an interrupt to the program's
 * processors. */
static void unprotect_span(struct tracker *tracker, const struct page_span *span)
{
    uint64_t page = span->page;

    if (tracker_unprotect(tracker, span->page << PAGE_SHIFT, span->end << PAGE_SHIFT))
        return;
    for (; page < span->end; page += INDEX_NODE_ENTRIES)
        (void)tracker_unprotect(tracker, page << PAGE_SHIFT,
                                (page + INDEX_NODE_ENTRIES) << PAGE_SHIFT);
}

/* A watermark could not tell such pages from written ones. */
static void unprotect_busy(struct image_writer *writer)
{
    const struct page_set *all = &writer->busy.all;

    for (uint32_t i = 0; !writer->is_counted && i < all->count; i++)
        unprotect_span(&writer->tracker, &all->spans[i]);
}

void image_writer_put_off(struct image_writer *writer)
{
    busy_begin_again(&writer->busy);
    unprotect_busy(writer);
}

int image_writer_commit(struct image_writer *writer, struct generation_entry *entry,
                        const void *record, size_t record_bytes, struct problem *why)
{
    int status;

    /* Before anything is written: until then each page of them that was copied takes a fault. */
    busy_decide(&writer->busy, &writer->rewriter);
    unprotect_busy(writer);
    status = writer_flush_scratch(writer, &writer->stats.written_bytes);
    if (status < 0)
        return writer_failed(writer, status, "cannot write the pages of the cut", why);
    if (entry->kind != GENERATION_CRASH)
        status = rewriter_run(&writer->rewriter, &writer->stats.rewritten_bytes);
    if (status < 0)
        return writer_failed(writer, status, "cannot rewrite scattered pages", why);
    entry->freeze_written_bytes = writer->stats.freeze_written_bytes;
    status = pool_commit(writer->pool, entry, record, record_bytes, why);
    writer->committed = status >= 0;
    /* A large cut was an exception if this one was small. */
    if (writer->stats.frozen_pages < writer->scratch.touched / 4)
        stage_trim(&writer->scratch, SCRATCH_PAGES_MAX);
    return status;
}

void image_writer_abandon(struct image_writer *writer)
{
    /* The pages in scratch stay there; the next round or cut writes them before it looks at
     * anything. Their content is that of the abandoned moment, and whatever is stored to them
     * since is tracked. */
    writer->stats.frozen_pages = 0;
}

void image_writer_untrack(struct image_writer *writer, uintptr_t start, uintptr_t end)
{
    tracker_unregister(&writer->tracker, start, end);
}

const struct image_writer_stats *image_writer_stats(const struct image_writer *writer)
{
    return &writer->stats;
}

bool image_writer_tracks(const struct image_writer *writer)
{
    return writer->tracker.uffd >= 0;
}

const char *image_writer_tracking(const struct image_writer *writer)
{
    switch (writer->tracker.way) {
    case TRACKING_WRITE_PROTECTION:
        return "userfaultfd write protection and PAGEMAP_SCAN";
    case TRACKING_SOFT_DIRTY:
        return "soft-dirty bits";
    default:
        return "page checksums";
    }
}
