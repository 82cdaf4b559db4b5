/*
 * image_busy.c - neighbourhoods that are written all over in every generation are left unprotected
 * between two of them: what is stored there is in the next generation all the same.
 */
#include "t/lib/image_each.h"

#include <fcntl.h>
#include "core/heap/heap.h"

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

static void what_is_not_any_more_is_protected(void)
{
    if (begin()) {
        fill(memory, PAGES * 4096, 6);
        CHECK(fixture_checkpoint(&f));
        one_generation(1);
        one_generation(7); /* with no write fault, and yet known */
        CHECK_EQ(count_protected(0, LEAF), LEAF);
        CHECK_EQ(count_protected(LEAF, LEAF), 0);
        one_generation(1);
        CHECK_EQ(count_protected(0, LEAF), LEAF); /* once, again */
    }
    end();
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
    RUN(what_is_not_any_more_is_protected);
    RUN(nothing_is_where_written_pages_are_counted);
    RUN(pages_come_and_go_in_what_is_unprotected);
    return tap_done();
}
