/*
 * pagemap.h - what the kernel knows of pages: which are there, which were written.
 *
 * Every question is asked of a range of addresses and answered as runs of pages, handed to a
 * visitor. "Saved" pages are those an image must hold: present or swapped out, and not the file's
 * own (docs/internals.md, "What an image holds").
 *
 * Runs ascend, but for one thing: where PAGEMAP_SCAN has more than 512 runs to tell, it may say
 * that it stopped (walk_end) before the last that it told. What lies between is asked again, and a
 * page that a running program wrote meanwhile is told twice.
 *
 * Two ways to know: the PAGEMAP_SCAN ioctl, and the classic /proc/self/pagemap, eight bytes a
 * page, which knows of writing what its soft-dirty bits say, if the kernel keeps them. The latter
 * is slow where nothing is: a mapping of a gigabyte or more is looked up in /proc/self/smaps first
 * (pagemap_refresh()).
 *
 * A zap of write-protected pages of a file mapping leaves markers that count as swapped: such a
 * page is always reported, and reading it gives the file's content, which is right.
 */
#ifndef PHEAP_IMAGE_PAGEMAP_H
#define PHEAP_IMAGE_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

enum page_backing {
    BACKING_ZERO, /* anonymous memory: an absent page is zero */
    BACKING_FILE, /* a private file mapping: an absent page is the file's */
    BACKING_POOL, /* frames of the pool, mapped by a restore: an absent page is the index's */
};

enum page_run_flags {
    RUN_SWAPPED = 1u << 0, /* not in memory: touching it may fault, or fail (a guard marker) */
    RUN_ZERO = 1u << 1,    /* the kernel's shared zero page */
    RUN_ABSENT = 1u << 2,  /* pagemap_changed() only: nothing is there */
};

struct page_run { /* pages [page, end) */
    uint64_t page, end;
    uint32_t flags;
};

/* 0 to go on, or a negative status, which ends the scan and is its result. */
typedef int page_run_visit(void *context, const struct page_run *run);

#define EMPTY_GIANTS_MAX 64

enum pagemap_way {
    PAGEMAP_CLASSIC,
    PAGEMAP_BY_SOFT_DIRTY, /* the classic file */
    PAGEMAP_BY_SCAN,
};

struct pagemap {
    int fd;
    int clear_fd; /* /proc/self/clear_refs, by soft-dirty bits; else -1 */
    enum pagemap_way way;
    struct page_region *regions; /* answers of PAGEMAP_SCAN */
    struct page_region *details; /* of a question about one of these */
    uint64_t *entries;           /* of the classic file */
    uint32_t empty_count;        /* mappings of GIANT_BYTES or more that hold no page at all */
    struct {
        uint64_t start, end;
    } empty[EMPTY_GIANTS_MAX];
};

/* Opens the caller's own pagemap. */
MUST_CHECK int pagemap_open(struct pagemap *pagemap, struct arena *arena, enum pagemap_way way);
void pagemap_close(struct pagemap *pagemap);

/* Before a round by the classic way: learns which large mappings are empty. */
MUST_CHECK int pagemap_refresh(struct pagemap *pagemap);

/* All saved pages. */
MUST_CHECK int pagemap_saved(struct pagemap *pagemap, uint64_t start, uint64_t end,
                             enum page_backing backing, page_run_visit *visit, void *context);

/* PAGEMAP_SCAN only: saved pages in mappings that are not registered for write protection. */
MUST_CHECK int pagemap_unregistered(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                    enum page_backing backing, page_run_visit *visit,
                                    void *context);

/*
 * PAGEMAP_SCAN only, registered mappings only: saved pages that were written since they were last
 * protected, protected again in the same step. all: written or not. Of BACKING_POOL also
 * some that were read for the first time (a superset costs a comparison).
 */
MUST_CHECK int pagemap_written(struct pagemap *pagemap, uint64_t start, uint64_t end,
                               enum page_backing backing, bool all, page_run_visit *visit,
                               void *context);

/*
 * The two questions in one, without protecting anything, for registered anonymous memory: saved
 * pages that were written since they were last protected, and (RUN_ABSENT) pages that are not
 * there. A walk of all page tables is what a cut costs, so it is made once.
 */
MUST_CHECK int pagemap_changed(struct pagemap *pagemap, uint64_t start, uint64_t end,
                               page_run_visit *visit, void *context);

/*
 * The same in questions that cost less, if the kernel has pagemap_quick (kernel_features.h). First:
 * what of registered memory is not protected, that is, was written or is absent. Returns how many
 * regions *told holds, as runs above, good until pagemap is asked again other than for a part; or
 * STATUS_LIMIT if there are max_regions or max_pages (neither is 0), or more than can be held.
 */
MUST_CHECK int pagemap_unprotected(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                   uint64_t max_regions, uint64_t max_pages,
                                   const struct page_region **told);

/* pagemap_changed() of a part. */
MUST_CHECK int pagemap_changed_part(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                    page_run_visit *visit, void *context);

/* Then: absent pages (RUN_ABSENT) of mappings that are not registered. Passes over the others. */
MUST_CHECK int pagemap_absent_unregistered(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                           page_run_visit *visit, void *context);

/* The same (not all) without protecting anything, in mappings of every kind: where a mapping is not
 * registered each saved page counts as written. */
MUST_CHECK int pagemap_look_written(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                    enum page_backing backing, page_run_visit *visit,
                                    void *context);

/*
 * By soft-dirty bits only: saved pages that were written since the bits were last cleared (all:
 * or not), and (RUN_ABSENT, not of BACKING_POOL) pages that are not saved ones. Clears nothing.
 */
MUST_CHECK int pagemap_soft_dirty(struct pagemap *pagemap, uint64_t start, uint64_t end,
                                  enum page_backing backing, bool all, page_run_visit *visit,
                                  void *context);

/* By soft-dirty bits only: of the whole address space. A page that is written between being looked
 * at and this call is lost: the program must stand still from before the one until after the other.
 */
MUST_CHECK int pagemap_clear_soft_dirty(struct pagemap *pagemap);

/* PAGEMAP_SCAN only: pages within mappings that are not saved ones; not of BACKING_POOL. */
MUST_CHECK int pagemap_absent(struct pagemap *pagemap, uint64_t start, uint64_t end,
                              enum page_backing backing, page_run_visit *visit, void *context);

#endif
