/*
 * rewrite.c - see rewrite.h. What must hold: the index never refers to a frame whose content is not
 * the page's. So a page is read, checked, written to a frame that was free, and only then is the
 * index told; the frame it leaves stays as it is for the generations that refer to it.
 */
#include "core/image/rewrite.h"

#include <errno.h>
#include <string.h>

#include "core/base/sys.h"
#include "core/heap/heap.h"

#define LEAF_PAGES    INDEX_NODE_ENTRIES
#define LEAVES        ((uint32_t)(SLOT_BYTES / PAGE_BYTES / LEAF_PAGES))
#define RUN_PAGES_MIN 8u /* a run of so many pages is worth a mapping of its own */

#define WRITTEN_PAGES REWRITE_KNOWN_PAGES

/* Flags of a neighbourhood: LEAF_NOTED, and in which of the last generations it was written. */
#define LEAF_NOTED            0x80u /* is in `noted` */
#define LEAF_WRITTEN(present) ((uint8_t)(1u << (present)))

struct leaf {
    uint64_t first_page;
    uint64_t home; /* page - frame, modulo 2^64 */
    uint32_t away_count;
    struct index_entry entries[LEAF_PAGES];
    bool is_away[LEAF_PAGES];
};

int rewriter_create(struct rewriter *rewriter, struct arena *arena, struct pool *pool)
{
    *rewriter = (struct rewriter){.pool = pool};
    rewriter->away = arena_alloc(arena, LEAVES, 64);
    rewriter->flags = arena_alloc(arena, LEAVES, 64);
    rewriter->noted = arena_alloc(arena, LEAVES * sizeof(uint32_t), 64);
    rewriter->buffer = arena_alloc(arena, LEAF_PAGES * PAGE_BYTES, PAGE_BYTES);
    for (unsigned i = 0; i < REWRITE_LATELY; i++) {
        rewriter->written[i] = arena_alloc(arena, WRITTEN_PAGES / 8, 64);
        if (!rewriter->written[i])
            return -ENOMEM;
    }
    return rewriter->away && rewriter->flags && rewriter->noted && rewriter->buffer ? 0 : -ENOMEM;
}

static uint64_t slot_page(const struct rewriter *rewriter)
{
    return SLOT_BASE(rewriter->pool->super.slot) >> PAGE_SHIFT;
}

static void note_leaf(struct rewriter *rewriter, uint32_t leaf)
{
    if (leaf >= rewriter->end)
        rewriter->end = leaf + 1;
    if (rewriter->flags[leaf] & LEAF_NOTED)
        return;
    rewriter->flags[leaf] |= LEAF_NOTED;
    rewriter->noted[rewriter->noted_count++] = leaf;
}

void rewriter_note(struct rewriter *rewriter, const uint64_t *pages, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t place = pages[i] - slot_page(rewriter), leaf = place / LEAF_PAGES;

        if (leaf >= LEAVES) /* pages below the slot wrap round */
            continue;
        note_leaf(rewriter, (uint32_t)leaf);
        rewriter->flags[leaf] |= LEAF_WRITTEN(rewriter->present);
        if (place < WRITTEN_PAGES)
            rewriter->written[rewriter->present][place / 8] |= (uint8_t)(1u << place % 8);
        rewriter->written_pages++;
    }
}

static bool is_written_lately(const struct rewriter *rewriter, uint64_t page)
{
    uint64_t place = page - slot_page(rewriter);
    unsigned bits = 0;

    if (place >= WRITTEN_PAGES)
        return true;
    for (unsigned i = 0; i < REWRITE_LATELY; i++)
        bits |= rewriter->written[i][place / 8];
    return bits >> place % 8 & 1;
}

uint32_t rewriter_count_written(const struct rewriter *rewriter, uint32_t leaf)
{
    size_t first = (size_t)leaf * LEAF_PAGES / 8;
    uint32_t count = 0;

    if (first >= WRITTEN_PAGES / 8 || !(rewriter->flags[leaf] & LEAF_WRITTEN(rewriter->present)))
        return 0;
    for (size_t k = first; k < first + LEAF_PAGES / 8; k++)
        count += (uint32_t)__builtin_popcount(rewriter->written[rewriter->present][k]);
    return count;
}

