/*
 * recovery_copy.c - pools copied: every generation in the copy is what it was in the pool, what
 * generations share they go on sharing, and a pool that is not whole is not copied.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "recovery/check/check.h"
#include "recovery/copy/copy.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

static struct pool pool;
static struct oracle oracle;
static struct problem why;

/* Open for writing. */
static void make_pool(unsigned fold_every, unsigned generations)
{
    scratch_pool(&pool, &oracle, 4);
    oracle.fold_every = fold_every;
    for (unsigned i = 0; i < generations; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, i * 7 % 40, i == 0 ? 40 : 6, 100 * (i + 1)));
        CHECK_OK(oracle_zero(&oracle, &pool, i));
        CHECK_OK(oracle_clear(&oracle, &pool, i + 10));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, i == 1 ? GENERATION_PINNED : 0,
                               i % 2 ? 0 : 5000, &why));
    }
}

static int copy_to(const char *name, bool replaces, bool new_identity, uint64_t *bytes)
{
    const struct copy_request request = {.pool = &pool,
                                         .to = scratch_path(name),
                                         .replaces = replaces,
                                         .new_identity = new_identity};

    why = (struct problem){0};
    return pool_copy(&request, bytes, &why);
}

static void ignore(void *context, const struct finding *finding)
{
    (void)context;
    tap_note("%s: expected %s, found %s", finding_id(finding->kind), finding->expected,
             finding->found);
}

static void check_is_fine(const char *name)
{
    const struct check_request request = {.path = scratch_path(name), .found = ignore};
    struct check_result result;

    CHECK_OK(check_pool(&request, &result, &why));
    CHECK_EQ(result.worst, SEVERITY_NONE);
}

/* The copy holds what the oracle knows, and a writer goes on with it. */
static void check_copy(const char *name, unsigned generations)
{
    static struct pool copy;
    char text[256] = "";

    check_is_fine(name);
    CHECK_OK(pool_open(&copy, scratch_path(name), POOL_WRITE, &why));
    CHECK_EQ(copy.super.generation_count, pool.super.generation_count);
    CHECK_EQ(copy.super.next_generation, pool.super.next_generation);
    for (uint32_t i = 0; i < copy.super.generation_count; i++) {
        const struct generation_entry *entry = &copy.super.generations[i];

        CHECK_EQ(entry->flags, pool.super.generations[i].flags);
        CHECK_EQ(entry->time_ns, pool.super.generations[i].time_ns);
        if (!oracle_agrees(&oracle, &copy, entry, &scratch_arena, text))
            CHECK_STR(text, "");
    }
    CHECK_OK(pool_load(&copy, &scratch_arena, generations, &why));
    oracle_start_from(&oracle, generations);
    CHECK_OK(oracle_write(&oracle, &copy, 0, 48, 9000));
    CHECK_OK(oracle_commit(&oracle, &copy, GENERATION_HEAP, 0, 100, &why));
    pool_close(&copy);
    check_is_fine(name);
}

static void a_copy_is_the_pool_without_what_nobody_needs(void)
{
    for (unsigned fold_every = 0; fold_every < 3; fold_every++)
        for (unsigned generations = 1; generations < 10; generations += 2) {
            uint64_t bytes = 0;

            make_pool(fold_every, generations);
            unlink(scratch_path("copy"));
            CHECK_OK(copy_to("copy", false, false, &bytes));
            CHECK_STR(why.text, "");
            CHECK(bytes < 200 * FRAME_BYTES);
            check_copy("copy", generations);
            pool_close(&pool);
        }
}

static void an_empty_pool_can_be_copied(void)
{
    uint64_t bytes = 0;

    make_pool(1, 0);
    unlink(scratch_path("copy"));
    CHECK_OK(copy_to("copy", false, false, &bytes));
    CHECK_EQ(bytes, 2 * FRAME_BYTES);
    check_is_fine("copy");
    pool_close(&pool);
}

static void a_copy_in_the_place_of_the_pool_keeps_its_identity_and_a_clone_does_not(void)
{
    static struct pool clone;
    uint64_t bytes = 0;

    make_pool(0, 6);
    unlink(scratch_path("copy"));
    CHECK_OK(copy_to("copy", false, true, &bytes));
    CHECK_OK(pool_open(&clone, scratch_path("copy"), POOL_READ, &why));
    CHECK(memcmp(clone.super.uuid, pool.super.uuid, 16) != 0);
    CHECK_EQ(clone.super.slot, pool.super.slot);
    pool_close(&clone);
    CHECK_OK(copy_to("pool", true, false, &bytes));
    CHECK_OK(pool_open(&clone, scratch_path("pool"), POOL_READ, &why));
    CHECK(memcmp(clone.super.uuid, pool.super.uuid, 16) == 0);
    pool_close(&clone);
    check_copy("pool", 6);
    pool_close(&pool);
}

static void a_file_that_exists_is_not_touched(void)
{
    uint64_t bytes = 0;
    int fd;

    make_pool(1, 2);
    unlink(scratch_path("copy"));
    fd = open(scratch_path("copy"), O_CREAT | O_WRONLY, 0600);
    CHECK_EQ(write(fd, "precious", 8), 8);
    close(fd);
    CHECK_EQ(copy_to("copy", false, false, &bytes), STATUS_REFUSED);
    CHECK(strstr(why.text, "exists") != NULL);
    unlink(scratch_path("copy"));
    pool_close(&pool);
}

static void a_damaged_pool_is_not_copied_and_no_file_is_left(void)
{
    char temporary[160];
    uint64_t bytes = 0, offset;
    uint8_t byte;

    make_pool(1, 3);
    offset = pool_generation(&pool, 2)->index_root.frame * FRAME_BYTES + 9;
    CHECK_OK(sys_pread_all(pool.fd, &byte, 1, offset));
    byte ^= 4;
    CHECK_OK(sys_pwrite_all(pool.fd, &byte, 1, offset));
    CHECK_EQ(copy_to("copy", false, false, &bytes), STATUS_DAMAGED);
    CHECK(why.text[0] != 0);
    CHECK(access(scratch_path("copy"), F_OK) != 0);
    snprintf(temporary, sizeof temporary, "%s.copy-%d", scratch_path("copy"), getpid());
    CHECK(access(temporary, F_OK) != 0);
    pool_close(&pool);
}

static void too_little_space_is_seen_before_anything_is_written(void)
{
    struct copy_request request = {.to = scratch_path("copy"), .needed_bytes = 1ull << 60};
    uint64_t bytes = 0;

    make_pool(1, 3);
    request.pool = &pool;
    CHECK_EQ(pool_copy(&request, &bytes, &why), -ENOSPC);
    CHECK(strstr(why.text, "free") != NULL);
    CHECK(access(scratch_path("copy"), F_OK) != 0);
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_copy_is_the_pool_without_what_nobody_needs);
    RUN(an_empty_pool_can_be_copied);
    RUN(a_copy_in_the_place_of_the_pool_keeps_its_identity_and_a_clone_does_not);
    RUN(a_file_that_exists_is_not_touched);
    RUN(a_damaged_pool_is_not_copied_and_no_file_is_left);
    RUN(too_little_space_is_seen_before_anything_is_written);
    scratch_end();
    return tap_done();
}
