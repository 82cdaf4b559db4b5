/*
 * page_set.h - a set of page numbers, as spans in an array of fixed size.
 *
 * Always true after page_set_settle(): spans ascend, none is empty, none touches the next one.
 */
#ifndef PHEAP_IMAGE_PAGE_SET_H
#define PHEAP_IMAGE_PAGE_SET_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

struct page_span { /* pages [page, end) */
    uint64_t page, end;
};

struct page_set {
    struct page_span *spans;
    uint32_t count, limit;
};

MUST_CHECK int page_set_create(struct page_set *set, struct arena *arena, uint32_t limit);

/* Spans were appended in any order: sorts and joins them. */
void page_set_settle(struct page_set *set);

/* The index of the first span that ends behind page; set->count if there is none. */
uint32_t page_set_find(const struct page_set *set, uint64_t page);

/* out = a without b; a span of out each, as far as out's limit goes: false beyond it. */
bool page_set_subtract(struct page_set *out, const struct page_set *a, const struct page_set *b);

/* set becomes set and other; false if that does not fit: set is unchanged. */
bool page_set_join(struct page_set *set, const struct page_set *other);

void page_set_copy(struct page_set *to, const struct page_set *from); /* of one limit */

/*
 * The next part of [*page, end) that is not in set: [*page, *stop), non-empty. False: there is
 * none. To go on, set *page to *stop.
 */
bool page_set_next_outside(const struct page_set *set, uint64_t *page, uint64_t end,
                           uint64_t *stop);

/* The same for parts that are in it. */
bool page_set_next_inside(const struct page_set *set, uint64_t *page, uint64_t end, uint64_t *stop);

#endif
