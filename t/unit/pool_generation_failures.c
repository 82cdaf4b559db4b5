/*
 * pool_generation_failures.c - a commit of which any operation fails: generations that are listed
 * stay whole, and the pool goes on.
 */
#include <errno.h>
#include <string.h>
#include "core/pool/superblock.h"
#include "t/lib/generations_fixture.h"
#include "t/lib/persist_recorder.h"

static struct recording recording;

/* What a failed write leaves in a frame is not known: the index must not vouch for it. */
static void a_page_whose_second_write_failed_is_forgotten(void)
{
    uint64_t free_before;

    scratch_pool(&pool, &oracle, 2);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 30, 100));
    free_before = frames_free_count(pool.frames);
    recording_free(&recording);
    recording_attach(&recording, &pool.persist);
    recording.fail_at = 1;
    recording.fail_status = -EIO;
    CHECK_EQ(oracle_write(&oracle, &pool, 7, 3, 500), -EIO);
    for (unsigned i = 6; i < 11; i++)
        CHECK_EQ(frame_of(i) == FRAME_NONE, i >= 7 && i < 10);
    CHECK_EQ(frames_free_count(pool.frames), free_before + 3);
    CHECK_OK(oracle_write(&oracle, &pool, 7, 3, 500));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 10, &why));
    CHECK_LISTED(1);
    pool_close(&pool);
}

/* Three commits with growth, drops and an update; the status of the first step that failed. */
static int life(void)
{
    int status = 0, end = 0;

    for (unsigned i = 0; status == 0 && i < 3; i++) {
        status = oracle_write(&oracle, &pool, i * 5, 20, i * 1000 + 100);
        if (status == 0)
            status = oracle_clear(&oracle, &pool, i * 5 + 1);
        if (status == 0)
            status = pool_make_room(&pool, &why);
        if (status == 0)
            status = oracle_write(&oracle, &pool, i * 5 + 15, 10, i * 1000 + 500);
        if (status == 0)
            status = oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 6000, &why);
    }
    if (status == 0)
        status = pool_update(&pool, end_run, &end, &why);
    return status;
}

/* Each listed generation is whole, in the pool as it is now and as anybody else would open it. */
static void check_intact(uint64_t newest_at_least)
{
    static struct pool reader;
    char text[256];

    CHECK(pool_is_valid(&pool));
    CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why));
    CHECK(newest_at_least == 0 || pool_generation(&reader, 0)->number >= newest_at_least);
    for (uint32_t i = 0; i < reader.super.generation_count; i++)
        if (!oracle_agrees(&oracle, &reader, &reader.super.generations[i], &scratch_arena, text))
            CHECK_STR(text, "");
    pool_close(&reader);
}

/* As the image's writer does after a failure: it looks at all of memory again. */
static void write_all_again(void)
{
    for (unsigned i = 0; i < ORACLE_PAGES; i++)
        if (oracle.now[i] != SEED_NONE && oracle.now[i] != SEED_ZERO)
            CHECK_OK(oracle_write(&oracle, &pool, i, 1, oracle.now[i]));
}

static unsigned long fail_each(int with_status)
{
    unsigned long n = 0;
    bool reached;
    int status;

    do {
        uint64_t newest;

        scratch_pool(&pool, &oracle, 3);
        recording_free(&recording);
        recording_attach(&recording, &pool.persist);
        recording.fail_at = ++n;
        recording.fail_status = with_status;
        status = life();
        reached = recording.operations >= n;
        newest = pool.super.generation_count ? pool_generation(&pool, 0)->number : 0;
        if (status < 0)
            CHECK_EQ(status, with_status);
        check_intact(newest);
        recording.fail_at = 0;
        if (status < 0 && recording.failed_kind == RECORDED_SYNC) {
            CHECK_EQ(life(), with_status); /* failed stays failed */
            check_intact(newest);
            CHECK_OK(scratch_reopen(&pool, &oracle, newest, &why));
            CHECK_STR(why.text, "");
        }
        if (status < 0)
            write_all_again();
        CHECK_OK(life()); /* the next attempt goes on */
        check_intact(newest + 3);
        pool_close(&pool);
    } while (reached && n < 1000);
    return n - 1;
}

static void any_operation_may_fail_with_a_full_disk(void)
{
    unsigned long n = fail_each(-ENOSPC);

    CHECK(n > 15 && n < 1000);
    tap_note("%lu operations failed, one at a time", n);
}

static void any_operation_may_fail_for_a_quota(void)
{
    CHECK(fail_each(-EDQUOT) > 15);
}

static void any_operation_may_fail_on_a_file_system_turned_read_only(void)
{
    CHECK(fail_each(-EROFS) > 15);
}

static void any_operation_may_fail_with_an_input_output_error(void)
{
    unsigned long n = fail_each(-EIO);

    CHECK(n > 15 && n < 1000);
}

/* The superblock of a failed attempt may become durable later: its number is not used again. */
static void the_number_of_a_failed_superblock_is_not_used_again(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 10, 900));
    recording_free(&recording);
    recording_attach(&recording, &pool.persist);
    recording.fail_at = 4; /* nodes, record, sync, superblock */
    recording.fail_status = -EIO;
    CHECK_EQ(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 10, &why), -EIO);
    CHECK_EQ(recording.failed_kind, RECORDED_WRITE);
    CHECK(strstr(why.text, "the last generation stays") != NULL);
    CHECK_LISTED(1);
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 10, &why));
    CHECK_LISTED(1, 3);
    CHECK(pool_is_valid(&pool));
    pool_close(&pool);
}

/* Each failed superblock uses up a number: the lists of dead frames do not run out. */
static void a_hundred_failed_superblocks_do_no_harm(void)
{
    uint64_t free_before;

    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    free_before = frames_free_count(pool.frames);
    recording_free(&recording);
    recording_attach(&recording, &pool.persist);
    recording.fail_status = -EIO;
    for (unsigned i = 0; i < 50; i++) {
        struct generation_entry entry = {.kind = GENERATION_HEAP, .slot = 7};

        CHECK_OK(oracle_write(&oracle, &pool, 0, 10, 900));
        recording.fail_at = recording.operations + 3; /* nodes, sync, superblock */
        CHECK_EQ(pool_commit(&pool, &entry, NULL, 0, &why), -EIO);
        CHECK(pool_is_valid(&pool));
    }
    recording.fail_at = 0;
    CHECK_LISTED(2, 3);
    CHECK(pool.super.next_generation > 50);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(55, 56);
    CHECK(frames_free_count(pool.frames) + 20 > free_before);
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_page_whose_second_write_failed_is_forgotten);
    RUN(any_operation_may_fail_with_a_full_disk);
    RUN(any_operation_may_fail_for_a_quota);
    RUN(any_operation_may_fail_on_a_file_system_turned_read_only);
    RUN(any_operation_may_fail_with_an_input_output_error);
    RUN(the_number_of_a_failed_superblock_is_not_used_again);
    RUN(a_hundred_failed_superblocks_do_no_harm);
    recording_free(&recording);
    scratch_end();
    return tap_done();
}
