/*
 * image_changed.c - the cheap questions of a cut (changed.h) see what the one dear one sees: every
 * page that was written, and every absent one.
 */
#include "core/image/changed.h"
#include "core/image/writer_state.h"
#include "t/lib/image_fixture.h"
#include "t/lib/test_random.h"

#define TABLE   ((uint64_t)512) /* pages that one page table maps */
#define TABLES  8u
#define PAGES   (TABLES * TABLE)
#define ROUNDS  40
#define WRITTEN 1u
#define ABSENT  2u

static struct fixture f;
static char *memory; /* begins with a page table */
static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
    return test_random(&random_state) % limit;
}

static char *map_tables(uint64_t tables)
{
    size_t bytes = (tables + 1) * TABLE * 4096;
    char *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uintptr_t first = ((uintptr_t)mapped + TABLE * 4096 - 1) & -(uintptr_t)(TABLE * 4096);

    CHECK(mapped != MAP_FAILED);
    madvise(mapped, bytes, MADV_NOHUGEPAGE);
    munmap(mapped, first - (uintptr_t)mapped);
    munmap((char *)first + tables * TABLE * 4096, (uintptr_t)mapped + TABLE * 4096 - first);
    return (char *)first;
}

static void write_pages(uint64_t page, uint64_t end)
{
    for (; page < end; page++)
        memory[page * 4096 + 8] = (char)(1 + random_below(100));
}

static void drop(uint64_t page, uint64_t pages)
{
    CHECK_EQ(madvise(memory + page * 4096, pages * 4096, MADV_DONTNEED), 0);
}

