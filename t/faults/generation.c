/*
 * generation.c - the n-th system call, or the n-th allocation, of whoever writes generations fails,
 * n = 1, 2, ... until a run passes untouched, once for each kind of failure: while a pool is made,
 * opened, loaded and grown; while a later generation is written, with its index folded and pages
 * brought home; while generations are pinned, dropped and gone back to.
 *
 * After each failure the newest generation is the one before or the new one, whole; memory and
 * dirty tracking have lost nothing; the next generation shows memory as it is. A pool whose sync
 * failed takes no more, and is right when it is opened anew.
 *
 * Without PHEAP_TEST_LONG some of the later n are left out, others each time.
 */
#include "t/lib/image_fixture.h"

#include <errno.h>
#include "core/heap/heap.h"
#include "t/lib/sys_faults.h"
#include "t/lib/test_random.h"

#define PAGES     10000u
#define SCATTERED 120u /* pages written in a generation */
#define WARM_UP   30u  /* generations, until so much lies away from home that it is brought back */
#define FULL_LOOK 25u  /* one comparison in so many is of all pages */

static struct fixture f;
static enum tracking track;
static uint64_t random_state;

static unsigned long next_n(unsigned long n)
{
    return getenv("PHEAP_TEST_LONG") ? n + 1 : n + 1 + (unsigned long)rand() % (1 + n / 8);
}

static void say(enum fault_kind kind, unsigned long counted, unsigned long failures)
{
    tap_note("%s: %lu places, %lu runs were hit", fault_names[kind], counted, failures);
}

/* What the agent says of these two. */
static int explained(int status)
{
    return status < 0 && !f.why.text[0] ? problem_set(&f.why, status, "the maps") : status;
}

/* --- a pool from nothing to its first generation --- */

static int create_and_write(char *memory, struct pool *pool)
{
    struct image_writer_options options = {.features = &f.features, .track = track};
    int status = pool_create(f.path, 7, 3, &f.why);

    if (status == 0)
        status = pool_open(pool, f.path, POOL_WRITE, &f.why);
    if (status < 0)
        return status;
    status = pool_load(pool, &f.arena, 0, &f.why);
    if (status == 0)
        status = image_writer_create(&f.writer, &f.arena, pool, &options, &f.why);
    if (status == 0)
        status = explained(maps_identify_pool(&f.space, pool->fd, &f.reading));
    if (status == 0)
        status = fixture_precopy(&f);
    memory[3 * 4096]++;
    if (status == 0)
        status = explained(fixture_cut(&f));
    return status < 0 ? status : fixture_commit(&f);
}

/* A new pool, in which the n-th call fails. */
static bool try_creation(char *memory, enum fault_kind kind, unsigned long n, int *status)
{
    uintptr_t marks[2] = {arena_mark(&f.arena), arena_mark(&f.reading)};
    bool hit;

    f.writer = NULL;
    f.why = (struct problem){0};
    f.pool.fd = -1;
    faults_arm(kind, n);
    *status = create_and_write(memory, &f.pool);
    hit = faults_disarm();
    if (*status == 0)
        CHECK(pool_is_valid(&f.pool) && fixture_shows(&f, memory, memory, 64 * 4096));
    if (f.writer)
        image_writer_destroy(f.writer);
    if (f.pool.fd >= 0)
        pool_close(&f.pool);
    f.writer = NULL;
    arena_rewind(&f.arena, marks[0]);
    arena_rewind(&f.reading, marks[1]);
    return hit;
}

/* What it left is a pool without generations or with one, or nothing that is called a pool. */
static void check_leftover(const char *memory)
{
    struct pool pool;
    int status = pool_open(&pool, f.path, POOL_READ, &f.why);

    if (status < 0) {
        CHECK(status == -ENOENT || status == STATUS_NOT_A_POOL || status == STATUS_DAMAGED);
    } else {
        bool has_one = pool_generation(&pool, 0) != NULL;

        pool_close(&pool);
        CHECK(!has_one || fixture_shows(&f, memory, memory, 64 * 4096));
    }
    unlink(f.path);
}

