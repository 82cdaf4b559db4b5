/*
 * pool_generations.c - commits: what is kept and dropped, what a commit costs, what failures
 * leave, what readers hold.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "core/pool/pool.h"
#include "core/pool/superblock.h"
#include "t/lib/persist_recorder.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

static struct pool pool;
static struct oracle oracle;
static struct problem why;

static void commit(enum generation_kind kind, uint32_t flags)
{
    uint64_t number = pool.super.next_generation;

    why = (struct problem){0};
    CHECK_OK(oracle_write(&oracle, &pool, (unsigned)number % 40, 5, (uint32_t)number * 100));
    CHECK_OK(oracle_commit(&oracle, &pool, kind, flags, 3000, &why));
    CHECK_STR(why.text, "");
    CHECK(pool_is_valid(&pool));
}

/* Exactly these, ascending, ended by 0; and all of them whole. */
static void check_listed(const uint64_t *expected)
{
    char text[256];

    for (uint32_t i = 0; i < pool.super.generation_count; i++) {
        const struct generation_entry *entry = &pool.super.generations[i];

        CHECK_EQ(entry->number, expected[i]);
        if (!oracle_agrees(&oracle, &pool, entry, &scratch_arena, text))
            CHECK_STR(text, "");
    }
    CHECK_EQ(expected[pool.super.generation_count], 0);
}

#define CHECK_LISTED(...) check_listed((const uint64_t[]){__VA_ARGS__, 0})

static void the_newest_n_are_kept(void)
{
    scratch_pool(&pool, &oracle, 3);
    for (int i = 0; i < 5; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(3, 4, 5);
    CHECK_EQ(pool_generation(&pool, 0)->number, 5);
    CHECK_EQ(pool_generation(&pool, 4)->number, 4);
    CHECK(pool_generation(&pool, 2) == NULL);
    pool_close(&pool);
}

static void a_pinned_generation_is_kept_besides_the_newest_n(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, GENERATION_PINNED);
    for (int i = 0; i < 6; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(2, 7, 8);
    pool_close(&pool);
}

static void one_crash_image_is_kept_apart_from_the_newest_n(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_CRASH, 0);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(1, 2, 3);
    commit(GENERATION_CRASH, 0);
    CHECK_LISTED(1, 3, 4);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(4, 5, 6);
    pool_close(&pool);
}

/* With N = 1 a new program's first generation drops the one that the superblock before can resume;
 * the crash image beside it, with other pages, does not stand in for it. */
static void a_crash_image_does_not_stand_in_for_what_the_superblock_before_can_resume(void)
{
    struct generation_entry before;
    char text[256];

    scratch_pool(&pool, &oracle, 1);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 40, 4000));
    commit(GENERATION_PROCESS, 0);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 40, 4100));
    commit(GENERATION_CRASH, 0);
    before = *pool_generation(&pool, 1);
    CHECK_OK(scratch_reopen(&pool, &oracle, 0, &why));
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(2, 3);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 40, 5000));
    if (!oracle_agrees(&oracle, &pool, &before, &scratch_arena, text))
        CHECK_STR(text, "");
    pool_close(&pool);
}

static void a_locked_generation_is_kept_until_the_lock_goes(void)
{
    int lock;

    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    lock = pool_lock_generation(&pool, 1, &why);
    CHECK_OK(lock);
    for (int i = 0; i < 5; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(1, 5, 6);
    CHECK_EQ(pool_lock_generation(&pool, 3, &why), STATUS_NO_GENERATION);
    CHECK(strstr(why.text, "generation 3") != NULL);
    close(lock);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(6, 7);
    pool_close(&pool);
}

/* A reader that opened the pool before the generation was dropped. */
static void a_stale_reader_cannot_lock_what_was_dropped_meanwhile(void)
{
    static struct pool reader;
    int lock;

    scratch_pool(&pool, &oracle, 1);
    commit(GENERATION_PROCESS, 0);
    CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why));
    CHECK(pool_generation(&reader, 1) != NULL);
    commit(GENERATION_PROCESS, 0);
    CHECK_EQ(pool_lock_generation(&reader, 1, &why), STATUS_NO_GENERATION);
    lock = pool_lock_generation(&reader, 2, &why);
    CHECK_OK(lock);
    close(lock);
    pool_close(&reader);
    pool_close(&pool);
}

