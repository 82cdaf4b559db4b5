/*
 * image_unfinished.c - rounds and cuts that are given up, interrupted, too large, or fail: nothing
 * is lost. Each test runs once for each way of finding written pages.
 */
#include "t/lib/image_each.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

/* A cut that is given up for its size loses nothing, not even what it had dealt with before. */
static void a_cut_of_too_many_pages_is_given_up_and_made_up_for(void)
{
    char *memory = fixture_map(400), *unlimited = NULL;

    if (start()) {
        fill(memory, 400 * 4096, 1);
        CHECK(fixture_checkpoint(&f));
        fill(memory + 4096, 398 * 4096, 2);
        madvise(memory + 399 * 4096, 4096, MADV_DONTNEED);
        CHECK_EQ(fixture_cut_of(&f, 100), image_writer_tracks(f.writer) ? STATUS_DEFERRED : 0);
        memory[200 * 4096] ^= 1;
        CHECK_EQ(fixture_cut_of(&f, 100), image_writer_tracks(f.writer) ? STATUS_DEFERRED : 0);
        memory[300 * 4096] ^= 1;
        unlimited = remember(memory, 400);
        CHECK_OK(fixture_precopy(&f));
        CHECK_OK(fixture_cut_of(&f, 100));
        CHECK_OK(fixture_commit(&f));
        CHECK(fixture_shows(&f, memory, unlimited, 400 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 400 * 4096);
}

static void a_change_between_precopy_and_cut_is_seen(void)
{
    char *memory = fixture_map(32), *late = NULL;

    if (start()) {
        fill(memory, 32 * 4096, 6);
        CHECK(fixture_checkpoint(&f));
        CHECK_OK(fixture_precopy(&f));
        memory[0]++;
        mprotect(memory + 4096, 4096, PROT_READ);
        madvise(memory + 8 * 4096, 4096, MADV_DONTNEED);
        memory[9 * 4096]++;
        mprotect(memory + 9 * 4096, 4096, PROT_NONE);
        late = fixture_map(20);
        fill(late, 20 * 4096, 7);
        CHECK_OK(fixture_cut(&f));
        CHECK_OK(fixture_commit(&f));
        mprotect(memory, 32 * 4096, PROT_READ | PROT_WRITE);
        CHECK(fixture_shows(&f, memory, remember(memory, 32), 32 * 4096));
        CHECK(fixture_shows(&f, late, remember(late, 20), 20 * 4096));
        munmap(late, 20 * 4096);
    }
    fixture_stop(&f);
    munmap(memory, 32 * 4096);
}

static void what_exceeds_scratch_is_written_inside_the_freeze(void)
{
    char *memory = fixture_map(500);

    if (fixture_start(&f, track, 16 * 4096)) {
        fill(memory, 500 * 4096, 9);
        CHECK_OK(fixture_cut(&f));
        CHECK(image_writer_stats(f.writer)->freeze_written_bytes >= 400 * 4096);
        CHECK_OK(fixture_commit(&f));
        CHECK(f.entry.freeze_written_bytes >= 400 * 4096);
        CHECK(fixture_shows(&f, memory, remember(memory, 500), 500 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 500 * 4096);
}

static void an_abandoned_cut_loses_nothing(void)
{
    char *memory = fixture_map(64);

    if (start()) {
        fill(memory, 64 * 4096, 16);
        CHECK(fixture_checkpoint(&f));
        memory[4096]++;
        memory[2 * 4096]++;
        CHECK_OK(fixture_cut(&f));
        image_writer_abandon(f.writer);
        memory[2 * 4096]++;
        memory[3 * 4096]++;
        CHECK_OK(fixture_cut(&f)); /* straight away */
        image_writer_abandon(f.writer);
        memory[3 * 4096]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, remember(memory, 64), 64 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

static int allow(void *context)
{
    int *left = context;

    return (*left)-- > 0 ? 0 : -ECANCELED;
}

static void a_round_or_cut_that_is_told_to_end_ends_and_loses_nothing(void)
{
    enum { PAGES = 4096 };
    char *memory = fixture_map(PAGES);
    int left;

    if (start()) {
        for (int i = 0; i < 4; i++) {
            fill(memory, PAGES * 4096, 50 + (unsigned)i);
            left = i;
            image_writer_set_step(f.writer, allow, &left);
            CHECK_EQ(i % 2 ? fixture_precopy(&f) : fixture_cut(&f), -ECANCELED);
            CHECK_EQ(left, -1);
            image_writer_set_step(f.writer, NULL, NULL);
            CHECK(fixture_checkpoint(&f));
            CHECK(fixture_shows(&f, memory, memory, PAGES * 4096));
        }
    }
    fixture_stop(&f);
    munmap(memory, PAGES * 4096);
}

static void what_is_untracked_is_found_again(void)
{
    char *memory = fixture_map(64);

    if (start()) {
        fill(memory, 64 * 4096, 17);
        CHECK(fixture_checkpoint(&f));
        memory[4096]++;
        image_writer_untrack(f.writer, (uintptr_t)memory, (uintptr_t)memory + 32 * 4096);
        memory[2 * 4096]++;
        memory[40 * 4096]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, remember(memory, 64), 64 * 4096));
        memory[3 * 4096]++;
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, remember(memory, 64), 64 * 4096));
    }
    fixture_stop(&f);
    munmap(memory, 64 * 4096);
}

static const struct persist_ops *real_ops;
static int writes_left;

static int failing_write(struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    if (writes_left-- <= 0)
        return -ENOSPC;
    return real_ops->write(persist, offset, data, bytes);
}

/* Pre-copy, a change, cut, commit; the first failure ends it. */
static int attempt(char *memory)
{
    int status = fixture_precopy(&f);

    memory[3 * 4096]++;
    if (status >= 0)
        status = fixture_cut(&f);
    return status < 0 ? status : fixture_commit(&f);
}

static void whichever_write_fails_nothing_is_lost(void)
{
    char *memory = fixture_map(3000);
    struct persist_ops failing;
    int failures = 0, status = -1;

    if (start()) {
        real_ops = f.pool.persist.ops;
        failing = *real_ops;
        failing.write = failing_write;
        fill(memory, 3000 * 4096, 18);
        CHECK(fixture_checkpoint(&f));
        for (; status < 0 && failures < 100; failures += status < 0) {
            for (int i = 0; i < 1500; i++)
                memory[(i * 2 + failures % 2) * 4096]++;
            f.pool.persist.ops = &failing;
            writes_left = failures;
            status = attempt(memory);
            f.pool.persist.ops = real_ops;
            CHECK(status >= 0 || status == -ENOSPC);
            if (status < 0) {
                CHECK(strstr(f.why.text, "pool") != NULL);
                memory[5 * 4096]++;
                CHECK(fixture_checkpoint(&f));
            }
            if (!CHECK(fixture_shows(&f, memory, memory, 3000 * 4096)))
                break;
        }
        CHECK(failures >= 5);
        CHECK_OK(status);
    }
    fixture_stop(&f);
    munmap(memory, 3000 * 4096);
}

static void a_full_disk_is_survived(void)
{
    char *memory = fixture_map(3000);
    struct rlimit unlimited, limit;

    if (start()) {
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &unlimited);
        fill(memory, 100 * 4096, 19);
        CHECK(fixture_checkpoint(&f));
        limit = unlimited;
        limit.rlim_cur = f.pool.persist.file_bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        fill(memory, 3000 * 4096, 20);
        char *more = fixture_map(20000);

        fill(more, 20000ul * 4096, 21);
        CHECK(fixture_precopy(&f) < 0);
        CHECK(f.why.text[0] != 0);
        setrlimit(RLIMIT_FSIZE, &unlimited);
        CHECK(fixture_checkpoint(&f));
        CHECK(fixture_shows(&f, memory, memory, 3000 * 4096));
        CHECK(fixture_shows(&f, more, more, 20000ul * 4096));
        munmap(more, 20000ul * 4096);
    }
    fixture_stop(&f);
    munmap(memory, 3000 * 4096);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN_EACH(a_cut_of_too_many_pages_is_given_up_and_made_up_for);
    RUN_EACH(a_change_between_precopy_and_cut_is_seen);
    RUN_EACH(what_exceeds_scratch_is_written_inside_the_freeze);
    RUN_EACH(an_abandoned_cut_loses_nothing);
    RUN_EACH(a_round_or_cut_that_is_told_to_end_ends_and_loses_nothing);
    RUN_EACH(what_is_untracked_is_found_again);
    RUN_EACH(whichever_write_fails_nothing_is_lost);
    RUN_EACH(a_full_disk_is_survived);
    return tap_done();
}
