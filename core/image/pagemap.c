/*
 * pagemap.c - see pagemap.h. What must hold: a page that is saved and of which nothing better is
 * known is reported. Reporting one too many costs time; leaving one out loses memory.
 */
#include "core/image/pagemap.h"

#include <errno.h>

#include "core/base/kernel_uffd.h"
#include "core/base/sys.h"
#include "core/image/smaps.h"

#define SCAN_REGIONS   16384u
#define DETAIL_REGIONS 256u
#define DETAIL_PAGES   8u /* a run of so many pages is worth a question of its own */
#define CLASSIC_PAGES  32768u
#define RUN_NONE       UINT32_MAX

int pagemap_open(struct pagemap *pagemap, struct arena *arena, enum pagemap_way way)
{
    bool by_scan = way == PAGEMAP_BY_SCAN;
    int status;

    *pagemap = (struct pagemap){.way = way, .fd = -1, .clear_fd = -1};
    if (by_scan) {
        pagemap->regions = arena_alloc(arena, SCAN_REGIONS * sizeof(struct page_region), 64);
        pagemap->details = arena_alloc(arena, DETAIL_REGIONS * sizeof(struct page_region), 64);
    } else {
        pagemap->entries = arena_alloc(arena, CLASSIC_PAGES * sizeof(uint64_t), 64);
    }
    if (by_scan ? !pagemap->regions || !pagemap->details : !pagemap->entries)
        return -ENOMEM;
    if (way == PAGEMAP_BY_SOFT_DIRTY) {
        pagemap->clear_fd = sys_open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC, 0);
        if (pagemap->clear_fd < 0)
            return pagemap->clear_fd;
    }
    pagemap->fd = status = sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC, 0);
    if (status < 0)
        pagemap_close(pagemap);
    return status < 0 ? status : 0;
}

void pagemap_close(struct pagemap *pagemap)
{
    if (pagemap->fd >= 0)
        sys_close(pagemap->fd);
    if (pagemap->clear_fd >= 0)
        sys_close(pagemap->clear_fd);
    pagemap->fd = pagemap->clear_fd = -1;
}

int pagemap_refresh(struct pagemap *pagemap)
{
    if (pagemap->way == PAGEMAP_BY_SCAN)
        return 0;
    return smaps_find_empty(pagemap);
}

static uint32_t run_flags(uint64_t categories, uint64_t asked)
{
    bool absent = (asked & PAGE_IS_PRESENT) && !(categories & (PAGE_IS_PRESENT | PAGE_IS_SWAPPED));

    return (categories & PAGE_IS_SWAPPED ? RUN_SWAPPED : 0) |
           (categories & PAGE_IS_PFNZERO ? RUN_ZERO : 0) | (absent ? RUN_ABSENT : 0);
}

/* Hands regions to the visitor; those of which just `skip` is true are left out. */
static int report(const struct page_region *regions, long count, uint64_t asked, uint64_t skip,
                  page_run_visit *visit, void *context)
{
    for (long i = 0; i < count; i++) {
        const struct page_region *region = &regions[i];
        struct page_run run = {region->start >> PAGE_SHIFT, region->end >> PAGE_SHIFT,
                               run_flags(region->categories, asked)};
        int status = 0;

        if (!skip || region->categories != skip)
            status = visit(context, &run);
        if (status < 0)
            return status;
    }
    return 0;
}

/*
 * Puts one question, scan, to PAGEMAP_SCAN, in as many calls as it takes. The answers come through
 * regions, of which there are limit.
 */
static int ask(struct pagemap *pagemap, struct pm_scan_arg *scan, struct page_region *regions,
               uint64_t limit, uint64_t skip, page_run_visit *visit, void *context)
{
    uint64_t end = scan->end;

    scan->size = sizeof *scan;
    scan->vec = (uintptr_t)regions;
    scan->vec_len = limit;
    while (scan->start < end) {
        long count = sys_call(SYS_ioctl, pagemap->fd, PAGEMAP_SCAN, scan);
        int status = 0;

        if (count == -EINTR)
            continue;
        if (count < 0)
            return (int)count;
        status = report(regions, count, scan->return_mask, skip, visit, context);
        if (status < 0)
            return status;
        if (scan->walk_end <= scan->start)
            return -EIO; /* would never end */
        scan->start = scan->walk_end;
    }
    return 0;
}

