/*
 * pool_pin.c - generations pinned, unpinned and dropped by name; space given back.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "t/lib/persist_recorder.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define LARGE_PAGES 16384ull /* 64 MiB */
#define LARGE_FIRST 0x300000000ull

static struct pool pool;
static struct oracle oracle;
static struct problem why;
static struct recording recording;

static void commit(enum generation_kind kind)
{
    uint64_t number = pool.super.next_generation;

    CHECK_OK(oracle_write(&oracle, &pool, (unsigned)number % 40, 5, (uint32_t)number * 100));
    CHECK_OK(oracle_commit(&oracle, &pool, kind, 0, 3000, &why));
    CHECK(pool_is_valid(&pool));
}

/* Exactly these, ascending, ended by 0; and all of them whole. */
static void check_listed(const struct pool *seen, const uint64_t *expected)
{
    char text[256];

    for (uint32_t i = 0; i < seen->super.generation_count; i++) {
        const struct generation_entry *entry = &seen->super.generations[i];

        CHECK_EQ(entry->number, expected[i]);
        if (!oracle_agrees(&oracle, seen, entry, &scratch_arena, text))
            CHECK_STR(text, "");
    }
    CHECK_EQ(expected[seen->super.generation_count], 0);
}

#define CHECK_LISTED(...) check_listed(&pool, (const uint64_t[]){__VA_ARGS__, 0})

static void start_run(struct superblock *super, void *context)
{
    (void)context;
    super->run_state = RUN_STARTED;
}

static void a_generation_is_kept_from_pinning_to_unpinning(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_PROCESS);
    commit(GENERATION_PROCESS);
    CHECK_OK(pool_pin(&pool, 1, true, &why));
    CHECK_OK(pool_pin(&pool, 1, true, &why)); /* is so already */
    for (int i = 0; i < 3; i++)
        commit(GENERATION_PROCESS);
    CHECK_LISTED(1, 4, 5);
    CHECK_OK(scratch_reopen(&pool, &oracle, 5, &why));
    CHECK(pool_generation(&pool, 1)->flags & GENERATION_PINNED);
    CHECK_OK(pool_pin(&pool, 1, false, &why));
    CHECK_OK(pool_pin(&pool, 1, false, &why));
    commit(GENERATION_PROCESS);
    CHECK_LISTED(5, 6);
    CHECK_EQ(pool_pin(&pool, 1, true, &why), STATUS_NO_GENERATION);
    CHECK(strstr(why.text, "generation 1") != NULL);
    CHECK_EQ(pool_pin(&pool, 0, true, &why), STATUS_NO_GENERATION);
    pool_close(&pool);
}

static void more_than_a_few_cannot_be_pinned(void)
{
    scratch_pool(&pool, &oracle, 8);
    for (unsigned i = 1; i <= POOL_PINNED_MAX + 1; i++) {
        commit(GENERATION_PROCESS);
        CHECK_EQ(pool_pin(&pool, i, true, &why), i <= POOL_PINNED_MAX ? 0 : STATUS_LIMIT);
    }
    CHECK(strstr(why.text, "unpin one") != NULL);
    CHECK_OK(pool_pin(&pool, 2, false, &why));
    CHECK_OK(pool_pin(&pool, POOL_PINNED_MAX + 1, true, &why));
    pool_close(&pool);
}

static void a_crash_image_can_be_pinned_too(void)
{
    scratch_pool(&pool, &oracle, 2);
    commit(GENERATION_CRASH);
    CHECK_OK(pool_pin(&pool, 1, true, &why));
    commit(GENERATION_CRASH);
    commit(GENERATION_CRASH);
    CHECK_LISTED(1, 3);
    pool_close(&pool);
}

