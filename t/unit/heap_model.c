/*
 * heap_model.c - millions of random calls against an interval map (t/lib/heap_model.h), by one
 * thread and by several; and the map itself, against heaps with a fault.
 *
 * PHEAP_TEST_LONG=1: twenty times as many.
 */
#include <stdlib.h>
#include <string.h>
#include "core/heap/heap.h"
#include "t/lib/heap_fixture.h"
#include "t/lib/heap_model.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define STEPS 100000u
#else
#define STEPS 2000000u
#endif
#define ROUNDS 10u

static uint32_t rounds(void)
{
    const char *text = getenv("PHEAP_TEST_LONG");

    return text && strcmp(text, "1") == 0 ? ROUNDS * 20 : ROUNDS;
}

static void check_valid_and_trim(void)
{
    check_valid();
    (void)heap_trim();
    check_valid();
}

static void check_nothing_is_left(void)
{
    static struct heap_census census;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    CHECK_EQ(census.totals.live_blocks, 0);
}

static void random_calls_of_one_thread(void)
{
    struct heap_model model = {.calls = &heap_model_calls,
                               .threads = 1,
                               .rounds = rounds(),
                               .steps = STEPS / ROUNDS,
                               .blocks_max = 600,
                               .seed = 42,
                               .between = check_valid_and_trim};

    CHECK_EQ(heap_model_run(&model), 0);
    check_nothing_is_left();
}

static void random_calls_of_many_live_blocks(void)
{
    struct heap_model model = {.calls = &heap_model_calls,
                               .threads = 1,
                               .rounds = rounds(),
                               .steps = STEPS / ROUNDS / 4,
                               .blocks_max = 4096,
                               .seed = 4711,
                               .between = check_valid_and_trim};

    CHECK_EQ(heap_model_run(&model), 0);
    check_nothing_is_left();
}

static void random_calls_of_threads_that_free_each_others_blocks(void)
{
    struct heap_model model = {.calls = &heap_model_calls,
                               .threads = 4,
                               .rounds = rounds(),
                               .steps = STEPS / ROUNDS / 4,
                               .blocks_max = 1000,
                               .seed = 99,
                               .between = check_valid_and_trim};

    CHECK_EQ(heap_model_run(&model), 0);
    check_nothing_is_left();
}

/* --- the model must find these --- */

static uint32_t calls_made;

static bool now_and_then(void)
{
    return ++calls_made % 500 == 0;
}

static void *malloc_that_hands_out_twice(size_t bytes)
{
    static void *earlier;
    void *block = heap_malloc(bytes);

    if (now_and_then() && earlier)
        return earlier;
    if (bytes > 0)
        earlier = block;
    return block;
}

static void *malloc_that_is_short(size_t bytes)
{
    return heap_malloc(now_and_then() ? bytes / 2 : bytes);
}

static void *calloc_that_does_not_clear(size_t count, size_t bytes)
{
    void *block = heap_calloc(count, bytes);

    if (now_and_then() && block && bytes > 0)
        ((char *)block)[bytes - 1] = 1;
    return block;
}

/* More often than the others, because some blocks are aligned as wanted by chance. */
static void *memalign_that_does_not_align(size_t align, size_t bytes)
{
    return heap_memalign(++calls_made % 20 == 0 ? 16 : align, bytes);
}

static void *realloc_that_loses_the_end(void *block, size_t bytes)
{
    char *moved = heap_realloc(block, bytes);

    if (now_and_then() && bytes > 0)
        moved[0] = 0;
    return moved;
}

static void *malloc_that_writes_into_another_block(size_t bytes)
{
    static char *earlier;
    char *block = heap_malloc(bytes);

    if (now_and_then() && earlier && heap_usable_bytes(earlier) > 0)
        *earlier ^= 1;
    earlier = block;
    return block;
}

static void the_model_finds_the_faults_of_other_heaps(void)
{
    struct heap_calls faulty[6];
    uint32_t found = 0;

    for (uint32_t i = 0; i < 6; i++)
        faulty[i] = heap_model_calls;
    faulty[0].malloc = malloc_that_hands_out_twice;
    faulty[1].malloc = malloc_that_is_short;
    faulty[2].calloc = calloc_that_does_not_clear;
    faulty[3].memalign = memalign_that_does_not_align;
    faulty[4].realloc = realloc_that_loses_the_end;
    faulty[5].malloc = malloc_that_writes_into_another_block;
    for (uint32_t i = 0; i < 6; i++) {
        struct heap_model model = {.calls = &faulty[i],
                                   .threads = 1,
                                   .rounds = 1,
                                   .steps = 20000,
                                   .blocks_max = 300,
                                   .seed = i};

        if (CHECK(heap_model_run(&model) > 0))
            found++;
    }
    tap_note("%u of 6 faulty heaps were found out", found);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(random_calls_of_one_thread);
    RUN(random_calls_of_many_live_blocks);
    RUN(random_calls_of_threads_that_free_each_others_blocks);
    RUN(the_model_finds_the_faults_of_other_heaps);
    return tap_done();
}