static void map_anew(uint64_t page, uint64_t pages)
{
    CHECK(mmap(memory + page * 4096, pages * 4096, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory + page * 4096);
    madvise(memory + page * 4096, pages * 4096, MADV_NOHUGEPAGE);
}

/* What a question tells of each page of `memory`. */
static int note(void *context, const struct page_run *run)
{
    uint8_t *seen = context;
    uint64_t first = (uintptr_t)memory >> PAGE_SHIFT;

    for (uint64_t page = run->page; page < run->end; page++)
        if (page >= first && page < first + PAGES)
            seen[page - first] |= run->flags & RUN_ABSENT ? ABSENT : WRITTEN;
    return 0;
}

static int ask_limited(uint64_t runs, uint64_t pages, uint8_t *seen)
{
    uintptr_t start = (uintptr_t)memory;

    memset(seen, 0, PAGES);
    return changed_cheaply(&f.writer->tracker.pagemap, start, start + PAGES * 4096, runs, pages,
                           note, seen);
}

/* Asks for both, of all that is mapped there; the mappings must be registered where they hold
 * pages, as they are in a cut. False: they differ. */
static bool both_agree(void)
{
    static uint8_t dear[PAGES], cheap[PAGES];
    uintptr_t start = (uintptr_t)memory, mark = arena_mark(&f.reading);
    uint64_t wrong = 0;

    memset(dear, 0, sizeof dear);
    CHECK_EQ(maps_read(&f.space, "/proc/self/maps", &f.reading), 0);
    CHECK_EQ(tracker_prepare(&f.writer->tracker, &f.space), 0);
    CHECK_EQ(pagemap_changed(&f.writer->tracker.pagemap, start, start + PAGES * 4096, note, dear),
             0);
    CHECK_EQ(ask_limited(4 * PAGES, 4 * PAGES, cheap), 0);
    while (wrong < PAGES && dear[wrong] == cheap[wrong])
        wrong++;
    arena_rewind(&f.reading, mark);
    if (wrong < PAGES)
        tap_note("page %lu: %u, and by the cheap way %u", (unsigned long)wrong, dear[wrong],
                 cheap[wrong]);
    return wrong == PAGES;
}

/* All of memory is in a generation, and protected. */
static bool begin(void)
{
    memory = map_tables(TABLES);
    memset(memory, 1, PAGES * 4096);
    return fixture_start(&f, TRACKING_BEST, 0) && CHECK(fixture_checkpoint(&f));
}

static void end(void)
{
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

static void of_what_nobody_touched_nothing_is_told(void)
{
    static uint8_t seen[PAGES];

    if (begin()) {
        CHECK(both_agree());
        CHECK_EQ(maps_read(&f.space, "/proc/self/maps", &f.reading), 0);
        CHECK_EQ(ask_limited(4 * PAGES, 4 * PAGES, seen), 0);
        for (uint64_t page = 0; page < PAGES; page++)
            if (!CHECK_EQ(seen[page], 0))
                break;
    }
    end();
}

/* A page table goes with the last of its pages. */
static void pages_that_go_with_their_page_table_are_told(void)
{
    if (begin()) {
        drop(TABLE, TABLE);
        CHECK(both_agree());
        drop(3 * TABLE, 2 * TABLE);
        write_pages(6 * TABLE, 6 * TABLE + 1);
        CHECK(both_agree());
        map_anew(6 * TABLE, 2 * TABLE);
        CHECK(both_agree());
    }
    end();
}

static void pages_of_a_table_that_stays_are_told(void)
{
    if (begin()) {
        drop(7, 1);
        drop(2 * TABLE, TABLE - 1);
        drop(3 * TABLE + 1, TABLE - 1);
        CHECK(both_agree());
        /* Read: the zero page. */
        CHECK_EQ(((volatile char *)memory)[7 * 4096], 0);
        CHECK(both_agree());
    }
    end();
}

/* A part of a table that another mapping holds too, new and never registered. */
static void a_table_of_two_mappings_is_not_taken_for_one(void)
{
    if (begin()) {
        map_anew(TABLE / 2, TABLE);
        CHECK(both_agree());
        CHECK_EQ(munmap(memory + 4 * TABLE * 4096, TABLE / 2 * 4096), 0);
        CHECK(both_agree());
        map_anew(4 * TABLE, TABLE / 2);
        CHECK(both_agree());
        /* No table, where there was one, and two mappings of it. */
        map_anew(6 * TABLE, TABLE);
        CHECK_EQ(mprotect(memory + 6 * TABLE * 4096, TABLE / 2 * 4096, PROT_READ), 0);
        CHECK(both_agree());
    }
    end();
}

static void more_pages_than_one_answer_holds_are_told(void)
{
    if (begin()) {
        for (uint64_t page = 0; page < PAGES; page += 2)
            write_pages(page, page + 1);
        CHECK(both_agree());
        for (uint64_t page = 0; page < PAGES; page += 3)
            drop(page, 1);
        CHECK(both_agree());
    }
    end();
}

static void operate(void)
{
    uint64_t table = random_below(TABLES), page = random_below(PAGES);
    uint64_t most = random_below(3) ? 20 : 2 * TABLE;
    uint64_t pages = 1 + random_below(most < PAGES - page ? most : PAGES - page);

    switch (random_below(7)) {
    case 0:
        drop(table * TABLE, TABLE * (1 + random_below(TABLES - table)));
        break;
    case 1:
    case 2:
        drop(page, pages);
        break;
    case 3:
        map_anew(page, pages);
        break;
    case 4:
        for (uint64_t i = page; i < page + pages; i++)
            CHECK(((volatile char *)memory)[i * 4096] >= 0);
        break;
    default:
        write_pages(page, page + pages);
    }
}

/* Now and then a generation is made, so that what is gone has entries and what is new is protected.
 */
static void random_programs_are_seen_the_same_way(void)
{
    random_state = 88172645463325252ull;
    if (begin()) {
        for (int round = 0; round < ROUNDS; round++) {
            for (uint64_t i = 1 + random_below(6); i > 0; i--)
                operate();
            if (!CHECK(both_agree())) {
                tap_note("round %d", round);
                break;
            }
            if (random_below(3) == 0 && !CHECK(fixture_checkpoint(&f)))
                break;
        }
    }
    end();
}

/* Then it is asked for in the one question. */
static void more_than_pays_is_not_told_at_all(void)
{
    static uint8_t seen[PAGES];

    if (begin()) {
        for (uint64_t page = 10; page < 50; page += 2)
            write_pages(page, page + 1);
        drop(60, 64);
        CHECK_EQ(ask_limited(21, PAGES, seen), 1);
        CHECK_EQ(ask_limited(22, 84, seen), 1);
        CHECK(memchr(seen, WRITTEN, PAGES) == NULL && memchr(seen, ABSENT, PAGES) == NULL);
        CHECK_EQ(ask_limited(22, 85, seen), 0);
        CHECK_EQ(seen[48], WRITTEN);
        CHECK_EQ(seen[123], ABSENT);
    }
    end();
}

/* As large as it takes for the cut to choose this way. */
static void a_cut_of_a_large_heap_clears_what_went_with_its_page_table(void)
{
    uint64_t tables = 40, bytes = tables * TABLE * 4096;

    memory = map_tables(tables);
    for (uint64_t page = 0; page < tables * TABLE; page++)
        memory[page * 4096] = 1;
    if (fixture_start(&f, TRACKING_BEST, 0) && CHECK(fixture_checkpoint(&f))) {
        drop(5 * TABLE, TABLE);
        drop(9 * TABLE + 3, 4);
        memory[20 * TABLE * 4096] = 2;
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(fixture_entry(&f, memory + 5 * TABLE * 4096).frame, FRAME_NONE);
        CHECK_EQ(fixture_entry(&f, memory + (6 * TABLE - 1) * 4096).frame, FRAME_NONE);
        CHECK_EQ(fixture_entry(&f, memory + (9 * TABLE + 5) * 4096).frame, FRAME_NONE);
        CHECK(fixture_entry(&f, memory + 6 * TABLE * 4096).frame >= FRAME_FIRST);
        CHECK(fixture_shows(&f, memory, memory, 12 * TABLE * 4096));
        CHECK(fixture_shows(&f, memory + 20 * TABLE * 4096, memory + 20 * TABLE * 4096, 4096));
    }
    fixture_stop(&f);
    munmap(memory, bytes);
}

int main(int argc, char **argv)
{
    struct kernel_features features;

    tap_arguments(argc, argv);
    kernel_features_probe(&features);
    if (!features.pagemap_quick) {
        tap_skip("a kernel that does not answer the cheap questions");
        return tap_done();
    }
    RUN(of_what_nobody_touched_nothing_is_told);
    RUN(pages_that_go_with_their_page_table_are_told);
    RUN(pages_of_a_table_that_stays_are_told);
    RUN(a_table_of_two_mappings_is_not_taken_for_one);
    RUN(more_pages_than_one_answer_holds_are_told);
    RUN(random_programs_are_seen_the_same_way);
    RUN(more_than_pays_is_not_told_at_all);
    RUN(a_cut_of_a_large_heap_clears_what_went_with_its_page_table);
    return tap_done();
}
