/*
 * busy.c - see busy.h. Always true: a page is in at most one turn's set, and in `all` exactly when
 * it is in one of them; so a round looks at each page once, however many neighbourhoods there are.
 */
#include "core/image/busy.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"
#include "core/heap/heap.h"

#define SPANS_MAX  4096u /* what does not fit is protected */
#define LEAF_PAGES INDEX_NODE_ENTRIES
#define LEAVES     ((uint32_t)(REWRITE_KNOWN_PAGES / LEAF_PAGES))
#define HALF       (LEAF_PAGES / 2)

/* Looked at in one piece: what a page of the page tables maps. For each that a piece touches the
 * kernel interrupts the program's processors once. */
#define PIECE_PAGES 512u

/*
 * Pages that were found written after the first round, of 256. What is hot is looked at last, so
 * that little time is left in which it could be stored to: it stays hot with much less.
 */
#define HOT_PAGES_FIRST 96u
#define HOT_PAGES_STILL 16u

/* States. From BUSY on it is unprotected, and for so many generations more on trust. */
#define QUIET         0u
#define ONCE          1u
#define BUSY          2u
#define STATE_MASK    0x7fu
#define STATE_HOT     0x80u
#define FULLY_TRUSTED (BUSY + BUSY_TRUST_TURNS)

int busy_create(struct busy *busy, struct arena *arena, uint32_t slot)
{
    int status = page_set_create(&busy->all, arena, SPANS_MAX);

    for (unsigned i = 0; i < BUSY_TURNS && status >= 0; i++)
        status = page_set_create(&busy->turns[i], arena, SPANS_MAX);
    busy->slot_page = SLOT_BASE(slot) >> PAGE_SHIFT;
    busy->state = arena_alloc(arena, LEAVES, 64);
    busy->found = arena_alloc(arena, LEAVES * sizeof(uint16_t), 64);
    busy->again = arena_alloc(arena, LEAVES * sizeof(uint16_t), 64);
    if (status >= 0 && (!busy->state || !busy->found || !busy->again))
        status = -ENOMEM;
    return status;
}

void busy_note(struct busy *busy, uint64_t page, uint64_t end)
{
    uint64_t limit = busy->slot_page + (uint64_t)LEAVES * LEAF_PAGES, next;

    page = page > busy->slot_page ? page : busy->slot_page;
    end = end < limit ? end : limit;
    for (; page < end; page = next) {
        uint32_t leaf = (uint32_t)((page - busy->slot_page) / LEAF_PAGES);
        uint16_t *count = busy->has_begun ? &busy->again[leaf] : &busy->found[leaf];

        next = busy->slot_page + ((uint64_t)leaf + 1) * LEAF_PAGES;
        next = next < end ? next : end;
        if (*count < UINT16_MAX - LEAF_PAGES)
            *count += (uint16_t)(next - page);
        busy->end = leaf < busy->end ? busy->end : leaf + 1;
    }
}

void busy_round_done(struct busy *busy)
{
    busy->has_begun = true;
}

void busy_begin_again(struct busy *busy)
{
    busy->has_begun = false;
    memset(busy->found, 0, busy->end * sizeof *busy->found);
    memset(busy->again, 0, busy->end * sizeof *busy->again);
}

/* Neighbourhoods come in ascending order. The caller has seen to room. */
static void add(struct page_set *set, uint64_t page)
{
    struct page_span *last = set->count ? &set->spans[set->count - 1] : NULL;

    if (last && last->end == page)
        last->end += LEAF_PAGES;
    else
        set->spans[set->count++] = (struct page_span){page, page + LEAF_PAGES};
}

/* written: pages that have changed. */
static unsigned next_state(const struct busy *busy, uint32_t leaf, uint32_t written,
                           uint32_t *trusted)
{
    unsigned state = busy->state[leaf] & STATE_MASK;

    if (state < BUSY) {
        if (busy->found[leaf] < HALF)
            return QUIET;
        return state == QUIET ? ONCE : FULLY_TRUSTED;
    }
    if (written >= HALF)
        return FULLY_TRUSTED;
    if (state == BUSY || *trusted == BUSY_TRUSTED)
        return ONCE;
    ++*trusted;
    return state - 1;
}

static bool is_hot(const struct busy *busy, uint32_t leaf)
{
    bool was = (busy->state[leaf] & STATE_HOT) != 0;

    return busy->again[leaf] >= (was ? HOT_PAGES_STILL : HOT_PAGES_FIRST);
}

void busy_decide(struct busy *busy, const struct rewriter *rewriter)
{
    uint32_t trusted = 0;

    busy->all.count = 0;
    for (unsigned i = 0; i < BUSY_TURNS; i++)
        busy->turns[i].count = 0;
    for (uint32_t leaf = 0; leaf < busy->end; leaf++) {
        unsigned state = next_state(busy, leaf, rewriter_count_written(rewriter, leaf), &trusted);
        bool hot = is_hot(busy, leaf);

        if (state >= BUSY && busy->all.count < SPANS_MAX && busy->turns[hot].count < SPANS_MAX) {
            add(&busy->all, busy->slot_page + (uint64_t)leaf * LEAF_PAGES);
            add(&busy->turns[hot], busy->slot_page + (uint64_t)leaf * LEAF_PAGES);
        } else if (state >= BUSY) {
            state = ONCE;
        }
        busy->state[leaf] = (uint8_t)(state | (hot ? STATE_HOT : 0));
        busy->found[leaf] = busy->again[leaf] = 0;
    }
    busy->has_begun = false;
}

bool busy_has(const struct busy *busy, unsigned turn)
{
    return busy->turns[turn].count > 0;
}

bool busy_next(const struct busy *busy, unsigned turn, uint64_t *page, uint64_t end, uint64_t *stop)
{
    uint64_t next;

    if (turn == BUSY_TURNS)
        return page_set_next_outside(&busy->all, page, end, stop);
    if (!page_set_next_inside(&busy->turns[turn], page, end, stop))
        return false;
    next = *page - *page % PIECE_PAGES + PIECE_PAGES;
    *stop = next < *stop ? next : *stop;
    return true;
}
