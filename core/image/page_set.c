/*
 * page_set.c - see page_set.h. It is used inside the freeze: no function here costs more than
 * count * log(count).
 */
#include "core/image/page_set.h"

#include <errno.h>
#include <string.h>

int page_set_create(struct page_set *set, struct arena *arena, uint32_t limit)
{
    *set = (struct page_set){.limit = limit};
    set->spans = arena_alloc(arena, limit * sizeof *set->spans, 64);
    return set->spans ? 0 : -ENOMEM;
}

/* Moves the span at `at` down to its place in the heap (the data structure) of `count` spans. */
static void sift_down(struct page_span *spans, uint32_t at, uint32_t count)
{
    struct page_span moved = spans[at];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child + 1 < count && spans[child + 1].page > spans[child].page)
            child++;
        if (child >= count || spans[child].page <= moved.page)
            break;
        spans[at] = spans[child];
        at = child;
    }
    spans[at] = moved;
}

static void sort(struct page_span *spans, uint32_t count)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sift_down(spans, i, count);
    for (uint32_t left = count; left > 1; left--) {
        struct page_span last = spans[left - 1];

        spans[left - 1] = spans[0];
        spans[0] = last;
        sift_down(spans, 0, left - 1);
    }
}

void page_set_settle(struct page_set *set)
{
    uint32_t kept = 0;

    sort(set->spans, set->count);
    for (uint32_t i = 0; i < set->count; i++) {
        struct page_span *span = &set->spans[i], *last = kept ? &set->spans[kept - 1] : NULL;

        if (span->page >= span->end)
            continue;
        if (!last || span->page > last->end)
            set->spans[kept++] = *span;
        else if (span->end > last->end)
            last->end = span->end;
    }
    set->count = kept;
}

uint32_t page_set_find(const struct page_set *set, uint64_t page)
{
    uint32_t low = 0, high = set->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (set->spans[middle].end <= page)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool page_set_next_outside(const struct page_set *set, uint64_t *page, uint64_t end, uint64_t *stop)
{
    uint32_t at = page_set_find(set, *page);

    for (; at < set->count && set->spans[at].page <= *page; at++)
        *page = set->spans[at].end;
    *stop = at < set->count && set->spans[at].page < end ? set->spans[at].page : end;
    return *page < end;
}

bool page_set_next_inside(const struct page_set *set, uint64_t *page, uint64_t end, uint64_t *stop)
{
    uint32_t at = page_set_find(set, *page);

    if (*page >= end || at == set->count || set->spans[at].page >= end)
        return false;
    if (set->spans[at].page > *page)
        *page = set->spans[at].page;
    *stop = set->spans[at].end < end ? set->spans[at].end : end;
    return true;
}

bool page_set_subtract(struct page_set *out, const struct page_set *a, const struct page_set *b)
{
    out->count = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        uint64_t page = a->spans[i].page, stop = 0;

        for (; page_set_next_outside(b, &page, a->spans[i].end, &stop); page = stop) {
            if (out->count == out->limit)
                return false;
            out->spans[out->count++] = (struct page_span){page, stop};
        }
    }
    return true;
}

bool page_set_join(struct page_set *set, const struct page_set *other)
{
    if (other->count > set->limit - set->count)
        return false;
    memcpy(set->spans + set->count, other->spans, other->count * sizeof *set->spans);
    set->count += other->count;
    page_set_settle(set);
    return true;
}

void page_set_copy(struct page_set *to, const struct page_set *from)
{
    memcpy(to->spans, from->spans, from->count * sizeof *to->spans);
    to->count = from->count;
}