/* The next generation takes the place of the oldest of the last ones. What that one wrote may come
 * home now, so those neighbourhoods are counted anew. */
static void pass_time(struct rewriter *rewriter)
{
    uint64_t used_bytes = (uint64_t)rewriter->end * LEAF_PAGES / 8;
    unsigned next = (rewriter->present + 1) % REWRITE_LATELY;

    rewriter->present = next;
    memset(rewriter->written[next], 0,
           used_bytes < WRITTEN_PAGES / 8 ? used_bytes : WRITTEN_PAGES / 8);
    for (uint32_t leaf = 0; leaf < rewriter->end; leaf++) {
        if (rewriter->flags[leaf] & LEAF_WRITTEN(next))
            note_leaf(rewriter, leaf);
        rewriter->flags[leaf] &= (uint8_t)~LEAF_WRITTEN(next);
    }
}

/* --- counting --- */

static bool is_at(const struct leaf *leaf, unsigned i, uint64_t delta)
{
    return leaf->entries[i].frame >= FRAME_FIRST &&
           leaf->first_page + i - leaf->entries[i].frame == delta;
}

/* The difference that most pages have, if one has the majority (the vote of Boyer and Moore). */
static uint64_t vote_home(const struct leaf *leaf)
{
    uint64_t home = 0;
    unsigned votes = 0;

    for (unsigned i = 0; i < LEAF_PAGES; i++) {
        if (leaf->entries[i].frame < FRAME_FIRST)
            continue;
        if (votes == 0)
            home = leaf->first_page + i - leaf->entries[i].frame;
        if (is_at(leaf, i, home))
            votes++;
        else
            votes--;
    }
    return home;
}

static void find_away(const struct rewriter *rewriter, struct leaf *leaf)
{
    unsigned length = 0;

    leaf->away_count = 0;
    memset(leaf->is_away, 0, sizeof leaf->is_away);
    for (unsigned i = 0; i < LEAF_PAGES; i += length) {
        uint64_t delta = leaf->first_page + i - leaf->entries[i].frame;

        length = 1;
        if (leaf->entries[i].frame < FRAME_FIRST || delta == leaf->home)
            continue;
        while (i + length < LEAF_PAGES && is_at(leaf, i + length, delta))
            length++;
        if (length >= RUN_PAGES_MIN)
            continue;
        for (unsigned k = i; k < i + length; k++) {
            leaf->is_away[k] = !is_written_lately(rewriter, leaf->first_page + k);
            leaf->away_count += leaf->is_away[k];
        }
    }
}

static void set_away(struct rewriter *rewriter, uint32_t number, uint32_t count)
{
    rewriter->away_pages -= rewriter->away[number];
    rewriter->away[number] = (uint8_t)(count < UINT8_MAX ? count : UINT8_MAX);
    rewriter->away_pages += rewriter->away[number];
}

/* Reads a neighbourhood from the index and counts it anew. */
static int load_leaf(struct rewriter *rewriter, uint32_t number, struct leaf *leaf)
{
    int status = 0;

    leaf->first_page = slot_page(rewriter) + (uint64_t)number * LEAF_PAGES;
    for (unsigned i = 0; i < LEAF_PAGES && status >= 0; i++)
        status = index_lookup(rewriter->pool->index, leaf->first_page + i, &leaf->entries[i]);
    if (status < 0)
        return status;
    leaf->home = vote_home(leaf);
    find_away(rewriter, leaf);
    set_away(rewriter, number, leaf->away_count);
    return 0;
}

