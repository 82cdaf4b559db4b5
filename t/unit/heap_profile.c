/*
 * heap_profile.c - sampled allocations: as many as there should be whatever the calls' order, each
 * with its stack until it is freed, and none that anybody else pays for.
 */
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/profile.h"
#include "t/lib/tap.h"

#define RATE_BYTES 4096
#define BLOCKS     40000

static __thread uint64_t site; /* what the walker says the caller is */

static uint32_t walk(uint64_t *frames, uint32_t most)
{
    /* An unwinder may allocate: never sampled, never an endless recursion. */
    heap_free(heap_malloc(64));
    (void)most;
    frames[0] = site;
    frames[1] = 1;
    return 2;
}

static const struct profile *profile(void)
{
    return heap_profile(heap_here());
}

static const struct profile_sample *samples(void)
{
    return (const struct profile_sample *)profile()->samples.start;
}

static uint64_t site_of(const struct profile_sample *sample)
{
    return ((const struct profile_stack *)profile()->stacks.start)[sample->stack - 1].frames[0];
}

/* Bytes and blocks of a site that are live, by the samples. */
static double estimate(uint64_t wanted, double *blocks)
{
    double bytes = 0;

    *blocks = 0;
    for (uint32_t i = 0; i < profile()->sample_count; i++) {
        double chance = 1 - exp(-(double)samples()[i].bytes / RATE_BYTES);

        if (samples()[i].address == 0 || site_of(&samples()[i]) != wanted)
            continue;
        bytes += (double)samples()[i].bytes / chance;
        *blocks += 1 / chance;
    }
    return bytes;
}

static void *allocate_at(uint64_t where, size_t bytes)
{
    void *block = NULL;

    site = where;
    block = counted_malloc(heap_thread, bytes); /* as preload/malloc.c does */
    if (block == NULL)
        block = heap_malloc(bytes);
    return block;
}

static void check_near(double found, double expected, double samples_expected)
{
    double allowed = 5 * expected / sqrt(samples_expected); /* five standard deviations */

    if (!CHECK(fabs(found - expected) < allowed))
        tap_note("estimated %.0f, allocated %.0f, allowed %.0f", found, expected, allowed);
}

static void *kept[BLOCKS];

/* A block that lives, and one that is freed at once, in turns: a sampler that looks only when a
 * free list is empty would find the second kind alone. */
static void what_lives_is_estimated_beside_what_is_freed_at_once(void)
{
    double blocks, bytes;

    for (int i = 0; i < BLOCKS; i++) {
        kept[i] = allocate_at(100, 64);
        heap_free(allocate_at(200, 64));
    }
    bytes = estimate(100, &blocks);
    check_near(bytes, BLOCKS * 64, BLOCKS * 64 / RATE_BYTES);
    check_near(blocks, BLOCKS, BLOCKS * 64 / RATE_BYTES);
    CHECK_EQ(estimate(200, &blocks), 0);
    CHECK(profile()->taken > BLOCKS * 64 / RATE_BYTES * 3 / 2); /* of both */
    for (int i = 0; i < BLOCKS; i++)
        heap_free(kept[i]);
    CHECK_EQ(estimate(100, &blocks), 0);
    CHECK_EQ(profile()->live, 0);
    CHECK(heap_is_valid(NULL));
}

static void *free_all(void *unused)
{
    for (int i = 0; i < BLOCKS; i++)
        heap_free(kept[i]);
    heap_thread_exit();
    return unused;
}

static void another_thread_frees_them(void)
{
    pthread_t other;

    for (int i = 0; i < BLOCKS; i++)
        kept[i] = allocate_at(300, 80);
    CHECK(profile()->live > 0);
    pthread_create(&other, NULL, free_all, NULL);
    pthread_join(other, NULL);
    CHECK_EQ(profile()->live, 0);
    CHECK(heap_is_valid(NULL));
}

static void *allocate_many(void *place)
{
    void **blocks = place;

    for (int i = 0; i < BLOCKS / 4; i++)
        blocks[i] = allocate_at(400, 48);
    heap_thread_exit();
    return NULL;
}

