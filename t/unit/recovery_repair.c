/*
 * recovery_repair.c - damaged pools repaired: whatever is spoilt, what a repair calls repaired is
 * whole and works, what was whole is kept as it was, and what was changed can be put back.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "recovery/repair/repair.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define GENERATIONS 4

static struct pool pool;
static struct oracle oracle;
static struct problem why;
static struct check_result result;
static struct repair_plan plan;

static void ignore(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

static void check_now(void)
{
    const struct check_request request = {.path = scratch_path("pool"), .found = ignore};

    why = (struct problem){0};
    CHECK_OK(check_pool(&request, &result, &why));
}

static void make_pool(unsigned fold_every)
{
    unlink(scratch_path("pool.backup"));
    scratch_pool(&pool, &oracle, GENERATIONS);
    oracle.fold_every = fold_every;
    for (unsigned i = 0; i < GENERATIONS; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, i * 7 % 40, i == 0 ? 40 : 6, 100 * (i + 1)));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 5000, &why));
    }
    pool_close(&pool);
}

static void flip(uint64_t offset)
{
    int fd = open(scratch_path("pool"), O_RDWR);
    uint8_t byte;

    CHECK_OK(sys_pread_all(fd, &byte, 1, offset));
    byte ^= 8;
    CHECK_OK(sys_pwrite_all(fd, &byte, 1, offset));
    close(fd);
}

static int repair(void)
{
    int status;

    check_now();
    status = repair_plan(&plan, scratch_path("pool"), &result, &why);
    return status == 0 ? repair_apply(&plan, scratch_path("pool"), &why) : status;
}

/* It is fine, its generations are what they were, and a writer goes on. */
static void check_repaired(void)
{
    uint64_t newest = plan.newest;
    char text[256] = "";

    check_now();
    CHECK_EQ(result.worst, SEVERITY_NONE);
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_WRITE, &why));
    for (uint32_t i = 0; i < pool.super.generation_count; i++)
        if (!oracle_agrees(&oracle, &pool, &pool.super.generations[i], &scratch_arena, text))
            CHECK_STR(text, "");
    arena_rewind(&scratch_arena, scratch_arena.base);
    CHECK_OK(pool_load(&pool, &scratch_arena, newest, &why));
    oracle_start_from(&oracle, newest);
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 100, &why));
    pool_close(&pool);
    check_now();
    CHECK_EQ(result.worst, SEVERITY_NONE);
}

static void a_whole_pool_needs_no_repair(void)
{
    make_pool(1);
    check_now();
    CHECK_OK(repair_plan(&plan, scratch_path("pool"), &result, &why));
    CHECK(!repair_is_needed(&plan));
    CHECK_EQ(plan.newest, GENERATIONS);
}

static void a_torn_superblock_is_written_anew(void)
{
    for (unsigned which = 0; which < 2; which++) {
        make_pool(1);
        flip(which * FRAME_BYTES + 333);
        CHECK_OK(repair());
        CHECK(plan.writes_superblock);
        CHECK_EQ(plan.gives_up_count, 0);
        check_repaired();
    }
}

/* One byte of each frame of the file, in use or not. */
static void damage_every_frame(unsigned fold_every)
{
    unsigned repaired = 0, beyond = 0, fine = 0;
    uint64_t frames;

    make_pool(fold_every);
    check_now();
    frames = result.file_bytes / FRAME_BYTES < 200 ? result.file_bytes / FRAME_BYTES : 200;
    for (uint64_t frame = 0; frame < frames; frame++) {
        int status;

        make_pool(fold_every);
        flip(frame * FRAME_BYTES + frame * 41 % 4000);
        status = repair();
        CHECK(status == 0 || (status == STATUS_DAMAGED && why.text[0] != 0));
        if (status == 0) {
            fine += !repair_is_needed(&plan);
            repaired += repair_is_needed(&plan);
            check_repaired();
        }
        beyond += status < 0;
    }
    CHECK(repaired > 10);
    tap_note("%lu damaged frames: %u pools repaired, %u beyond it, %u needed none", frames,
             repaired, beyond, fine);
}