static void a_list_full_of_pinned_generations_is_refused_and_nothing_lost(void)
{
    scratch_pool(&pool, &oracle, 16);
    for (unsigned i = 0; i < SUPERBLOCK_GENERATIONS - 1; i++)
        commit(GENERATION_PROCESS, GENERATION_PINNED);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0); /* the one kept by count makes room */
    CHECK_EQ(pool.super.generation_count, SUPERBLOCK_GENERATIONS);
    CHECK_EQ(pool.super.generations[22].number, 23);
    CHECK_EQ(pool.super.generations[23].number, 25);
    commit(GENERATION_PROCESS, GENERATION_PINNED);
    CHECK_EQ(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 10, &why), STATUS_LIMIT);
    CHECK(strstr(why.text, pool.path) && strstr(why.text, "unpin"));
    CHECK_EQ(pool.super.generation_count, SUPERBLOCK_GENERATIONS);
    CHECK(pool_is_valid(&pool));
    pool_close(&pool);
}

/* --- costs --- */

static void check_costs(unsigned fold_every, unsigned index_frames)
{
    uint64_t syncs, bytes;

    scratch_pool(&pool, &oracle, 2);
    oracle.fold_every = fold_every;
    commit(GENERATION_PROCESS, 0);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 40, 1));
    commit(GENERATION_PROCESS, 0);
    for (unsigned pages = 1; pages <= 8; pages++) {
        syncs = pool.persist.syncs;
        bytes = pool.persist.bytes_written;
        CHECK_OK(oracle_write(&oracle, &pool, 8, pages, pages * 50));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 5000, &why));
        CHECK_EQ(pool.persist.syncs - syncs, 2);
        /* pages of one leaf, the index, the record, the superblock */
        CHECK_EQ(pool.persist.bytes_written - bytes,
                 (pages + index_frames + 1) * FRAME_BYTES + 5000);
        CHECK_EQ(pool_generation(&pool, 0)->written_bytes,
                 (pages + index_frames) * FRAME_BYTES + 5000);
    }
    pool_close(&pool);
}

static void a_commit_costs_two_syncs_and_what_was_written(void)
{
    check_costs(1, INDEX_LEVELS); /* a leaf and the nodes above it */
    check_costs(0, 1);            /* a delta */
}

/* A commit without any change writes the superblock alone, and still is a generation. */
static void a_generation_that_no_reader_would_accept_is_refused(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    for (int i = 0; i < 3; i++) {
        struct generation_entry entry = {.kind = i == 0 ? 0 : GENERATION_HEAP,
                                         .slot = i == 1   ? 10
                                                 : i == 2 ? 4000000
                                                          : 7};

        CHECK_EQ(pool_commit(&pool, &entry, "record", 6, &why), -EINVAL);
        CHECK(pool_is_valid(&pool));
    }
    CHECK_OK(scratch_reopen(&pool, &oracle, 1, &why));
    CHECK(!pool.super_fell_back);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(1, 2);
    pool_close(&pool);
}

static void an_unchanged_generation_costs_a_superblock(void)
{
    uint64_t bytes;

    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_HEAP, 0);
    bytes = pool.persist.bytes_written;
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 0, &why));
    CHECK_EQ(pool.persist.bytes_written - bytes, FRAME_BYTES);
    CHECK_LISTED(1, 2);
    pool_close(&pool);
}