static void a_dropped_generation_is_gone_and_the_others_stay_whole(void)
{
    uint64_t free_before;

    scratch_pool(&pool, &oracle, 4);
    for (int i = 0; i < 4; i++)
        commit(GENERATION_PROCESS);
    free_before = frames_free_count(pool.frames);
    CHECK_OK(pool_drop(&pool, 2, &why));
    CHECK(pool_is_valid(&pool));
    CHECK(frames_free_count(pool.frames) > free_before);
    CHECK_LISTED(1, 3, 4);
    CHECK_EQ(pool_drop(&pool, 2, &why), STATUS_NO_GENERATION);
    commit(GENERATION_PROCESS);
    commit(GENERATION_PROCESS);
    CHECK_LISTED(3, 4, 5, 6);
    free_before = frames_free_count(pool.frames);
    CHECK_OK(scratch_reopen(&pool, &oracle, 6, &why));
    CHECK_EQ(frames_free_count(pool.frames), free_before);
    pool_close(&pool);
}

static void what_is_pinned_read_or_to_be_resumed_is_not_dropped(void)
{
    int lock;

    scratch_pool(&pool, &oracle, 4);
    for (int i = 0; i < 3; i++)
        commit(GENERATION_PROCESS);
    commit(GENERATION_CRASH);
    CHECK_OK(pool_update(&pool, start_run, NULL, &why));
    CHECK_OK(pool_pin(&pool, 1, true, &why));
    CHECK_EQ(pool_drop(&pool, 1, &why), STATUS_REFUSED);
    CHECK(strstr(why.text, "pinned") != NULL);
    CHECK_EQ(pool_drop(&pool, 3, &why), STATUS_REFUSED);
    CHECK(strstr(why.text, "go on") != NULL);
    lock = pool_lock_generation(&pool, 2, &why);
    CHECK_OK(lock);
    CHECK_EQ(pool_drop(&pool, 2, &why), STATUS_IN_USE);
    close(lock);
    CHECK_LISTED(1, 2, 3, 4);
    CHECK_OK(pool_drop(&pool, 2, &why));
    CHECK_OK(pool_drop(&pool, 4, &why));
    CHECK_LISTED(1, 3);
    pool_close(&pool);
}

/* Its frames are written to at once: nobody may fall back to a superblock that leads to them. */
static void neither_superblock_lists_what_was_dropped(void)
{
    static const uint8_t spoilt[FRAME_BYTES];
    static struct pool reader;

    scratch_pool(&pool, &oracle, 3);
    for (int i = 0; i < 3; i++)
        commit(GENERATION_PROCESS);
    CHECK_OK(pool_drop(&pool, 1, &why));
    CHECK_OK(oracle_write(&oracle, &pool, 0, 40, 9000));
    CHECK_EQ(pwrite(pool.fd, spoilt, sizeof spoilt, (off_t)(pool.super.sequence % 2 * FRAME_BYTES)),
             FRAME_BYTES);
    CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why));
    CHECK(reader.super_fell_back);
    check_listed(&reader, (const uint64_t[]){2, 3, 0});
    pool_close(&reader);
    pool_close(&pool);
}

static void any_operation_of_a_drop_may_fail(void)
{
    unsigned long n = 0;
    int status;

    do {
        scratch_pool(&pool, &oracle, 3);
        for (int i = 0; i < 3; i++)
            commit(GENERATION_PROCESS);
        recording_free(&recording);
        recording_attach(&recording, &pool.persist);
        recording.fail_at = ++n;
        recording.fail_status = -EIO;
        status = pool_drop(&pool, 1, &why);
        CHECK(status == 0 || status == -EIO);
        CHECK(pool_is_valid(&pool));
        recording.fail_at = 0;
        CHECK_OK(scratch_reopen(&pool, &oracle, 3, &why));
        CHECK(pool.super.generation_count == (pool_generation(&pool, 1) ? 3 : 2));
        commit(GENERATION_PROCESS);
        CHECK_LISTED(2, 3, 4);
        pool_close(&pool);
    } while (status < 0 && n < 10);
    CHECK_EQ(n, 5); /* two writes, two syncs */
}

/* --- space --- */

static uint64_t space(void)
{
    struct stat info;

    CHECK_EQ(fstat(pool.fd, &info), 0);
    return (uint64_t)info.st_blocks * 512;
}