static int scan_all(struct pagemap *pagemap, struct pm_scan_arg *scan, uint64_t skip,
                    page_run_visit *visit, void *context)
{
    return ask(pagemap, scan, pagemap->regions, SCAN_REGIONS, skip, visit, context);
}

/* --- the classic file --- */

struct classic_question {
    enum page_backing backing;
    bool all; /* whatever the soft-dirty bits say */
    bool tells_absent;
};

/*
 * As the index had it when the bits were last cleared. The bit is of what is mapped, not of the
 * address: a page that was dropped and read again is the kernel's zero page, which is not marked
 * and not ours alone. Swapped out in a file mapping may be a marker with nothing behind it.
 */
static bool is_clean(const struct classic_question *question, uint64_t entry)
{
    if (question->all || (entry & PAGEMAP_SOFT_DIRTY))
        return false;
    if (entry & PAGEMAP_SWAPPED)
        return question->backing != BACKING_FILE;
    return (entry & PAGEMAP_EXCLUSIVE) != 0;
}

/* The flags of the run that a page belongs to, or RUN_NONE. */
static uint32_t classic_flags(const struct classic_question *question, uint64_t entry)
{
    bool is_there = (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) != 0;

    if (!is_there || ((entry & PAGEMAP_FILE) && !(entry & PAGEMAP_SWAPPED)))
        return question->tells_absent ? RUN_ABSENT : RUN_NONE;
    if (is_clean(question, entry))
        return RUN_NONE;
    return entry & PAGEMAP_SWAPPED ? RUN_SWAPPED : 0;
}

static int classic_walk(struct pagemap *pagemap, uint64_t start, uint64_t end,
                        const struct classic_question *question, page_run_visit *visit,
                        void *context)
{
    struct page_run run = {0, 0, 0};
    uint64_t page = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT;
    int status = 0;

    while (page < last && status >= 0) {
        uint64_t want = last - page < CLASSIC_PAGES ? last - page : CLASSIC_PAGES;
        ssize_t got = sys_pread(pagemap->fd, pagemap->entries, want * 8, page * 8);

        if (got <= 0) /* a short file would be a page unseen */
            return got < 0 ? (int)got : -EIO;
        for (uint64_t i = 0; i < (uint64_t)got / 8 && status >= 0; i++, page++) {
            uint32_t flags = classic_flags(question, pagemap->entries[i]);

            if (flags == RUN_NONE)
                continue;
            if (run.end == page && run.flags == flags) {
                run.end++;
                continue;
            }
            if (run.end)
                status = visit(context, &run);
            run = (struct page_run){page, page + 1, flags};
        }
    }
    if (run.end && status >= 0)
        status = visit(context, &run);
    return status;
}

static bool is_empty_giant(const struct pagemap *pagemap, uint64_t start, uint64_t end)
{
    for (uint32_t i = 0; i < pagemap->empty_count; i++)
        if (start >= pagemap->empty[i].start && end <= pagemap->empty[i].end)
            return true;
    return false;
}

/* The question "present or swapped, and not the file's" with what the caller adds to it. */
static struct pm_scan_arg saved_question(uint64_t start, uint64_t end, enum page_backing backing)
{
    struct pm_scan_arg scan = {
        .start = start,
        .end = end,
        .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        .return_mask = PAGE_IS_SWAPPED | PAGE_IS_PFNZERO,
    };

    if (backing != BACKING_ZERO) {
        scan.category_inverted = PAGE_IS_FILE;
        scan.category_mask = PAGE_IS_FILE;
    }
    return scan;
}

