/*
 * pool_log.c - the log's place in a pool: listed with a generation or at once, never handed out for
 * anything else, and looked at before it is believed.
 */
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define LOG_FRAMES 40u

static struct pool pool;
static struct oracle oracle;
static struct problem why;

static void commit_some(unsigned first)
{
    CHECK_OK(oracle_write(&oracle, &pool, first, 20, 100 + first));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 3000, &why));
}

static void fill_log(uint8_t byte)
{
    static uint8_t frame[FRAME_BYTES];

    memset(frame, byte, sizeof frame);
    for (uint32_t i = 0; i < pool.next_log.extent_count; i++)
        for (uint64_t k = 0; k < pool.next_log.extents[i].frames; k++)
            CHECK_OK(persist_write(&pool.persist,
                                   (pool.next_log.extents[i].frame + k) << FRAME_SHIFT, frame,
                                   sizeof frame));
}

static bool log_is_full_of(uint8_t byte)
{
    const struct log_place *log = &pool.super.log;
    static uint8_t frame[FRAME_BYTES], expected[FRAME_BYTES];

    memset(expected, byte, sizeof expected);
    for (uint32_t i = 0; i < log->extent_count; i++)
        for (uint64_t k = 0; k < log->extents[i].frames; k++)
            if (sys_pread_all(pool.fd, frame, sizeof frame,
                              (log->extents[i].frame + k) << FRAME_SHIFT) < 0 ||
                memcmp(frame, expected, sizeof frame) != 0)
                return false;
    return true;
}

static void pool_with_log(void)
{
    scratch_pool(&pool, &oracle, 2);
    CHECK_OK(pool_add_log_extent(&pool, LOG_FRAMES, &why));
    pool.next_log.root = 77;
    fill_log('L');
}

static void a_log_is_listed_with_the_next_generation(void)
{
    pool_with_log();
    CHECK_EQ(pool.super.log.extent_count, 0);
    CHECK_EQ(pool.super.format_version, POOL_FORMAT_NO_LOG);
    commit_some(0);
    CHECK_EQ(pool.super.format_version, POOL_FORMAT_LOG);
    CHECK_EQ(pool.super.log.generation, 1);
    CHECK_EQ(pool.super.log.root, 77);
    CHECK_EQ(pool.super.log.extents[0].frames, LOG_FRAMES);
    pool_close(&pool);
}

static void an_extent_more_is_listed_at_once(void)
{
    pool_with_log();
    commit_some(0);
    CHECK_OK(pool_add_log_extent(&pool, LOG_FRAMES, &why));
    CHECK_OK(pool_list_log(&pool, &why));
    CHECK_OK(scratch_reopen(&pool, &oracle, 1, &why));
    CHECK_EQ(pool.super.log.extent_count, 2);
    CHECK_EQ(pool.super.log.generation, 1);
    CHECK_EQ(pool.super.log.root, 77);
    pool_close(&pool);
}

static void no_generation_is_written_over_the_log(void)
{
    pool_with_log();
    for (unsigned i = 0; i < 40; i++) {
        commit_some(i % 25);
        if (i % 5 == 4)
            CHECK_OK(scratch_reopen(&pool, &oracle, pool_generation(&pool, 0)->number, &why));
        if (i == 20) {
            CHECK_OK(pool_add_log_extent(&pool, LOG_FRAMES, &why));
            fill_log('L');
        }
    }
    CHECK_EQ(pool.super.log.extent_count, 2);
    CHECK(log_is_full_of('L'));
    CHECK(pool_is_valid(&pool));
    pool_close(&pool);
}

static void no_more_extents_than_can_be_listed(void)
{
    pool_with_log();
    for (unsigned i = 1; i < LOG_EXTENTS; i++)
        CHECK_OK(pool_add_log_extent(&pool, 1, &why));
    CHECK_EQ(pool_add_log_extent(&pool, 1, &why), STATUS_LIMIT);
    commit_some(0);
    CHECK_EQ(pool.super.log.extent_count, LOG_EXTENTS);
    pool_close(&pool);
}

/* Is a superblock that differs in this word of the log's place valid? */
static bool is_believed(size_t word, uint64_t value)
{
    struct superblock super = pool.super;

    memcpy((uint8_t *)&super.log + 8 * word, &value, sizeof value);
    super.checksum = checksum64(&super, __builtin_offsetof(struct superblock, checksum));
    return superblock_is_valid(&super);
}

static void a_place_that_is_none_is_not_believed(void)
{
    struct superblock older;

    pool_with_log();
    commit_some(0);
    CHECK(is_believed(1, 78));
    CHECK(!is_believed(0, 2));
    CHECK(!is_believed(2, LOG_EXTENTS + 1));
    CHECK(!is_believed(2, 2));
    CHECK(!is_believed(3, 1));
    CHECK(!is_believed(3, pool.super.frame_count));
    CHECK(!is_believed(4, 0));
    CHECK(!is_believed(4, ~0ull));
    older = pool.super;
    older.format_version = POOL_FORMAT_NO_LOG;
    older.checksum = checksum64(&older, __builtin_offsetof(struct superblock, checksum));
    CHECK(!superblock_is_valid(&older));
    pool_close(&pool);
}

static void two_extents_with_a_frame_in_common_are_damage(void)
{
    pool_with_log();
    CHECK_OK(pool_add_log_extent(&pool, 4, &why));
    pool.next_log.extents[1].frame = pool.next_log.extents[0].frame + 10;
    commit_some(0);
    CHECK_EQ(scratch_reopen(&pool, &oracle, 1, &why), STATUS_DAMAGED);
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_log_is_listed_with_the_next_generation);
    RUN(an_extent_more_is_listed_at_once);
    RUN(no_generation_is_written_over_the_log);
    RUN(no_more_extents_than_can_be_listed);
    RUN(a_place_that_is_none_is_not_believed);
    RUN(two_extents_with_a_frame_in_common_are_damage);
    scratch_end();
    return tap_done();
}
