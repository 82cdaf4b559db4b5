/*
 * image_garbage.c - page sets against a bitmap; and a writer that is told what is garbage: that has
 * no entry, and what is in use again is as it was, written since or not, whatever was said while
 * the program ran.
 */
#include "t/lib/image_fixture.h"
#include "t/lib/test_random.h"

#include "core/image/page_set.h"

#define PAGES 256u

static enum tracking track;
static struct fixture f;
static uint64_t random_state = 88172645463325252ull;

static uint64_t random_below(uint64_t limit)
{
    return test_random(&random_state) % limit;
}

/* --- sets --- */

static void fill_set(struct page_set *set, bool *bits)
{
    memset(bits, 0, PAGES);
    set->count = 0;
    for (uint64_t spans = random_below(12); spans > 0; spans--) {
        uint64_t page = random_below(PAGES), end = page + random_below(30);

        end = end < PAGES ? end : PAGES;
        set->spans[set->count++] = (struct page_span){page, end};
        for (uint64_t i = page; i < end; i++)
            bits[i] = true;
    }
    page_set_settle(set);
}

static bool holds(const struct page_set *set, uint64_t page)
{
    for (uint32_t i = 0; i < set->count; i++)
        if (page >= set->spans[i].page && page < set->spans[i].end)
            return true;
    return false;
}

typedef bool next_part(const struct page_set *set, uint64_t *page, uint64_t end, uint64_t *stop);

/* The parts of [page, end) are those pages of which the bit is as it should be, each once. */
static bool parts_are(next_part *next, const struct page_set *set, const bool *bits, bool inside)
{
    uint64_t start = random_below(PAGES), end = start + random_below(PAGES - start + 1);
    uint64_t page = start, stop = 0, expected = 0, found = 0;

    for (uint64_t i = start; i < end; i++)
        expected += bits[i] == inside;
    for (; next(set, &page, end, &stop); page = stop) {
        if (page >= stop || stop > end)
            return false;
        for (uint64_t i = page; i < stop; i++, found++)
            if (bits[i] != inside)
                return false;
    }
    return found == expected;
}

static void sets_are_as_bitmaps_are(void)
{
    static struct page_span spans[4][64];
    struct page_set a = {spans[0], 0, 64}, b = {spans[1], 0, 64}, out = {spans[2], 0, 64};
    bool a_bits[PAGES], b_bits[PAGES], right = true;

    for (int round = 0; round < 3000 && right; round++) {
        fill_set(&a, a_bits);
        fill_set(&b, b_bits);
        right &= parts_are(page_set_next_outside, &a, a_bits, false);
        right &= parts_are(page_set_next_inside, &a, a_bits, true);
        right &= page_set_subtract(&out, &a, &b);
        for (uint64_t i = 0; i < PAGES; i++)
            right &= holds(&out, i) == (a_bits[i] && !b_bits[i]);
        right &= page_set_join(&a, &b);
        for (uint64_t i = 0; i < PAGES; i++)
            right &= holds(&a, i) == (a_bits[i] || b_bits[i]);
        for (uint32_t i = 1; i < a.count; i++)
            right &= a.spans[i].page > a.spans[i - 1].end;
        if (!CHECK(right))
            tap_note("round %d", round);
    }
}

static void a_set_that_is_full_says_so(void)
{
    static struct page_span spans[3][8];
    struct page_set a = {spans[0], 0, 4}, b = {spans[1], 0, 4}, out = {spans[2], 0, 2};

    for (uint64_t i = 0; i < 3; i++) {
        a.spans[a.count++] = (struct page_span){i * 10, i * 10 + 5};
        b.spans[b.count++] = (struct page_span){i * 10 + 6, i * 10 + 8};
    }
    CHECK(!page_set_join(&a, &b));
    CHECK_EQ(a.count, 3);
    CHECK(!page_set_subtract(&out, &a, &b));
}

/* --- a writer --- */

static char *memory;
static bool is_free[PAGES];
static bool lies; /* what is said while the program runs is random */

static uint32_t find(void *context, bool stopped, struct page_span *out, uint32_t limit)
{
    uint64_t first = (uintptr_t)memory >> PAGE_SHIFT;
    uint32_t count = 0;

    (void)context;
    for (uint64_t i = 0; i < PAGES && count < limit; i++) {
        bool said = !stopped && lies ? random_below(2) == 0 : is_free[i];

        if (said)
            out[count++] = (struct page_span){first + i, first + i + 1};
    }
    return count;
}