static void whatever_fails_while_a_pool_is_made(void)
{
    char *memory = fixture_map(64);

    memset(memory, 7, 64 * 4096);
    if (fixture_start(&f, track, 0)) {
        image_writer_destroy(f.writer);
        pool_close(&f.pool);
        unlink(f.path);
        for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
            unsigned long failures = 0;
            int status = 0;
            bool hit = true;

            for (unsigned long n = 1; hit; n = next_n(n)) {
                hit = try_creation(memory, kind, n, &status);
                failures += status < 0;
                if (status < 0 && !hit)
                    fixture_fail(&f, "untouched", status);
                if (status < 0 && !CHECK(f.why.text[0] != 0))
                    tap_note("%s, n = %lu, call %ld, status %d", fault_names[kind], n,
                             faults_failed_call(), status);
                check_leftover(memory);
            }
            say(kind, faults_counted(), failures);
        }
    }
    f.pool.fd = -1;
    arena_destroy(&f.arena);
    arena_destroy(&f.reading);
    rmdir(f.dir);
    munmap(memory, 64 * 4096);
}

/* --- a later generation --- */

static uint64_t next_random(void)
{
    return test_random(&random_state);
}

static uint32_t touched[2 * SCATTERED];

static void scatter(char *memory, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        touched[first + i] = (uint32_t)(next_random() % PAGES);
        memory[touched[first + i] * 4096ul + 8]++;
    }
}