int pagemap_saved(struct pagemap *pagemap, uint64_t start, uint64_t end, enum page_backing backing,
                  page_run_visit *visit, void *context)
{
    const struct classic_question saved = {.backing = backing, .all = true};
    struct pm_scan_arg scan = saved_question(start, end, backing);

    if (pagemap->way == PAGEMAP_BY_SCAN)
        return scan_all(pagemap, &scan, 0, visit, context);
    if (is_empty_giant(pagemap, start, end))
        return 0;
    return classic_walk(pagemap, start, end, &saved, visit, context);
}

int pagemap_unregistered(struct pagemap *pagemap, uint64_t start, uint64_t end,
                         enum page_backing backing, page_run_visit *visit, void *context)
{
    struct pm_scan_arg scan = saved_question(start, end, backing);

    scan.category_inverted |= PAGE_IS_WPALLOWED;
    scan.category_mask |= PAGE_IS_WPALLOWED;
    return scan_all(pagemap, &scan, 0, visit, context);
}

struct pool_runs {
    struct pagemap *pagemap;
    page_run_visit *visit;
    void *context;
};

/* A long run of pages of the pool's mapping that count as written: most likely they were read for
 * the first time. Those that are still the file's are left out. */
static int visit_pool_run(void *context, const struct page_run *run)
{
    struct pool_runs *runs = context;
    struct pm_scan_arg scan =
        saved_question(run->page << PAGE_SHIFT, run->end << PAGE_SHIFT, BACKING_POOL);

    if (run->end - run->page < DETAIL_PAGES)
        return runs->visit(runs->context, run);
    return ask(runs->pagemap, &scan, runs->pagemap->details, DETAIL_REGIONS, 0, runs->visit,
               runs->context);
}

static int pool_written(struct pagemap *pagemap, struct pm_scan_arg *scan, page_run_visit *visit,
                        void *context)
{
    struct pool_runs runs = {pagemap, visit, context};

    scan->category_inverted = 0;
    scan->category_mask = PAGE_IS_WRITTEN;
    return scan_all(pagemap, scan, 0, visit_pool_run, &runs);
}

/*
 * In anonymous memory: WRITTEN, and PRESENT or SWAPPED. (The kernel's fast path for a question that
 * names WRITTEN alone would take absent pages for written ones and leave markers in their place.)
 * In a file mapping: WRITTEN or SWAPPED, and not FILE. In a mapping of the pool FILE is not asked
 * for at first: the kernel would look at every present page's descriptor, where WRITTEN is a bit
 * of the page table; once protected, pages that were only read are not reported again.
 */
int pagemap_written(struct pagemap *pagemap, uint64_t start, uint64_t end,
                    enum page_backing backing, bool all, page_run_visit *visit, void *context)
{
    struct pm_scan_arg scan = saved_question(start, end, backing);

    scan.flags = PM_SCAN_WP_MATCHING;
    if (!all && backing == BACKING_FILE)
        scan.category_anyof_mask = PAGE_IS_WRITTEN | PAGE_IS_SWAPPED;
    if (!all && backing == BACKING_ZERO)
        scan.category_mask |= PAGE_IS_WRITTEN;
    if (all || backing != BACKING_POOL)
        return scan_all(pagemap, &scan, 0, visit, context);
    return pool_written(pagemap, &scan, visit, context);
}

/* Other than pagemap_written() it leaves out what is absent in a file mapping, and would be asked
 * for again and again. */
int pagemap_look_written(struct pagemap *pagemap, uint64_t start, uint64_t end,
                         enum page_backing backing, page_run_visit *visit, void *context)
{
    struct pm_scan_arg scan = saved_question(start, end, backing);

    scan.category_mask |= PAGE_IS_WRITTEN;
    if (backing != BACKING_POOL)
        return scan_all(pagemap, &scan, 0, visit, context);
    return pool_written(pagemap, &scan, visit, context);
}

static struct pm_scan_arg changed_question(uint64_t start, uint64_t end)
{
    return (struct pm_scan_arg){
        .start = start,
        .end = end,
        .category_inverted = PAGE_IS_PRESENT,
        .category_anyof_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT,
        .return_mask = PAGE_IS_WRITTEN | PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_PFNZERO,
    };
}