/* Space does not leak: the same change over and over needs no more than a few generations'. */
static void repeat_one_change(unsigned fold_every, uint64_t deltas_frames)
{
    uint64_t free_at_10 = 0;

    scratch_pool(&pool, &oracle, 3);
    oracle.fold_every = fold_every;
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 7000));
    for (unsigned i = 1; i < ORACLE_GENERATIONS; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, 3, 20, i * 100));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 9000, &why));
        if (i == 10)
            free_at_10 = frames_free_count(pool.frames);
    }
    CHECK_EQ(frames_free_count(pool.frames), free_at_10 - deltas_frames);
    CHECK_LISTED(61, 62, 63);
    pool_close(&pool);
}

static void the_file_does_not_grow_with_the_number_of_generations(void)
{
    repeat_one_change(1, 0);
    repeat_one_change(0, 53); /* the chain grows until it is folded: pool_index.c */
}

/* --- opening again --- */

static void a_pool_that_is_opened_again_knows_the_same_frames(void)
{
    uint64_t free_before;

    scratch_pool(&pool, &oracle, 3);
    for (int i = 0; i < 8; i++)
        commit(GENERATION_PROCESS, i == 2 ? GENERATION_PINNED : 0);
    free_before = frames_free_count(pool.frames);
    CHECK_OK(scratch_reopen(&pool, &oracle, 8, &why));
    CHECK_STR(why.text, "");
    CHECK_EQ(frames_free_count(pool.frames), free_before);
    CHECK_EQ(index_page_count(pool.index), pool_generation(&pool, 0)->page_count);
    for (int i = 0; i < 5; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(3, 11, 12, 13);
    pool_close(&pool);
}

static void a_new_program_starts_with_an_empty_index_beside_old_generations(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    CHECK_OK(scratch_reopen(&pool, &oracle, 0, &why));
    CHECK_EQ(index_page_count(pool.index), 0);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(2, 3);
    CHECK_EQ(pool_generation(&pool, 3)->page_count, 5);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(3, 4);
    pool_close(&pool);
}

static void an_older_generation_can_be_the_base(void)
{
    scratch_pool(&pool, &oracle, 3);
    for (int i = 0; i < 3; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_OK(scratch_reopen(&pool, &oracle, 1, &why));
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(2, 3, 4);
    commit(GENERATION_PROCESS, 0);
    commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(4, 5, 6);
    CHECK_EQ(scratch_reopen(&pool, &oracle, 3, &why), STATUS_NO_GENERATION);
    pool_close(&pool);
}

/* --- updates --- */

static void end_run(struct superblock *super, void *context)
{
    super->run_state = RUN_ENDED;
    super->end_status = *(int *)context;
}

static void spoil(struct superblock *super, void *context)
{
    (void)context;
    super->keep = 100;
}

static void an_update_is_durable_and_a_wrong_one_is_refused(void)
{
    int status = 7 << 8;
    uint64_t syncs, bytes;

    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS, 0);
    syncs = pool.persist.syncs;
    bytes = pool.persist.bytes_written;
    CHECK_OK(pool_update(&pool, end_run, &status, &why));
    CHECK_EQ(pool.persist.syncs - syncs, 1);
    CHECK_EQ(pool.persist.bytes_written - bytes, FRAME_BYTES);
    CHECK_EQ(pool_update(&pool, spoil, NULL, &why), -EINVAL);
    CHECK_OK(scratch_reopen(&pool, &oracle, 1, &why));
    CHECK_EQ(pool.super.run_state, RUN_ENDED);
    CHECK_EQ(pool.super.end_status, status);
    CHECK_EQ(pool.super.keep, 2);
    CHECK_LISTED(1);
    pool_close(&pool);
}

static uint64_t frame_of(unsigned page)
{
    struct index_entry entry;

    CHECK_OK(index_lookup(pool.index, oracle_page(page), &entry));
    return entry.frame;
}

/* A pre-copy writes some pages in every round: the rounds leave no gaps behind. */
static void a_page_that_is_written_again_before_the_commit_stays_in_its_frame(void)
{
    uint64_t first;

    scratch_pool(&pool, &oracle, 2);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 30, 100));
    first = frame_of(0);
    CHECK_OK(oracle_write(&oracle, &pool, 7, 1, 500));
    CHECK_OK(oracle_write(&oracle, &pool, 25, 10, 600)); /* five of them again */
    for (unsigned i = 0; i < 30; i++)
        CHECK_EQ(frame_of(i), first + i);
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 10, &why));
    CHECK_LISTED(1);
    CHECK_OK(oracle_write(&oracle, &pool, 7, 1, 700)); /* generation 1 has the frame now */
    CHECK(frame_of(7) != first + 7);
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 10, &why));
    CHECK_LISTED(1, 2);
    CHECK(pool_is_valid(&pool));
    pool_close(&pool);
}

