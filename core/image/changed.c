/*
 * changed.c - see changed.h. What must hold: each page that the first question tells is looked up,
 * or is part of what is asked about in full.
 */
#include "core/image/changed.h"

#include "core/base/kernel_uffd.h"
#include "core/base/sys.h"

/* When the cheap questions pay. */
#define KNOWN_MIN   8192u  /* pages: 32 MiB */
#define RUNS_MIN    64u    /* runs may be told, and */
#define RUNS_SHARE  512u   /* one more of so many known pages; */
#define PAGES_MIN   32768u /* pages (an absent one costs 10 ns), and */
#define PAGES_SHARE 16u    /* one more of so many */

#define SHORT_PAGES 4u   /* of a longer run not every page is looked up */
#define NEAR_PAGES  256u /* a question of its own costs as much as so many pages of another */
#define LOOKUPS_MAX 256u /* in one system call */

struct look {
    struct pagemap *pagemap;
    page_run_visit *visit;
    void *context;
    struct page_run part; /* is to be asked about in full; empty: none */
    uint32_t count;
    const void *pages[LOOKUPS_MAX]; /* to be looked up */
};

static int settle_part(struct look *look)
{
    struct page_run part = look->part;

    look->part = (struct page_run){0, 0, 0};
    if (part.page == part.end)
        return 0;
    return pagemap_changed_part(look->pagemap, part.page << PAGE_SHIFT, part.end << PAGE_SHIFT,
                                look->visit, look->context);
}

/* Joins the part at hand if it lies near; else that is settled, and another begun. */
static int add_part(struct look *look, uint64_t page, uint64_t end)
{
    struct page_run *part = &look->part;
    int status;

    if (part->page < part->end && page >= part->page && page <= part->end + NEAR_PAGES) {
        part->end = end > part->end ? end : part->end;
        return 0;
    }
    status = settle_part(look);
    *part = (struct page_run){page, end, 0};
    return status;
}

/* A page that is there was written. Of another, the zero page say, more is to be asked; so it is
 * where there was no answer. */
static int settle_lookups(struct look *look)
{
    int nodes[LOOKUPS_MAX], status = 0;

    for (uint32_t i = 0; i < look->count; i++)
        nodes[i] = -1;
    if (look->count > 0)
        (void)sys_call(SYS_move_pages, 0, look->count, look->pages, NULL, nodes, 0);
    for (uint32_t i = 0; i < look->count && status >= 0; i++) {
        uint64_t page = (uintptr_t)look->pages[i] >> PAGE_SHIFT;
        const struct page_run run = {page, page + 1, 0};

        status = nodes[i] >= 0 ? look->visit(look->context, &run) : add_part(look, page, page + 1);
    }
    look->count = 0;
    return status;
}

static int look_up(struct look *look, uint64_t page)
{
    look->pages[look->count++] = (const void *)(page << PAGE_SHIFT);
    return look->count == LOOKUPS_MAX ? settle_lookups(look) : 0;
}

static int tell_region(struct look *look, const struct page_region *region)
{
    uint64_t page = region->start >> PAGE_SHIFT, end = region->end >> PAGE_SHIFT;
    int status = 0;

    if (end - page > SHORT_PAGES)
        return add_part(look, page, end);
    for (; page < end && status >= 0; page++)
        status = look_up(look, page);
    return status;
}

int changed_cheaply(struct pagemap *pagemap, uint64_t start, uint64_t end, uint64_t max_runs,
                    uint64_t max_pages, page_run_visit *visit, void *context)
{
    struct look look = {.pagemap = pagemap, .visit = visit, .context = context};
    const struct page_region *told = NULL;
    int count = pagemap_unprotected(pagemap, start, end, max_runs, max_pages, &told);
    int status = count < 0 ? count : 0;

    if (status == STATUS_LIMIT)
        return 1;
    for (int i = 0; i < count && status >= 0; i++)
        status = tell_region(&look, &told[i]);
    if (status >= 0)
        status = settle_lookups(&look);
    if (status >= 0)
        status = settle_part(&look);
    if (status >= 0)
        status = pagemap_absent_unregistered(pagemap, start, end, visit, context);
    return status;
}

int changed_each(struct pagemap *pagemap, uint64_t start, uint64_t end, uint64_t known_pages,
                 page_run_visit *visit, void *context)
{
    int status = 1;

    if (known_pages >= KNOWN_MIN && end - start >= (uint64_t)KNOWN_MIN << PAGE_SHIFT)
        status = changed_cheaply(pagemap, start, end, RUNS_MIN + known_pages / RUNS_SHARE,
                                 PAGES_MIN + known_pages / PAGES_SHARE, visit, context);
    return status > 0 ? pagemap_changed(pagemap, start, end, visit, context) : status;
}
