/*
 * pool_generations.c - commits: what is kept and dropped, what a commit costs,
 * what readers hold. pool_generation_failures.c has what failures leave.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/pool/superblock.h"
#include "t/lib/generations_fixture.h"

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
    scratch_end();
    return tap_done();
}