static void what_is_called_repaired_is_whole_and_works(void)
{
    damage_every_frame(1);
    damage_every_frame(0);
}

static void a_file_cut_short_is_trimmed_to_what_is_whole(void)
{
    unsigned repaired = 0;

    for (uint64_t frames = 4000; frames > 2; frames = frames > 150 ? 150 : frames - 5) {
        int status;

        make_pool(1);
        CHECK_EQ(truncate(scratch_path("pool"), (off_t)(frames * FRAME_BYTES + 77)), 0);
        status = repair();
        CHECK(status == 0 || status == STATUS_DAMAGED);
        if (status == 0) {
            CHECK(plan.trims);
            repaired++;
            check_repaired();
        }
    }
    CHECK(repaired > 1);
    tap_note("%u files cut short repaired", repaired);
}

static void the_backup_puts_the_pool_back(void)
{
    static uint8_t before[2 * FRAME_BYTES], after[2 * FRAME_BYTES];
    uint64_t offset;
    int fd;

    make_pool(1);
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    offset = pool_generation(&pool, 2)->index_root.frame * FRAME_BYTES + 99;
    CHECK_OK(sys_pread_all(pool.fd, before, sizeof before, 0));
    pool_close(&pool);
    flip(offset);
    CHECK_OK(repair());
    CHECK_EQ(plan.gives_up_count, 1);
    CHECK_EQ(plan.gives_up[0], 2);
    fd = open(scratch_path("pool.backup"), O_RDONLY);
    CHECK_OK(sys_pread_all(fd, after, sizeof after, 0));
    close(fd);
    CHECK_EQ(memcmp(before, after, sizeof before), 0);
    fd = open(scratch_path("pool"), O_RDWR);
    CHECK_OK(sys_pwrite_all(fd, after, sizeof after, 0));
    close(fd);
    flip(offset);
    check_now();
    CHECK_EQ(result.worst, SEVERITY_NONE);
    CHECK_EQ(result.generation_count, GENERATIONS);
    flip(offset);
    CHECK_EQ(repair(), STATUS_REFUSED); /* the backup is there */
}

static void nothing_is_changed_when_nothing_would_be_left(void)
{
    make_pool(1);
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    for (uint32_t i = 0; i < GENERATIONS; i++)
        flip(pool.super.generations[i].index_root.frame * FRAME_BYTES);
    pool_close(&pool);
    CHECK_EQ(repair(), STATUS_DAMAGED);
    CHECK(access(scratch_path("pool.backup"), F_OK) != 0);
    make_pool(1);
    flip(300);
    flip(FRAME_BYTES + 300);
    CHECK_EQ(repair(), STATUS_DAMAGED);
    CHECK(access(scratch_path("pool.backup"), F_OK) != 0);
}

static void a_pool_in_use_or_a_generation_that_is_read_is_left_alone(void)
{
    struct problem unused;
    int fd;

    make_pool(1);
    CHECK_OK(scratch_reopen(&pool, &oracle, GENERATIONS, &why));
    CHECK_EQ(repair(), STATUS_IN_USE);
    pool_close(&pool);
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    flip(pool.super.generations[1].index_root.frame * FRAME_BYTES);
    CHECK_OK(fd = pool_lock_generation(&pool, 2, &unused));
    CHECK_EQ(repair(), STATUS_IN_USE);
    sys_close(fd);
    pool_close(&pool);
    CHECK(access(scratch_path("pool.backup"), F_OK) != 0);
    CHECK_OK(repair());
    check_repaired();
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_whole_pool_needs_no_repair);
    RUN(a_torn_superblock_is_written_anew);
    RUN(what_is_called_repaired_is_whole_and_works);
    RUN(a_file_cut_short_is_trimmed_to_what_is_whole);
    RUN(the_backup_puts_the_pool_back);
    RUN(nothing_is_changed_when_nothing_would_be_left);
    RUN(a_pool_in_use_or_a_generation_that_is_read_is_left_alone);
    scratch_end();
    return tap_done();
}