/* What the next commit would drop can be dropped before it, so that it may use those frames; not
 * what is pinned or read, and never below two. */
static void room_can_be_made_before_a_commit(void)
{
    uint64_t free_before;
    int lock;

    scratch_pool(&pool, &oracle, 3);
    CHECK_OK(pool_make_room(&pool, &why));
    for (int i = 0; i < 2; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_OK(pool_make_room(&pool, &why));
    CHECK_LISTED(1, 2);
    for (int i = 0; i < 2; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_LISTED(2, 3, 4);
    free_before = frames_free_count(pool.frames);
    CHECK_OK(oracle_write(&oracle, &pool, 2, 3, 900)); /* half a generation is built */
    CHECK_OK(pool_make_room(&pool, &why));
    CHECK_LISTED(3, 4);
    CHECK(frames_free_count(pool.frames) > free_before - 3);
    CHECK_OK(pool_make_room(&pool, &why)); /* there is room */
    CHECK_LISTED(3, 4);
    CHECK(pool_is_valid(&pool));
    commit(GENERATION_PROCESS, GENERATION_PINNED);
    CHECK_LISTED(3, 4, 5);
    lock = pool_lock_generation(&pool, 3, &why);
    CHECK(lock >= 0);
    CHECK_OK(pool_make_room(&pool, &why));
    CHECK_LISTED(3, 4, 5);
    close(lock);
    CHECK_OK(pool_make_room(&pool, &why));
    CHECK_LISTED(4, 5);
    for (int i = 0; i < 3; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_OK(pool_make_room(&pool, &why));
    CHECK_LISTED(5, 7, 8);
    pool_close(&pool);
}

static void where_two_are_kept_no_room_is_made(void)
{
    scratch_pool(&pool, &oracle, 2);
    for (int i = 0; i < 3; i++)
        commit(GENERATION_PROCESS, 0);
    CHECK_OK(pool_make_room(&pool, &why));
    CHECK_LISTED(2, 3);
    pool_close(&pool);
}

/* --- failures --- */

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
    RUN(the_newest_n_are_kept);
    RUN(a_pinned_generation_is_kept_besides_the_newest_n);
    RUN(one_crash_image_is_kept_apart_from_the_newest_n);
    RUN(a_crash_image_does_not_stand_in_for_what_the_superblock_before_can_resume);
    RUN(a_locked_generation_is_kept_until_the_lock_goes);
    RUN(a_stale_reader_cannot_lock_what_was_dropped_meanwhile);
    RUN(a_list_full_of_pinned_generations_is_refused_and_nothing_lost);
    RUN(a_commit_costs_two_syncs_and_what_was_written);
    RUN(a_generation_that_no_reader_would_accept_is_refused);
    RUN(an_unchanged_generation_costs_a_superblock);
    RUN(the_file_does_not_grow_with_the_number_of_generations);
    RUN(a_pool_that_is_opened_again_knows_the_same_frames);
    RUN(a_new_program_starts_with_an_empty_index_beside_old_generations);
    RUN(an_older_generation_can_be_the_base);
    RUN(an_update_is_durable_and_a_wrong_one_is_refused);
    RUN(a_page_that_is_written_again_before_the_commit_stays_in_its_frame);
    RUN(room_can_be_made_before_a_commit);
    RUN(where_two_are_kept_no_room_is_made);
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