static bool start(void)
{
    bool started = fixture_start(&f, track, 0);

    memset(is_free, 0, sizeof is_free);
    lies = false;
    if (started)
        image_writer_set_garbage(f.writer, find, NULL);
    return started;
}

static bool image_is_right(const uint8_t *model)
{
    static uint8_t page[4096];
    static const uint8_t zeroes[4096];
    struct pool pool;
    struct image image;
    bool right = fixture_image(&f, &pool, &image);

    for (size_t i = 0; i < PAGES && right; i++) {
        const void *expected = is_free[i] ? (const void *)zeroes : model + i * 4096;

        right = image_read(&image, (uintptr_t)memory + i * 4096, page, 4096, &f.why) >= 0 &&
                memcmp(page, expected, 4096) == 0;
        if (!right)
            tap_note("page %zu, %s", i, is_free[i] ? "garbage" : "in use");
    }
    pool_close(&pool);
    return right;
}

/* What memory was at the cut is what the image shows. */
static bool checkpoint(uint8_t *model)
{
    uintptr_t mark = arena_mark(&f.reading);
    int status = fixture_precopy(&f);

    if (status >= 0)
        status = maps_read(&f.space, "/proc/self/maps", &f.reading);
    if (status >= 0)
        status = image_writer_cut(f.writer, &f.space, 0, &f.why);
    memcpy(model, memory, PAGES * 4096);
    arena_rewind(&f.reading, mark);
    if (status >= 0)
        status = fixture_commit(&f);
    if (status < 0)
        fixture_fail(&f, "checkpoint", status);
    return status >= 0 && image_is_right(model);
}

static void what_is_in_use_again_is_as_it_was(void)
{
    memory = fixture_map(PAGES);
    if (start()) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);

        memset(memory, 5, PAGES * 4096);
        CHECK(checkpoint(model));
        memset(is_free + 10, 1, 100);
        memset(memory + 50 * 4096, 6, 100 * 4096);
        CHECK(checkpoint(model));
        CHECK_EQ(fixture_entry(&f, memory + 60 * 4096).frame, FRAME_NONE);
        memset(is_free + 10, 0, 50); /* unwritten since */
        CHECK(checkpoint(model));
        CHECK(fixture_shows(&f, memory + 10 * 4096, memory + 10 * 4096, 50 * 4096));
        memset(is_free, 0, sizeof is_free);
        CHECK_OK(fixture_precopy(&f));
        memset(is_free, 1, 80); /* free again before the cut */
        CHECK(checkpoint(model));
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

static void a_cut_that_is_given_up_forgets_no_garbage(void)
{
    memory = fixture_map(PAGES);
    if (start()) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);

        memset(memory, 7, PAGES * 4096);
        CHECK(checkpoint(model));
        memset(memory, 8, PAGES * 4096);
        memset(is_free + 100, 1, 50);
        CHECK_EQ(fixture_cut_of(&f, 20), image_writer_tracks(f.writer) ? STATUS_DEFERRED : 0);
        memset(is_free, 0, sizeof is_free);
        CHECK(checkpoint(model));
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

/* Pages come and go, are written or not, and what is said while the program runs is a lie. */
static void a_random_program_has_its_memory_whatever_is_said_meanwhile(void)
{
    memory = fixture_map(PAGES);
    if (start()) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);

        lies = true;
        for (int generation = 0; generation < 60; generation++) {
            for (int i = 0; i < 40; i++)
                is_free[random_below(PAGES)] ^= 1;
            for (int i = 0; i < 60; i++)
                memory[random_below(PAGES) * 4096 + random_below(4096)] ^= 1;
            if (random_below(4) == 0)
                madvise(memory + random_below(PAGES) * 4096, 4096, MADV_DONTNEED);
            if (random_below(3) == 0)
                CHECK_OK(fixture_precopy(&f));
            if (!CHECK(checkpoint(model)))
                break;
        }
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(sets_are_as_bitmaps_are);
    RUN(a_set_that_is_full_says_so);
    fixture_run_by_each(&track, "what_is_in_use_again_is_as_it_was",
                        what_is_in_use_again_is_as_it_was);
    fixture_run_by_each(&track, "a_cut_that_is_given_up_forgets_no_garbage",
                        a_cut_that_is_given_up_forgets_no_garbage);
    fixture_run_by_each(&track, "a_random_program_has_its_memory_whatever_is_said_meanwhile",
                        a_random_program_has_its_memory_whatever_is_said_meanwhile);
    return tap_done();
}