/* A generation of 64 MiB beside what the oracle knows. */
static void commit_large(uint32_t seed)
{
    struct generation_entry entry = {.kind = GENERATION_PROCESS, .slot = 7};
    static uint64_t numbers[LARGE_PAGES], checksums[LARGE_PAGES];
    uint8_t *data = malloc(LARGE_PAGES * FRAME_BYTES);
    uint64_t written = 0;

    for (uint64_t i = 0; i < LARGE_PAGES; i++) {
        oracle_fill(data + i * FRAME_BYTES, seed + (uint32_t)i);
        numbers[i] = LARGE_FIRST + i;
        checksums[i] = checksum64(data + i * FRAME_BYTES, FRAME_BYTES);
    }
    CHECK_OK(pool_write_pages(&pool, numbers, checksums, data, LARGE_PAGES, &written));
    CHECK_OK(pool_commit(&pool, &entry, NULL, 0, &why));
    free(data);
}

/* Generation 1 is large, 2 and 3 are small. */
static void make_large_and_small(void)
{
    struct generation_entry entry = {.kind = GENERATION_PROCESS, .slot = 7};

    scratch_pool(&pool, &oracle, 4);
    commit_large(70000);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(index_clear(pool.index, pool.frames, LARGE_FIRST, LARGE_FIRST + LARGE_PAGES));
        CHECK_OK(pool_commit(&pool, &entry, NULL, 0, &why));
    }
}

static void space_of_a_dropped_generation_goes_back_and_comes_again(void)
{
    uint64_t before, after, file_bytes;

    make_large_and_small();
    before = space();
    file_bytes = pool.persist.file_bytes;
    CHECK_OK(pool_drop(&pool, 1, &why));
    after = space();
    CHECK(before > 64u << 20);
    CHECK(after < before - (40u << 20));
    CHECK(after >= 16u << 20); /* the margin */
    CHECK_EQ(pool.persist.file_bytes, file_bytes);
    tap_note("%lu MiB, %lu after the drop", before >> 20, after >> 20);
    commit_large(500000);
    CHECK(space() > 64u << 20);
    CHECK_EQ(pool.persist.file_bytes, file_bytes);
    CHECK(pool_is_valid(&pool));
    pool_close(&pool);
}

static void holes_are_known_again_when_the_pool_is_opened_again(void)
{
    make_large_and_small();
    CHECK_OK(pool_drop(&pool, 1, &why));
    CHECK_OK(scratch_reopen(&pool, &oracle, 3, &why));
    commit_large(500000);
    CHECK(space() > 64u << 20);
    CHECK_OK(pool_drop(&pool, 2, &why)); /* nothing large is free */
    CHECK_OK(pool_drop(&pool, 3, &why));
    CHECK(space() > 64u << 20);
    pool_close(&pool);
}

static int refuse_growth(struct persist *persist, uint64_t file_bytes)
{
    (void)persist, (void)file_bytes;
    return -ENOSPC;
}

static int refuse_space(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    (void)persist, (void)offset, (void)bytes;
    return -ENOSPC;
}

/* What generations like the last one need is there; a large one fails, and changes nothing. */
static void on_a_full_disk_a_hole_is_no_space_and_the_margin_is(void)
{
    struct generation_entry entry = {.kind = GENERATION_PROCESS, .slot = 7};
    struct persist_ops full;
    uint64_t first, got, free_before;

    make_large_and_small();
    CHECK_OK(pool_drop(&pool, 1, &why));
    full = *pool.persist.ops;
    full.grow = refuse_growth;
    full.reserve = refuse_space;
    pool.persist.ops = &full;
    for (unsigned i = 0; i < 40; i++) { /* 40 times 190 KiB */
        CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 1000 * i + 2));
        CHECK_OK(pool_commit(&pool, &entry, NULL, 0, &why));
    }
    free_before = frames_free_count(pool.frames);
    CHECK_EQ(frames_take(pool.frames, 8192, true, &first, &got), -ENOSPC);
    CHECK_EQ(frames_free_count(pool.frames), free_before);
    CHECK(pool_is_valid(&pool));
    pool_close(&pool);
}

/* --- going back --- */