/* Notes every neighbourhood that the pool held when it was opened. */
static int note_all(struct rewriter *rewriter)
{
    uint64_t first = slot_page(rewriter), page = first;
    uint64_t end = first + (uint64_t)LEAVES * LEAF_PAGES;
    struct index_entry entry;
    int found = 0;

    while ((found = index_next(rewriter->pool->index, page, end, &page, &entry)) == 1) {
        uint32_t leaf = (uint32_t)((page - first) / LEAF_PAGES);

        note_leaf(rewriter, leaf);
        page = first + ((uint64_t)leaf + 1) * LEAF_PAGES;
    }
    rewriter->counted = found == 0;
    return found;
}

static int count_noted(struct rewriter *rewriter)
{
    struct leaf leaf;
    int status = rewriter->counted ? 0 : note_all(rewriter);

    while (rewriter->noted_count && status >= 0) {
        uint32_t number = rewriter->noted[rewriter->noted_count - 1];

        status = load_leaf(rewriter, number, &leaf);
        if (status < 0)
            break;
        rewriter->flags[number] &= (uint8_t)~LEAF_NOTED;
        rewriter->noted_count--;
    }
    return status;
}

/* --- moving --- */

/* Writes `count` pages of buffer, pages page.., to frames frame.., which are taken. What the index
 * was not told of is given back. */
static int move_pages(struct rewriter *rewriter, const struct leaf *leaf, unsigned first,
                      unsigned count, uint64_t frame)
{
    struct pool *pool = rewriter->pool;
    unsigned told = 0;
    int status =
        persist_write(&pool->persist, frame << FRAME_SHIFT,
                      rewriter->buffer + (size_t)first * PAGE_BYTES, (size_t)count * PAGE_BYTES);

    for (; status >= 0 && told < count; told += status >= 0) {
        struct index_entry entry = {frame + told, leaf->entries[first + told].checksum};

        status = index_set(pool->index, pool->frames, leaf->first_page + first + told, entry);
    }
    for (; told < count; told++)
        if (frames_release(pool->frames, frame + told) < 0)
            return STATUS_DAMAGED;
    return status;
}

/* A frame that cannot be read, or is damaged, stays where it is. */
static bool read_into_buffer(struct rewriter *rewriter, const struct leaf *leaf, unsigned i)
{
    return pool_read_page(rewriter->pool, leaf->entries[i],
                          rewriter->buffer + (size_t)i * PAGE_BYTES, NULL) >= 0;
}

/* Copies pages whose frame at home is free back to it. Returns how many. */
static int bring_home(struct rewriter *rewriter, uint32_t number)
{
    struct leaf leaf;
    int status = load_leaf(rewriter, number, &leaf), moved = 0;

    for (unsigned i = 0; i < LEAF_PAGES && status >= 0; i++) {
        uint64_t frame = leaf.first_page + i - leaf.home;

        if (!leaf.is_away[i] || frames_take_at(rewriter->pool->frames, frame) < 0)
            continue;
        if (!read_into_buffer(rewriter, &leaf, i)) {
            if (frames_release(rewriter->pool->frames, frame) < 0)
                return STATUS_DAMAGED;
            continue;
        }
        status = move_pages(rewriter, &leaf, i, 1, frame);
        moved += status >= 0;
    }
    if (moved && status >= 0)
        status = load_leaf(rewriter, number, &leaf);
    return status < 0 ? status : moved;
}

/* Where the pages [*first, *end) with frames of their own lie. */
static bool leaf_bounds(const struct leaf *leaf, unsigned *first, unsigned *end)
{
    *first = LEAF_PAGES;
    *end = 0;
    for (unsigned i = 0; i < LEAF_PAGES; i++) {
        if (leaf->entries[i].frame < FRAME_FIRST)
            continue;
        *first = *first < i ? *first : i;
        *end = i + 1;
    }
    return *first < *end;
}

/* Moves what is between two pages without frames; frames of the latter are given back. */
static int move_segments(struct rewriter *rewriter, const struct leaf *leaf, unsigned first,
                         unsigned end, uint64_t frame)
{
    int status = 0, released = 0;

    for (unsigned i = first, count = 0; i < end; i += count ? count : 1) {
        for (count = 0; i + count < end && leaf->entries[i + count].frame >= FRAME_FIRST;)
            count++;
        if (count && status >= 0) {
            status = move_pages(rewriter, leaf, i, count, frame + i - first);
            continue;
        }
        for (unsigned k = 0; k < (count ? count : 1) && released >= 0; k++)
            released = frames_release(rewriter->pool->frames, frame + i + k - first);
    }
    return released < 0 ? STATUS_DAMAGED : status;
}

