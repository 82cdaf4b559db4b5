/*
 * diff.h - what changed between two generations of a pool: pages, mappings, descriptors.
 */
#ifndef PHEAP_RECOVERY_VIEW_DIFF_H
#define PHEAP_RECOVERY_VIEW_DIFF_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/view/view.h"

struct page_changes { /* pages that the images hold */
    uint64_t same, changed, came, went;
};

enum page_change {
    PAGE_SAME,
    PAGE_CHANGED,
    PAGE_CAME, /* the newer image holds it, the older one does not */
    PAGE_WENT,
};

/* Pages of [first, end) that one of the images holds, by the indexes alone: a page is the same if
 * its checksum is. Not in order: those that came are told last. */
typedef void diff_page(void *context, uint64_t page, enum page_change change);
MUST_CHECK int diff_each_page(struct view *old, struct view *new, uint64_t first, uint64_t end,
                              diff_page *visit, void *context, struct problem *why);

/* The same, counted. */
MUST_CHECK int diff_pages(struct view *old, struct view *new, struct page_changes *heap,
                          struct page_changes *other, struct problem *why);

enum diff_kind {
    DIFF_CAME,    /* was is NULL */
    DIFF_WENT,    /* is is NULL */
    DIFF_CHANGED, /* the same name at the same place, but not the same */
};

typedef void diff_mapping(void *context, enum diff_kind kind, const struct image_mapping *was,
                          const struct image_mapping *is);
void diff_mappings(const struct view *old, const struct view *new, diff_mapping *visit,
                   void *context);

/* By number; another file or kind under the same number went and came. */
typedef void diff_descriptor(void *context, enum diff_kind kind,
                             const struct image_description *description, uint32_t number);
void diff_descriptors(const struct view *old, const struct view *new, diff_descriptor *visit,
                      void *context);

#endif
