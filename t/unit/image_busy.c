/*
 * image_busy.c - neighbourhoods that are written all over in every generation are left unprotected
 * between two of them: what is stored there is in the next generation all the same.
 */
#include "t/lib/image_each.h"

#include <fcntl.h>
#include "core/heap/heap.h"
#include "core/image/busy.h"

#define LEAF             ((size_t)256) /* pages of a neighbourhood */
#define PAGES            (3 * LEAF)
#define MARK_OF_TRACKING (1ull << 57) /* in /proc/self/pagemap: write-protected by userfaultfd */

static char *memory = (char *)SLOT_BASE(7);

static size_t count_protected(size_t page, size_t pages)
{
    static uint64_t entries[PAGES];
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    size_t count = 0;

    CHECK_EQ(pread(fd, entries, pages * 8, (off_t)(((uintptr_t)memory / 4096 + page) * 8)),
             pages * 8);
    close(fd);
    for (size_t i = 0; i < pages; i++)
        count += (entries[i] & MARK_OF_TRACKING) != 0;
    return count;
}

static void write_every(size_t step, size_t page, size_t end)
{
    for (; page < end; page += step)
        memory[page * 4096]++;
}

static bool begin(void)
{
    track = TRACKING_BEST;
    CHECK(mmap(memory, PAGES * 4096, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
    if (!start())
        return false;
    if (f.features.userfaultfd_wp_async)
        return true;
    tap_skip("this kernel does not track writes");
    return false;
}

static void end(void)
{
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

/* The last neighbourhood is never written by half. */
static void one_generation(size_t first_step)
{
    write_every(first_step, 0, LEAF);
    write_every(2, LEAF, 2 * LEAF);
    write_every(3, 2 * LEAF, 3 * LEAF);
    CHECK(fixture_checkpoint(&f));
    CHECK(fixture_shows(&f, memory, memory, PAGES * 4096));
}

static void what_is_written_all_over_is_left_unprotected(void)
{
    if (begin()) {
        fill(memory, PAGES * 4096, 5);
        CHECK(fixture_checkpoint(&f));
        CHECK_EQ(count_protected(0, PAGES), PAGES); /* written once, so far */
        one_generation(1);
        CHECK_EQ(count_protected(0, 2 * LEAF), 0);
        CHECK_EQ(count_protected(2 * LEAF, LEAF), LEAF);
        one_generation(1);
        CHECK_EQ(count_protected(0, 2 * LEAF), 0);
    }
    end();
}

/* As at the end of a heap's memory. */
static void a_neighbour_that_is_not_tracked_hinders_nobody(void)
{
    size_t used = 2 * LEAF + 200;

    if (begin()) {
        CHECK(mprotect(memory + used * 4096, (PAGES - used) * 4096, PROT_NONE) == 0);
        for (int generation = 0; generation < 3; generation++) {
            write_every(1, 0, used);
            CHECK(fixture_checkpoint(&f));
        }
        CHECK_EQ(count_protected(0, 2 * LEAF), 0);
        CHECK(fixture_shows(&f, memory, memory, used * 4096));
    }
    end();
}

static void what_is_not_any_more_is_trusted_for_a_time_and_then_protected(void)
{
    if (begin()) {
        fill(memory, PAGES * 4096, 6);
        CHECK(fixture_checkpoint(&f));
        one_generation(1);
        for (unsigned i = 0; i < BUSY_TRUST_TURNS; i++) {
            one_generation(7); /* with no write fault, and yet known */
            CHECK_EQ(count_protected(0, LEAF), 0);
        }
        one_generation(7);
        CHECK_EQ(count_protected(0, LEAF), LEAF);
        CHECK_EQ(count_protected(LEAF, LEAF), 0);
        one_generation(7); /* now it is told */
        CHECK_EQ(count_protected(0, LEAF), LEAF);
        one_generation(1);
        CHECK_EQ(count_protected(0, LEAF), LEAF); /* once, again */
    }
    end();
}

/* Blocks are freed, allocated, and filled as they were: no page changes. */
static void write_as_it_was(size_t page, size_t end)
{
    for (; page < end; page++)
        *(volatile char *)(memory + page * 4096) = *(volatile char *)(memory + page * 4096);
}

static void what_is_written_as_it_was_is_seldom_protected(void)
{
    unsigned times = 0;

    if (begin()) {
        fill(memory, PAGES * 4096, 11);
        for (unsigned i = 0; i < 3 * (BUSY_TRUST_TURNS + 2); i++) {
            write_as_it_was(0, LEAF);
            write_every(3, 2 * LEAF, 3 * LEAF);
            CHECK(fixture_checkpoint(&f));
            times += count_protected(0, LEAF) > 0;
        }
        CHECK_EQ(times, 3);
    }
    end();
}

static void a_checkpoint_that_is_put_off_leaves_it_unprotected(void)
{
    if (begin()) {
        fill(memory, PAGES * 4096, 12);
        CHECK(fixture_checkpoint(&f));
        one_generation(1);
        write_every(1, 0, LEAF);
        CHECK_OK(fixture_precopy(&f));
        CHECK_EQ(count_protected(0, 2 * LEAF), 2 * LEAF);
        image_writer_put_off(f.writer);
        CHECK_EQ(count_protected(0, 2 * LEAF), 0);
        CHECK_EQ(count_protected(2 * LEAF, LEAF), LEAF);
        write_every(1, 0, LEAF);
        one_generation(1);
        CHECK_EQ(count_protected(0, 2 * LEAF), 0);
    }
    end();
}

/* Without an image: what the rounds of a program with a large heap would say. */
static void so_many_are_trusted_and_no_more(void)
{
    const uint64_t first = SLOT_BASE(7) >> PAGE_SHIFT;
    struct busy busy = {0};
    struct rewriter rewriter;
    struct arena arena;

    CHECK_OK(arena_create(&arena, 1ull << 30));
    CHECK_OK(rewriter_create(&rewriter, &arena, NULL));
    CHECK_OK(busy_create(&busy, &arena, 7));
    for (int generation = 0; generation < 2; generation++) {
        CHECK(!busy_has(&busy, 0));
        busy_note(&busy, first, first + (BUSY_TRUSTED + 50) * LEAF);
        busy_round_done(&busy);
        busy_decide(&busy, &rewriter);
    }
    CHECK_EQ(busy.all.count, 1);
    CHECK_EQ(busy.all.spans[0].page, first);
    CHECK_EQ(busy.all.spans[0].end, first + (BUSY_TRUSTED + 50) * LEAF);
    busy_decide(&busy, &rewriter); /* nothing has changed */
    CHECK_EQ(busy.all.spans[0].end, first + BUSY_TRUSTED * LEAF);
    arena_destroy(&arena);
}

static void nothing_is_where_written_pages_are_counted(void)
{
    if (begin()) {
        fill(memory, PAGES * 4096, 7);
        CHECK(image_writer_count_dirty(f.writer, &f.space, 1000) >= 0);
        CHECK(fixture_checkpoint(&f));
        one_generation(1);
        one_generation(1);
        CHECK_EQ(count_protected(0, PAGES), PAGES);
    }
    end();
}

/* Neighbourhood 0 is written once more after it was copied: it is hot. 1 is busy, 2 is not. */
static bool one_generation_with_a_hot_one(void)
{
    int status;

    write_every(1, 0, LEAF);
    write_every(2, LEAF, 2 * LEAF);
    write_every(3, 2 * LEAF, 3 * LEAF);
    status = fixture_precopy(&f);
    write_every(1, 0, LEAF);
    if (status >= 0)
        status = fixture_precopy(&f);
    if (status >= 0)
        status = fixture_cut(&f);
    return CHECK_OK(status) && CHECK_OK(fixture_commit(&f));
}

/* At which step of a round each neighbourhood was protected as a whole. */
struct watched {
    unsigned step, protected_at[3];
};

/* The program stores to the hot one until that is protected. */
static int watch(void *context)
{
    struct watched *watched = context;

    watched->step++;
    for (size_t leaf = 0; leaf < 3; leaf++)
        if (!watched->protected_at[leaf] && count_protected(leaf * LEAF, LEAF) == LEAF)
            watched->protected_at[leaf] = watched->step;
    if (!watched->protected_at[0])
        write_every(1, 0, LEAF);
    return 0;
}

static void what_is_hot_is_protected_and_copied_last(void)
{
    struct watched watched = {0};

    if (begin()) {
        fill(memory, PAGES * 4096, 10);
        for (int generation = 0; generation < 4; generation++)
            CHECK(one_generation_with_a_hot_one());
        CHECK_EQ(count_protected(0, 2 * LEAF), 0);
        write_every(3, 2 * LEAF, 3 * LEAF);
        image_writer_set_step(f.writer, watch, &watched);
        CHECK_OK(fixture_precopy(&f));
        CHECK(watched.protected_at[2] > 0);
        CHECK(watched.protected_at[1] > watched.protected_at[2]);
        CHECK(watched.protected_at[0] > watched.protected_at[1]);
        CHECK_EQ(count_protected(0, LEAF), LEAF); /* nothing is left for the cut */
        image_writer_set_step(f.writer, NULL, NULL);
        CHECK_OK(fixture_cut(&f));
        CHECK_OK(fixture_commit(&f));
        CHECK(fixture_shows(&f, memory, memory, PAGES * 4096));
    }
    end();
}

static void pages_come_and_go_in_what_is_unprotected(void)
{
    uint32_t random_state = 9;

    if (begin()) {
        fill(memory, PAGES * 4096, 8);
        for (int generation = 0; generation < 12; generation++) {
            for (size_t i = 0; i < PAGES; i++) {
                random_state = random_state * 1664525u + 1013904223u;
                if (random_state >> 31)
                    memory[i * 4096 + (random_state >> 10 & 4095)]++;
                else if (random_state % 31 == 0)
                    CHECK(madvise(memory + i * 4096, 4096, MADV_DONTNEED) == 0);
            }
            CHECK(fixture_checkpoint(&f));
            CHECK(fixture_shows(&f, memory, memory, PAGES * 4096));
        }
    }
    end();
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(what_is_written_all_over_is_left_unprotected);
    RUN(a_neighbour_that_is_not_tracked_hinders_nobody);
    RUN(what_is_not_any_more_is_trusted_for_a_time_and_then_protected);
    RUN(what_is_written_as_it_was_is_seldom_protected);
    RUN(a_checkpoint_that_is_put_off_leaves_it_unprotected);
    RUN(so_many_are_trusted_and_no_more);
    RUN(nothing_is_where_written_pages_are_counted);
    RUN(what_is_hot_is_protected_and_copied_last);
    RUN(pages_come_and_go_in_what_is_unprotected);
    return tap_done();
}