/*
 * Copies a neighbourhood to contiguous frames, pages without content leaving gaps, so that
 * page - frame is one number throughout. Returns the number of pages.
 */
static int rewrite_leaf(struct rewriter *rewriter, uint32_t number)
{
    struct leaf leaf;
    unsigned first = 0, end = 0;
    uint64_t frame = 0, got = 0;
    int status = load_leaf(rewriter, number, &leaf), pages = 0;

    if (status < 0 || leaf.away_count == 0 || !leaf_bounds(&leaf, &first, &end))
        return status;
    for (unsigned i = first; i < end; i++) {
        if (leaf.entries[i].frame < FRAME_FIRST)
            continue;
        if (!read_into_buffer(rewriter, &leaf, i)) {
            set_away(rewriter, number, 0); /* not again before it is written to */
            return 0;
        }
        pages++;
    }
    status = frames_take(rewriter->pool->frames, end - first, true, &frame, &got);
    if (status >= 0)
        status = move_segments(rewriter, &leaf, first, end, frame);
    if (status >= 0)
        status = load_leaf(rewriter, number, &leaf);
    return status < 0 ? status : pages;
}

/* --- the budget --- */

static int bring_many_home(struct rewriter *rewriter, uint64_t *budget, uint64_t *moved_pages)
{
    for (uint32_t i = 0; i < rewriter->end && *budget; i++) {
        uint32_t number = rewriter->cursor < rewriter->end ? rewriter->cursor : 0;
        int moved = 0;

        rewriter->cursor = number + 1;
        if (!rewriter->away[number])
            continue;
        if (rewriter->away_pages <= REWRITE_LOW)
            return 0;
        moved = bring_home(rewriter, number);
        if (moved < 0)
            return moved;
        *moved_pages += (uint64_t)moved;
        *budget -= (uint64_t)moved < *budget ? (uint64_t)moved : *budget;
    }
    return 0;
}

static uint32_t most_scattered(const struct rewriter *rewriter)
{
    uint32_t worst = 0;

    for (uint32_t i = 1; i < rewriter->end; i++)
        if (rewriter->away[i] > rewriter->away[worst])
            worst = i;
    return worst;
}

static int rewrite_many(struct rewriter *rewriter, uint64_t *budget, uint64_t *moved_pages)
{
    while (rewriter->away_pages > REWRITE_HIGH && *budget) {
        uint32_t worst = most_scattered(rewriter);
        int moved = 0;

        if (rewriter->away[worst] < REWRITE_AWAY_MIN)
            break;
        moved = rewrite_leaf(rewriter, worst);
        if (moved < 0)
            return moved;
        *moved_pages += (uint64_t)moved;
        *budget -= (uint64_t)moved < *budget ? (uint64_t)moved : *budget;
    }
    return 0;
}

int rewriter_run(struct rewriter *rewriter, uint64_t *bytes)
{
    uint64_t budget = REWRITE_PAGES_MIN + rewriter->written_pages, moved_pages = 0;
    int status = 0;

    rewriter->written_pages = 0;
    status = count_noted(rewriter);
    if (status < 0)
        return status;
    if (rewriter->away_pages > REWRITE_LOW)
        status = pool_make_room(rewriter->pool, NULL);
    if (status >= 0 && rewriter->away_pages > REWRITE_LOW)
        status = bring_many_home(rewriter, &budget, &moved_pages);
    if (status >= 0)
        status = rewrite_many(rewriter, &budget, &moved_pages);
    pass_time(rewriter);
    *bytes += moved_pages * PAGE_BYTES;
    /* The index itself says STATUS_DAMAGED of what it cannot read; all else can wait. */
    return status == STATUS_DAMAGED ? status : 0;
}