static void end_run(struct superblock *super, void *context)
{
    (void)context;
    super->run_state = RUN_ENDED;
    super->end_status = 256;
    super->run_first_generation = super->next_generation;
    super->resume_count = 2;
}

static void make_generations(unsigned count)
{
    scratch_pool(&pool, &oracle, 16);
    for (unsigned i = 0; i < count; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, i, 8, 100 * (i + 1)));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 3000, &why));
    }
}

static void after_a_rollback_the_run_goes_on_from_there(void)
{
    static struct pool reader;
    char text[256] = "";

    make_generations(6);
    CHECK_OK(pool_update(&pool, end_run, NULL, &why));
    CHECK_OK(pool_rollback(&pool, 3, &why));
    CHECK_EQ(pool.super.generation_count, 3);
    CHECK_EQ(pool.super.run_state, RUN_STARTED);
    CHECK_EQ(pool.super.end_status, 0);
    CHECK_EQ(pool.super.run_first_generation, 3);
    CHECK_EQ(pool.super.resume_count, 0);
    CHECK_EQ(pool.super.next_generation, 7); /* numbers do not come again */
    CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why));
    CHECK_EQ(reader.previous.number, 3); /* of the other superblock, too */
    pool_close(&reader);
    CHECK_OK(scratch_reopen(&pool, &oracle, 3, &why));
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 100, &why));
    for (uint64_t number = 1; number <= 7; number++)
        if ((number <= 3 || number == 7) &&
            !oracle_agrees(&oracle, &pool, pool_generation(&pool, number), &scratch_arena, text))
            CHECK_STR(text, "");
    pool_close(&pool);
}

static void a_rollback_to_the_newest_drops_nothing(void)
{
    make_generations(2);
    CHECK_OK(pool_update(&pool, end_run, NULL, &why));
    CHECK_OK(pool_rollback(&pool, 2, &why));
    CHECK_EQ(pool.super.generation_count, 2);
    CHECK_EQ(pool.super.run_state, RUN_STARTED);
    pool_close(&pool);
}

static void a_rollback_over_what_is_pinned_or_read_is_refused_and_changes_nothing(void)
{
    struct superblock before;
    int fd;

    make_generations(5);
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_CRASH, 0, 100, &why));
    CHECK_EQ(pool_rollback(&pool, 6, &why), STATUS_REFUSED);
    CHECK_EQ(pool_rollback(&pool, 9, &why), STATUS_NO_GENERATION);
    CHECK_OK(pool_pin(&pool, 4, true, &why));
    before = pool.super;
    CHECK_EQ(pool_rollback(&pool, 3, &why), STATUS_REFUSED);
    CHECK(strstr(why.text, "generation 4") != NULL);
    CHECK_OK(pool_pin(&pool, 4, false, &why));
    before = pool.super;
    CHECK_OK(fd = pool_lock_generation(&pool, 4, &why));
    CHECK_EQ(pool_rollback(&pool, 3, &why), STATUS_IN_USE);
    CHECK_EQ(memcmp(&before, &pool.super, sizeof before), 0);
    sys_close(fd);
    CHECK_OK(pool_rollback(&pool, 3, &why));
    CHECK_EQ(pool.super.generation_count, 3);
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_generation_is_kept_from_pinning_to_unpinning);
    RUN(more_than_a_few_cannot_be_pinned);
    RUN(a_crash_image_can_be_pinned_too);
    RUN(a_dropped_generation_is_gone_and_the_others_stay_whole);
    RUN(what_is_pinned_read_or_to_be_resumed_is_not_dropped);
    RUN(neither_superblock_lists_what_was_dropped);
    RUN(any_operation_of_a_drop_may_fail);
    RUN(space_of_a_dropped_generation_goes_back_and_comes_again);
    RUN(holes_are_known_again_when_the_pool_is_opened_again);
    RUN(on_a_full_disk_a_hole_is_no_space_and_the_margin_is);
    RUN(after_a_rollback_the_run_goes_on_from_there);
    RUN(a_rollback_to_the_newest_drops_nothing);
    RUN(a_rollback_over_what_is_pinned_or_read_is_refused_and_changes_nothing);
    scratch_end();
    return tap_done();
}