/* Some are dropped, some become zero, one range is mapped anew. */
static void disturb(char *memory, unsigned long n)
{
    size_t at = n * 31 % (PAGES - 64);

    madvise(memory + at * 4096, 4 * 4096, MADV_DONTNEED);
    memset(memory + (at + 8) * 4096, 0, 2 * 4096);
    if (mmap(memory + (at + 16) * 4096, 4 * 4096, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        abort();
    memory[(at + 17) * 4096] = (char)n;
}

static int attempt(char *memory)
{
    int status = fixture_precopy(&f);

    scatter(memory, SCATTERED, 20);
    if (status == 0)
        status = explained(fixture_cut(&f));
    return status < 0 ? status : fixture_commit(&f);
}

static bool shows_touched(const char *memory, unsigned long n)
{
    size_t at = n * 31 % (PAGES - 64);
    struct pool pool;
    struct image image;
    bool same = n % FULL_LOOK == 0
                    ? fixture_shows(&f, memory, memory, PAGES * 4096ul)
                    : fixture_shows(&f, memory + at * 4096, memory + at * 4096, 64 * 4096);

    if (same)
        same = fixture_image(&f, &pool, &image);
    for (unsigned i = 0; same && i < SCATTERED + 20; i++) {
        static uint8_t page[4096];
        const char *address = memory + touched[i] * 4096ul;

        same = image_read(&image, (uintptr_t)address, page, 4096, &f.why) == 0 &&
               memcmp(page, address, 4096) == 0;
    }
    pool_close(&pool);
    return same;
}

/* The writer as it was; or, where a sync failed, a new one on the pool as it is in the file. */
static bool go_on(void)
{
    if (!f.pool.persist.failed)
        return true;
    CHECK(fixture_commit(&f) < 0);
    image_writer_destroy(f.writer);
    pool_close(&f.pool);
    f.writer = NULL;
    arena_rewind(&f.arena, f.arena.base);
    if (pool_open(&f.pool, f.path, POOL_READ, &f.why) < 0)
        return false;
    f.entry = *pool_generation(&f.pool, 0);
    pool_close(&f.pool);
    return fixture_open(&f, f.entry.number, track, 0);
}

static bool try_generation(char *memory, enum fault_kind kind, unsigned long n)
{
    uint64_t before = pool_generation(&f.pool, 0)->number;
    int status;
    bool hit;

    scatter(memory, 0, SCATTERED);
    disturb(memory, n);
    f.why = (struct problem){0};
    faults_arm(kind, n);
    status = attempt(memory);
    hit = faults_disarm();
    if (!CHECK(hit || status == 0) ||
        !CHECK(status == 0 ||
               (f.why.text[0] != 0 && pool_generation(&f.pool, 0)->number == before)) ||
        !CHECK(pool_is_valid(&f.pool)))
        tap_note("%s, n = %lu, call %ld, status %d: %s", fault_names[kind], n, faults_failed_call(),
                 status, f.why.text);
    if (status < 0 && (!go_on() || !fixture_checkpoint(&f)))
        tap_note("%s, n = %lu, call %ld: does not go on", fault_names[kind], n,
                 faults_failed_call());
    if (!CHECK(shows_touched(memory, n)))
        tap_note("%s, n = %lu, call %ld, status %d: memory is not what was saved",
                 fault_names[kind], n, faults_failed_call(), status);
    return hit;
}

static void whatever_fails_while_a_generation_is_written(void)
{
    char *memory = mmap((void *)SLOT_BASE(7), PAGES * 4096ul, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    uint64_t rewritten = 0;

    CHECK(memory == (char *)SLOT_BASE(7));
    random_state = 20260401;
    if (fixture_start(&f, track, 0)) {
        for (uint64_t i = 0; i < PAGES * 512ul; i++)
            ((uint64_t *)memory)[i] = i * 0x9e3779b97f4a7c15ull;
        for (unsigned i = 0; i < WARM_UP; i++) {
            scatter(memory, 0, SCATTERED);
            CHECK(fixture_checkpoint(&f));
            rewritten += image_writer_stats(f.writer)->rewritten_bytes;
        }
        CHECK(rewritten > 0);
        for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
            unsigned long runs = 0;

            for (unsigned long n = 1; try_generation(memory, kind, n); n = next_n(n))
                runs++;
            say(kind, faults_counted(), runs);
        }
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096ul);
}

/* --- pins, drops, going back --- */

static int pin_and_drop(uint64_t newest)
{
    int status = pool_pin(&f.pool, newest - 1, true, &f.why);

    if (status == 0)
        status = pool_pin(&f.pool, newest - 1, false, &f.why);
    if (status == 0)
        status = pool_drop(&f.pool, newest - 2, &f.why);
    return status < 0 ? status : pool_rollback(&f.pool, newest - 1, &f.why);
}

static bool lists(uint64_t number)
{
    struct pool pool;
    bool listed = false;

    if (CHECK_OK(pool_open(&pool, f.path, POOL_READ, &f.why)))
        listed = pool_generation(&pool, number) != NULL;
    pool_close(&pool);
    return listed;
}

static void unpin_all(void)
{
    for (uint32_t i = 0; i < f.pool.super.generation_count; i++)
        CHECK_OK(pool_pin(&f.pool, f.pool.super.generations[i].number, false, &f.why));
}

static bool try_pins(char *memory, enum fault_kind kind, unsigned long n)
{
    uint64_t newest;
    int status;
    bool hit;

    for (int i = 0; i < 3; i++) {
        memory[i * 4096]++;
        CHECK(fixture_checkpoint(&f));
    }
    newest = f.entry.number;
    f.why = (struct problem){0};
    faults_arm(kind, n);
    status = pin_and_drop(newest);
    hit = faults_disarm();
    if (!CHECK(hit || status == 0) || !CHECK(status == 0 || f.why.text[0] != 0))
        tap_note("%s, n = %lu, call %ld, status %d: %s", fault_names[kind], n, faults_failed_call(),
                 status, f.why.text);
    CHECK(lists(newest - 1));
    if (status == 0)
        CHECK(!lists(newest) && !lists(newest - 2));
    if (!CHECK(go_on()))
        return false;
    if (status == 0) { /* the writer builds on what was given up: a new one, on what is there */
        image_writer_destroy(f.writer);
        pool_close(&f.pool);
        arena_rewind(&f.arena, f.arena.base);
        CHECK(fixture_open(&f, newest - 1, track, 0));
    }
    unpin_all();
    return hit;
}

static void whatever_fails_while_generations_are_pinned_and_dropped(void)
{
    char *memory = fixture_map(64);

    if (fixture_start(&f, track, 0)) {
        memset(memory, 3, 64 * 4096);
        for (enum fault_kind kind = 0; kind < FAULT_KINDS; kind++) {
            unsigned long n = 1;

            while (try_pins(memory, kind, n))
                n++;
            CHECK(fixture_checkpoint(&f));
            CHECK(fixture_shows(&f, memory, memory, 64 * 4096));
            say(kind, faults_counted(), n - 1);
        }
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

static void by_checksums_whatever_fails_while_a_generation_is_written(void)
{
    track = TRACKING_CHECKSUM;
    whatever_fails_while_a_generation_is_written();
    track = TRACKING_BEST;
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    srand((unsigned)getpid());
    if (access("/dev/shm", W_OK) == 0) /* a sync costs nothing there */
        setenv("TMPDIR", "/dev/shm", 1);
    RUN(whatever_fails_while_a_pool_is_made);
    RUN(whatever_fails_while_a_generation_is_written);
    RUN(by_checksums_whatever_fails_while_a_generation_is_written);
    RUN(whatever_fails_while_generations_are_pinned_and_dropped);
    return tap_done();
}