/* What is swapped out and has not been written since is as it was. */
int pagemap_changed(struct pagemap *pagemap, uint64_t start, uint64_t end, page_run_visit *visit,
                    void *context)
{
    struct pm_scan_arg scan = changed_question(start, end);

    return scan_all(pagemap, &scan, PAGE_IS_SWAPPED, visit, context);
}

int pagemap_changed_part(struct pagemap *pagemap, uint64_t start, uint64_t end,
                         page_run_visit *visit, void *context)
{
    struct pm_scan_arg scan = changed_question(start, end);

    return ask(pagemap, &scan, pagemap->details, DETAIL_REGIONS, PAGE_IS_SWAPPED, visit, context);
}

/* walk_end does not tell whether all was looked at: it stays where the kernel first made room. */
int pagemap_unprotected(struct pagemap *pagemap, uint64_t start, uint64_t end, uint64_t max_regions,
                        uint64_t max_pages, const struct page_region **told)
{
    struct pm_scan_arg scan = {
        .size = sizeof scan,
        .start = start,
        .end = end,
        .vec = (uintptr_t)pagemap->regions,
        .vec_len = max_regions < SCAN_REGIONS ? max_regions : SCAN_REGIONS,
        .max_pages = max_pages,
        .category_mask = PAGE_IS_WRITTEN,
        .return_mask = PAGE_IS_WRITTEN,
    };
    uint64_t limit = scan.vec_len, bytes = 0;
    long count;

    do
        count = sys_call(SYS_ioctl, pagemap->fd, PAGEMAP_SCAN, &scan);
    while (count == -EINTR);
    for (long i = 0; i < count; i++)
        bytes += pagemap->regions[i].end - pagemap->regions[i].start;
    *told = pagemap->regions;
    return count == (long)limit || bytes >= max_pages * PAGE_BYTES ? STATUS_LIMIT : (int)count;
}

int pagemap_absent_unregistered(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                page_run_visit *visit, void *context)
{
    struct pm_scan_arg scan = {
        .start = start,
        .end = end,
        .category_inverted = PAGE_IS_PRESENT | PAGE_IS_WPALLOWED,
        .category_mask = PAGE_IS_PRESENT | PAGE_IS_WPALLOWED,
        .return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };

    return scan_all(pagemap, &scan, PAGE_IS_SWAPPED, visit, context);
}

int pagemap_absent(struct pagemap *pagemap, uint64_t start, uint64_t end, enum page_backing backing,
                   page_run_visit *visit, void *context)
{
    struct pm_scan_arg scan = {
        .start = start,
        .end = end,
        .category_inverted = PAGE_IS_PRESENT,
        .category_anyof_mask = PAGE_IS_PRESENT,
        .return_mask = PAGE_IS_SWAPPED,
    };

    if (backing == BACKING_FILE)
        scan.category_anyof_mask |= PAGE_IS_FILE;
    return scan_all(pagemap, &scan, PAGE_IS_SWAPPED, visit, context);
}

int pagemap_soft_dirty(struct pagemap *pagemap, uint64_t start, uint64_t end,
                       enum page_backing backing, bool all, page_run_visit *visit, void *context)
{
    const struct classic_question question = {
        .backing = backing, .all = all, .tells_absent = backing != BACKING_POOL};
    const struct page_run whole = {start >> PAGE_SHIFT, end >> PAGE_SHIFT, RUN_ABSENT};

    if (is_empty_giant(pagemap, start, end))
        return question.tells_absent ? visit(context, &whole) : 0;
    return classic_walk(pagemap, start, end, &question, visit, context);
}

int pagemap_clear_soft_dirty(struct pagemap *pagemap)
{
    ssize_t wrote = sys_write(pagemap->clear_fd, CLEAR_SOFT_DIRTY, 1);

    return wrote < 0 ? (int)wrote : 0;
}