static void every_thread_is_sampled(void)
{
    pthread_t others[4];
    double blocks;

    for (int i = 0; i < 4; i++)
        pthread_create(&others[i], NULL, allocate_many, kept + i * (BLOCKS / 4));
    for (int i = 0; i < 4; i++)
        pthread_join(others[i], NULL);
    check_near(estimate(400, &blocks), BLOCKS * 48, BLOCKS * 48 / RATE_BYTES);
    (void)free_all(NULL);
    CHECK_EQ(profile()->live, 0);
}

static void a_block_larger_than_the_distance_is_always_sampled_once(void)
{
    double blocks;
    void *block;

    for (int i = 0; i < 20; i++) {
        block = allocate_at(500, 64 * RATE_BYTES + (size_t)i * 4096);
        CHECK_EQ(profile()->live, 1);
        CHECK_EQ(estimate(500, &blocks), 64 * RATE_BYTES + i * 4096);
        heap_free(block);
        CHECK_EQ(profile()->live, 0);
    }
}

static void realloc_takes_the_sample_along(void)
{
    double blocks;
    void *block = allocate_at(600, 300000);

    site = 601;
    block = heap_realloc(block, 310000);
    CHECK_EQ(profile()->live, 1);
    CHECK_EQ(estimate(600, &blocks) + estimate(601, &blocks), 310000);
    block = heap_realloc(block, 3000000);
    CHECK_EQ(profile()->live, 1);
    CHECK_EQ(estimate(600, &blocks) + estimate(601, &blocks), 3000000);
    heap_free(heap_realloc(block, 10));
    CHECK_EQ(profile()->live, 0);
}

static void calloc_and_memalign_are_sampled_too(void)
{
    double blocks;

    site = 700;
    for (int i = 0; i < 2000; i++) {
        char *block = kept[i] = heap_calloc(1, 200);

        for (int at = 0; at < 200; at++)
            if (block[at] != 0) {
                CHECK(!"calloc gives zeroes");
                break;
            }
        memset(block, 1, 200);
        kept[2000 + i] = heap_memalign(256, 200);
        CHECK_EQ((uint64_t)kept[2000 + i] % 256, 0);
    }
    check_near(estimate(700, &blocks), 4000 * 200, 4000 * 200 / RATE_BYTES);
    for (int i = 0; i < 4000; i++)
        heap_free(kept[i]);
    CHECK_EQ(profile()->live, 0);
}

static void a_forked_child_goes_on_by_itself(void)
{
    uint32_t live;
    int status = -1;
    pid_t child;

    for (int i = 0; i < BLOCKS; i++)
        kept[i] = allocate_at(800, 64);
    live = profile()->live;
    heap_fork_prepare();
    child = fork();
    if (child == 0) {
        heap_fork_child();
        for (int i = 0; i < BLOCKS; i++)
            heap_free(kept[i]);
        _exit(profile()->live == 0 && heap_is_valid(NULL) ? 0 : 1);
    }
    heap_fork_parent();
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
    CHECK_EQ(profile()->live, live);
    for (int i = 0; i < BLOCKS; i++)
        heap_free(kept[i]);
    CHECK_EQ(profile()->live, 0);
}

static void the_fast_paths_serve_nothing_unseen(void)
{
    heap_free(heap_malloc(64));
    CHECK(fast_malloc(heap_thread, 64) == NULL);
    CHECK_EQ(heap_thread->medium_limit, 0);
    CHECK_EQ(profile()->lost, 0);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_profile_reserve();
    CHECK_OK(heap_start(SLOT_VOLATILE));
    CHECK_OK(heap_profile_start(RATE_BYTES, walk));
    RUN(what_lives_is_estimated_beside_what_is_freed_at_once);
    RUN(another_thread_frees_them);
    RUN(every_thread_is_sampled);
    RUN(a_block_larger_than_the_distance_is_always_sampled_once);
    RUN(realloc_takes_the_sample_along);
    RUN(calloc_and_memalign_are_sampled_too);
    RUN(a_forked_child_goes_on_by_itself);
    RUN(the_fast_paths_serve_nothing_unseen);
    return tap_done();
}
