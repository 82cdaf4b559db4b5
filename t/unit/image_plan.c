/*
 * image_plan.c - how a generation is mapped: the plan is right (every page shows its own frame),
 * cheapest (compared with trying everything), within its budget, and stays small over many
 * generations of scattered writes because the writer brings pages home.
 */
#include "t/lib/image_fixture.h"
#include "t/lib/test_random.h"

#include <errno.h>

#include "core/base/checksum.h"
#include "core/heap/heap.h"
#include "core/image/plan_runs.h"

#define SLOT_PAGE (SLOT_BASE(7) >> PAGE_SHIFT)

static struct fixture f;
static uint64_t random_state = 1;

static uint64_t random_below(uint64_t limit)
{
    return test_random(&random_state) % limit;
}

/* Writes one page of the slot straight into the pool, filled with `value`. */
static void write_page(uint64_t page, uint8_t value)
{
    uint8_t data[4096];
    uint64_t number = SLOT_PAGE + page, checksum = 0, bytes = 0;

    memset(data, value, sizeof data);
    checksum = checksum64(data, sizeof data);
    CHECK_OK(pool_write_pages(&f.pool, &number, &checksum, data, 1, &bytes));
}

/* A run of pages, in contiguous frames if the pool has them. */
static void write_run(uint64_t page, uint64_t pages, uint8_t value)
{
    uint8_t *data = malloc(pages * 4096);
    uint64_t *numbers = malloc(pages * 8), *checksums = malloc(pages * 8), bytes = 0;

    memset(data, value, pages * 4096);
    for (uint64_t i = 0; i < pages; i++) {
        numbers[i] = SLOT_PAGE + page + i;
        checksums[i] = checksum64(data + i * 4096, 4096);
    }
    CHECK_OK(pool_write_pages(&f.pool, numbers, checksums, data, pages, &bytes));
    free(data);
    free(numbers);
    free(checksums);
}

static void clear_pages(uint64_t page, uint64_t pages)
{
    CHECK_OK(index_clear(f.pool.index, f.pool.frames, SLOT_PAGE + page, SLOT_PAGE + page + pages));
}

static void commit(void)
{
    f.entry = (struct generation_entry){.kind = GENERATION_HEAP, .slot = 7};
    CHECK_OK(pool_commit(&f.pool, &f.entry, "", 0, &f.why));
}

#define MAPPED UINT64_MAX /* instead of a checksum: a plan has none of what is mapped */

/* Follows the plan on paper: which frame does each page of the slot show? And what is read in, with
 * which checksum is it compared? */
static bool plan_shows_the_index(struct image *image, const struct image_plan *plan, uint64_t pages)
{
    struct index_entry *shown = calloc(pages, sizeof *shown);
    uint64_t wrong = 0, end = 0;

    for (uint64_t i = 0; i < plan->extent_count; i++) {
        const struct plan_extent *e = &plan->extents[i];

        CHECK(e->page >= end && e->pages > 0 && e->page + e->pages <= SLOT_PAGE + pages);
        end = e->page + e->pages;
        for (uint64_t k = 0; k < e->pages; k++)
            shown[e->page + k - SLOT_PAGE] = (struct index_entry){e->frame + k, MAPPED};
    }
    for (uint64_t i = 0; i < plan->fill_count; i++) {
        CHECK(i == 0 || plan->fills[i - 1].entry.frame <= plan->fills[i].entry.frame);
        shown[plan->fills[i].page - SLOT_PAGE] = plan->fills[i].entry;
    }
    for (uint64_t page = 0; page < pages; page++) {
        struct index_entry entry = {0, 0};

        CHECK_OK(index_lookup(image->index, SLOT_PAGE + page, &entry));
        wrong += entry.frame != shown[page].frame ||
                 (entry.checksum != shown[page].checksum && shown[page].checksum != MAPPED);
    }
    free(shown);
    return CHECK_EQ(wrong, 0);
}

static bool plan_slot(struct pool *pool, struct image *image, struct image_plan *plan,
                      uint64_t pages)
{
    int status = 0;

    if (!fixture_image(&f, pool, image))
        return false;
    status = image_plan(image, SLOT_PAGE, SLOT_PAGE + pages, true, plan, &f.why);
    if (status < 0)
        fixture_fail(&f, "image_plan", status);
    return status >= 0 && plan_shows_the_index(image, plan, pages);
}

