/*
 * changed.h - what was written of anonymous memory since it was protected, and what is gone: the
 * question that a cut is about, at the least price.
 *
 * pagemap_changed() answers it in one walk, in which the kernel works out everything about every
 * page (1.9 ns each). Where nearly all pages are as they were these cost less:
 *
 *   1. What is not protected? A short cut in the kernel, which looks at one bit (0.7 ns a page).
 *      Written pages are told, and absent ones; move_pages() without a place to move to says which
 *      (0.3 us), or for a long run pagemap_changed() does.
 *   2. What is absent where nothing is registered? Of such mappings 1. says nothing; there is no
 *      page in them, or they would be registered by now.
 *
 * All must see the same: the program stands still.
 */
#ifndef PHEAP_IMAGE_CHANGED_H
#define PHEAP_IMAGE_CHANGED_H

#include "core/image/pagemap.h"

/*
 * Of anonymous memory in [start, end), registered where it holds a page, as pagemap_changed(), but
 * runs come in any order, and a page may be told twice. known_pages: how many the index has, all in
 * all, by which the way is chosen. The kernel has pagemap_quick (kernel_features.h).
 */
MUST_CHECK int changed_each(struct pagemap *pagemap, uint64_t start, uint64_t end,
                            uint64_t known_pages, page_run_visit *visit, void *context);

/* By the cheap questions. 1: too much is not protected for that to pay, from max_runs runs or
 * max_pages pages on; nothing was visited. */
MUST_CHECK int changed_cheaply(struct pagemap *pagemap, uint64_t start, uint64_t end,
                               uint64_t max_runs, uint64_t max_pages, page_run_visit *visit,
                               void *context);

#endif