static void a_new_heap_is_one_extent(void)
{
    struct pool pool;
    struct image image;
    struct image_plan plan;

    if (fixture_start(&f, false, 0)) {
        write_run(10, 1000, 1);
        commit();
        CHECK(plan_slot(&pool, &image, &plan, 2000));
        CHECK_EQ(plan.extent_count, 1);
        CHECK_EQ(plan.fill_count, 0);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

static void an_extent_runs_across_pages_that_lie_elsewhere(void)
{
    struct pool pool;
    struct image image;
    struct image_plan plan;

    if (fixture_start(&f, false, 0)) {
        write_run(0, 256, 1);
        commit();
        write_page(100, 2);
        write_run(181, 2, 3);
        commit();
        CHECK(plan_slot(&pool, &image, &plan, 300));
        CHECK_EQ(plan.extent_count, 1);
        CHECK_EQ(plan.fill_count, 3);
        pool_close(&pool);
        /* But never across a page without a frame, which must read as zero. */
        clear_pages(50, 1);
        commit();
        CHECK(plan_slot(&pool, &image, &plan, 300));
        CHECK_EQ(plan.extent_count, 2);
        CHECK_EQ(plan.fill_count, 3);
        pool_close(&pool);
        /* A long newer run is mapped for itself. */
        write_run(110, 60, 4);
        commit();
        CHECK(plan_slot(&pool, &image, &plan, 300));
        CHECK_EQ(plan.extent_count, 4);
        CHECK_EQ(plan.fill_count, 3);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

static void short_runs_and_everything_outside_the_slot_is_read_in(void)
{
    struct pool pool;
    struct image image;
    struct image_plan plan;

    if (fixture_start(&f, false, 0)) {
        write_run(5, 3, 1);
        write_run(20, 100, 2);
        commit();
        CHECK(plan_slot(&pool, &image, &plan, 300));
        CHECK_EQ(plan.extent_count, 1);
        CHECK_EQ(plan.fill_count, 3);
        CHECK_OK(image_plan(&image, SLOT_PAGE, SLOT_PAGE + 300, false, &plan, &f.why));
        CHECK_EQ(plan.extent_count, 0);
        CHECK_EQ(plan.fill_count, 103);
        CHECK_OK(image_plan(&image, SLOT_PAGE + 400, SLOT_PAGE + 500, true, &plan, &f.why));
        CHECK_EQ(plan.extent_count + plan.fill_count, 0);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

/* --- cheapest --- */

#define TRY_PAGES 12

struct trial {
    uint64_t frames[TRY_PAGES];
    uint64_t cheapest;
};

/* Tries everything: page i inside the extent of this delta (0: none), cost so far. */
static void try_all(struct trial *trial, unsigned i, bool inside, uint64_t delta, uint64_t cost)
{
    uint64_t own = 0;

    if (i == TRY_PAGES) {
        trial->cheapest = cost < trial->cheapest ? cost : trial->cheapest;
        return;
    }
    if (cost >= trial->cheapest)
        return;
    if (trial->frames[i] == FRAME_NONE) {
        try_all(trial, i + 1, false, 0, cost);
        return;
    }
    own = i - trial->frames[i];
    if (trial->frames[i] != FRAME_ZERO) {
        if (inside && own == delta)
            try_all(trial, i + 1, true, delta, cost);
        try_all(trial, i + 1, true, own, cost + 65);
    }
    if (inside)
        try_all(trial, i + 1, true, delta, cost + 18);
    try_all(trial, i + 1, false, 0, cost + 18);
}

static void a_plan_is_as_cheap_as_any(void)
{
    struct pool pool;
    struct image image;
    struct image_plan plan;

    random_state = 42;
    if (fixture_start(&f, false, 0)) {
        for (int round = 0; round < 150; round++) {
            struct trial trial = {.cheapest = UINT64_MAX};

            for (int k = 0; k < 4; k++) {
                uint64_t page = random_below(TRY_PAGES);

                if (random_below(8) == 0)
                    clear_pages(page, 1);
                else if (random_below(8) == 0)
                    CHECK_OK(index_set(f.pool.index, f.pool.frames, SLOT_PAGE + page,
                                       (struct index_entry){FRAME_ZERO, 0}));
                else
                    write_run(page, 1 + random_below(TRY_PAGES - page),
                              (uint8_t)(1 + random_below(255)));
            }
            commit();
            if (!CHECK(plan_slot(&pool, &image, &plan, TRY_PAGES)))
                break;
            for (unsigned i = 0; i < TRY_PAGES; i++) {
                struct index_entry entry;

                CHECK_OK(index_lookup(image.index, SLOT_PAGE + i, &entry));
                trial.frames[i] = entry.frame;
            }
            try_all(&trial, 0, false, 0, 0);
            CHECK_EQ(plan.extent_count * 65 + plan.fill_count * 18, trial.cheapest);
            pool_close(&pool);
        }
    }
    fixture_stop(&f);
}

static void a_plan_keeps_to_its_budget_of_extents(void)
{
    struct pool pool;
    struct image image;
    struct image_plan plan;
    enum { RUNS = 9000, RUN = 6, STEP = 7 };

    if (fixture_start(&f, false, 0)) {
        for (uint64_t i = 0; i < RUNS; i++)
            write_run(i * STEP, i % 3 ? RUN : RUN - 1, (uint8_t)(1 + i % 255));
        commit();
        CHECK(plan_slot(&pool, &image, &plan, RUNS * STEP));
        CHECK(plan.extent_count > 0);
        CHECK(plan.extent_count <= PLAN_EXTENTS_MAX);
        CHECK(plan.extent_count + plan.fill_count / (RUN - 1) >= RUNS);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

/* What a plan of more runs than there may be extents comes to: runs too long for their checksums to
 * be kept, beside short ones, zeroes and holes. */
static void checksums_that_were_not_kept_are_looked_up(void)
{
    static struct plan_fill fills[2000];
    struct planner planner = {.image = NULL, .kept_pages = 4};
    struct pool pool;
    struct image image;
    uint64_t pages = 0, long_runs = 0;

    if (fixture_start(&f, false, 0)) {
        write_run(3, 1500, 1);
        commit();
        for (uint64_t page = 40; page < 1400; page += 97)
            write_run(page, 1 + page % 9, (uint8_t)page);
        clear_pages(700, 9);
        CHECK_OK(index_set(f.pool.index, f.pool.frames, SLOT_PAGE + 20,
                           (struct index_entry){FRAME_ZERO, 0}));
        commit();
        CHECK(fixture_image(&f, &pool, &image));
        planner.image = &image;
        CHECK_OK(planner_collect(&planner, SLOT_PAGE, SLOT_PAGE + 1800, &f.why));
        for (uint32_t i = 0; i < planner.count; i++) {
            const struct run *run = &planner.runs[i];

            CHECK_OK(planner_fill(&planner, run, fills));
            long_runs += run->first_checksum == PLAN_NONE;
            CHECK_EQ(run->first_checksum == PLAN_NONE, run->pages > 4);
            for (uint64_t k = 0; k < run->pages; k++, pages++) {
                struct index_entry entry;

                CHECK_OK(index_lookup(image.index, run->page + k, &entry));
                CHECK_EQ(fills[k].page, run->page + k);
                CHECK_EQ(fills[k].entry.frame, entry.frame);
                CHECK_EQ(fills[k].entry.checksum, entry.checksum);
            }
        }
        CHECK_EQ(pages, 1500 - 9);
        CHECK(long_runs > 10 && planner.count > long_runs + 5);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

/* --- mapping --- */

static void a_mapped_generation_is_what_memory_was(void)
{
    enum { PAGES = 3000 };
    struct pool pool;
    struct image image;
    uint8_t *memory = (uint8_t *)(SLOT_PAGE << PAGE_SHIFT);

    random_state = 7;
    if (fixture_start(&f, false, 0)) {
        uint8_t *model = fixture_model(&f, PAGES * 4096);

        for (int round = 0; round < 60; round++) {
            uint64_t page = random_below(PAGES), pages = 1 + random_below(PAGES - page);
            uint8_t value = (uint8_t)(1 + random_below(255));

            pages = round % 2 ? pages : 1;
            if (round % 5 == 4) {
                clear_pages(page, pages < 40 ? pages : 40);
                memset(model + page * 4096, 0, (pages < 40 ? pages : 40) * 4096);
                continue;
            }
            write_run(page, pages, value);
            memset(model + page * 4096, value, pages * 4096);
        }
        commit();
        CHECK(fixture_image(&f, &pool, &image));
        CHECK_OK(image_map(&image, SLOT_PAGE, SLOT_PAGE + PAGES, &f.why));
        CHECK_EQ(memcmp(memory, model, PAGES * 4096), 0);
        CHECK_EQ(image_map(&image, SLOT_PAGE, SLOT_PAGE + PAGES, &f.why), -EEXIST);
        memory[5] ^= 1; /* copy-on-write: the pool does not change */
        CHECK_OK(image_read(&image, (uintptr_t)memory + 5, model, 1, &f.why));
        CHECK(model[0] != memory[5]);
        munmap(memory, PAGES * 4096);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

static void a_damaged_fill_is_reported_by_its_place(void)
{
    struct pool pool;
    struct image image;

    if (fixture_start(&f, false, 0)) {
        struct index_entry entry;
        uint8_t byte = 99, page[4096];

        write_page(3, 1);
        commit();
        entry = fixture_entry(&f, (void *)((SLOT_PAGE + 3) << PAGE_SHIFT));
        CHECK_EQ(pwrite(f.pool.fd, &byte, 1, (off_t)(entry.frame * 4096 + 17)), 1);
        CHECK(fixture_image(&f, &pool, &image));
        CHECK_EQ(image_map(&image, SLOT_PAGE, SLOT_PAGE + 10, &f.why), STATUS_DAMAGED);
        CHECK(strstr(f.why.text, "frame") != NULL);
        CHECK_EQ(image_read(&image, (SLOT_PAGE + 3) << PAGE_SHIFT, page, 4096, &f.why),
                 STATUS_DAMAGED);
        pool_close(&pool);
    }
    fixture_stop(&f);
}

static void scattered_writes_of_many_generations_stay_cheap_to_map(void)
{
    enum { PAGES = 20000, WRITES = 1000, GENERATIONS = 100 };
    char *memory = mmap((void *)(SLOT_PAGE << PAGE_SHIFT), PAGES * 4096ul, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    uint64_t rewritten = 0, written = 0;
    struct pool pool;
    struct image image;
    struct image_plan plan;

    random_state = 3;
    CHECK(memory == (char *)(SLOT_PAGE << PAGE_SHIFT));
    if (fixture_start(&f, false, 0)) {
        char *model = fixture_model(&f, PAGES * 4096ul);

        for (uint64_t i = 0; i < PAGES * 512ul; i++)
            ((uint64_t *)memory)[i] = i * 0x9e3779b97f4a7c15ull;
        for (int generation = 0; generation < GENERATIONS; generation++) {
            for (int i = 0; generation && i < WRITES; i++)
                memory[random_below(PAGES * 4096ul)]++;
            CHECK_OK(fixture_precopy(&f));
            CHECK_OK(fixture_cut(&f));
            CHECK_OK(fixture_commit(&f));
            rewritten += image_writer_stats(f.writer)->rewritten_bytes;
            written += generation ? f.entry.written_bytes : 0;
        }
        memcpy(model, memory, PAGES * 4096ul);
        CHECK(plan_slot(&pool, &image, &plan, PAGES));
        tap_note("%lu extents, %lu fills; %lu bytes written, %lu rewritten",
                 (unsigned long)plan.extent_count, (unsigned long)plan.fill_count,
                 (unsigned long)written, (unsigned long)rewritten);
        CHECK(plan.extent_count <= 200);
        CHECK(plan.fill_count <= 13000);
        CHECK(rewritten > 0);
        CHECK(rewritten <= 2 * written);
        munmap(memory, PAGES * 4096ul);
        CHECK_OK(image_map(&image, SLOT_PAGE, SLOT_PAGE + PAGES, &f.why));
        CHECK_EQ(memcmp(memory, model, PAGES * 4096ul), 0);
        pool_close(&pool);
    }
    munmap(memory, PAGES * 4096ul);
    fixture_stop(&f);
}

#ifdef __SANITIZE_ADDRESS__
__attribute__((visibility("default"))) const char *__asan_default_options(void);

/* The whole process is saved, the sanitizer's shadow with it: memcpy may read that. */
const char *__asan_default_options(void)
{
    return "replace_intrin=0";
}
#endif

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_new_heap_is_one_extent);
    RUN(an_extent_runs_across_pages_that_lie_elsewhere);
    RUN(short_runs_and_everything_outside_the_slot_is_read_in);
    RUN(a_plan_is_as_cheap_as_any);
    RUN(a_plan_keeps_to_its_budget_of_extents);
    RUN(checksums_that_were_not_kept_are_looked_up);
    RUN(a_mapped_generation_is_what_memory_was);
    RUN(a_damaged_fill_is_reported_by_its_place);
    RUN(scattered_writes_of_many_generations_stay_cheap_to_map);
    return tap_done();
}
