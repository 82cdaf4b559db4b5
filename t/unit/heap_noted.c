/*
 * heap_noted.c - a thread that clears out: free bits instead of links, and back.
 */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/noted.h"
#include "t/lib/heap_fixture.h"
#include "t/lib/heap_misuse.h"

#define BYTES  64
#define BLOCKS (100u * (SLICE_BYTES / BYTES)) /* 100 slabs */

static uint64_t *blocks[BLOCKS];

static uint64_t live_blocks(void)
{
    static struct heap_census census;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    return census.totals.live_blocks;
}

static uint64_t content_of(const uint64_t *block)
{
    return (uint64_t)block * 0x9e3779b97f4a7c15;
}

static void fill(void)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        blocks[i] = heap_malloc(BYTES);
        blocks[i][0] = content_of(blocks[i]);
    }
    for (uint32_t i = BLOCKS; i > 1; i--) {
        uint32_t other = (uint32_t)rand() % i;
        uint64_t *block = blocks[i - 1];

        blocks[i - 1] = blocks[other];
        blocks[other] = block;
    }
}

static void free_from(uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        heap_free(blocks[i]);
}

static bool is_noted(const uint64_t *block)
{
    const struct span *slab = heap_block_span(block);

    return slab->flags & SLAB_NOTED && slab_bit_is_set(heap_here(), slab, block);
}

static void blocks_are_noted_and_not_touched(void)
{
    uint64_t before = live_blocks();
    uint32_t noted = 0, touched = 0;

    fill();
    free_from(0, BLOCKS / 10 * 9);
    check_valid();
    CHECK(noted_is_clearing());
    CHECK(is_noted(blocks[0])); /* it was in a list */
    for (uint32_t i = 0; i < BLOCKS / 10 * 9; i++)
        if (is_noted(blocks[i])) {
            noted++;
            touched += i > BLOCKS / 100 && blocks[i][0] != content_of(blocks[i]);
        }
    CHECK(noted > BLOCKS / 10 * 8);
    CHECK_EQ(touched, 0);
    CHECK_EQ(live_blocks(), before + BLOCKS / 10);
    free_from(BLOCKS / 10 * 9, BLOCKS);
    CHECK_EQ(live_blocks(), before);
    check_valid();
}

/* What survives keeps its content; nothing is handed out twice. */
static void noted_blocks_are_handed_out_again_in_ascending_order(void)
{
    uint32_t freed = BLOCKS / 4 * 3, descents = 0, in_use = 0;
    uint64_t before = live_blocks();

    fill();
    free_from(0, freed);
    for (uint32_t i = 0; i < freed; i++) {
        blocks[i] = heap_malloc(BYTES);
        in_use += blocks[i][1] == 0x5eed;
        blocks[i][1] = 0x5eed;
        descents += i > 0 && blocks[i] < blocks[i - 1] &&
                    heap_block_span(blocks[i]) == heap_block_span(blocks[i - 1]);
    }
    CHECK(!noted_is_clearing());
    CHECK(descents < freed / 20);
    CHECK_EQ(in_use, 0);
    check_valid();
    for (uint32_t i = freed; i < BLOCKS; i++)
        CHECK(blocks[i][0] == content_of(blocks[i]));
    for (uint32_t i = 0; i < freed; i++)
        blocks[i][1] = 0;
    free_from(0, BLOCKS);
    CHECK_EQ(live_blocks(), before);
    check_valid();
}

static void *free_a_third(void *unused)
{
    free_from(0, BLOCKS / 3);
    heap_thread_exit();
    return unused;
}

static void others_free_blocks_of_noted_slabs(void)
{
    uint64_t before = live_blocks();
    pthread_t thread;

    fill();
    free_from(BLOCKS / 3 * 2, BLOCKS);
    CHECK(noted_is_clearing());
    if (!CHECK_EQ(pthread_create(&thread, NULL, free_a_third, NULL), 0))
        return;
    pthread_join(thread, NULL);
    check_valid();
    free_from(BLOCKS / 3, BLOCKS / 3 * 2);
    CHECK_EQ(live_blocks(), before);
    fill();
    check_valid();
    free_from(0, BLOCKS);
    CHECK_EQ(live_blocks(), before);
    check_valid();
}

/* --- misuse --- */

/* What was freed first was in a list before and has a mark still: not from 0 on. */
static uint64_t *one_that_is(bool (*property)(const uint64_t *block), uint32_t first)
{
    for (uint32_t i = first; i < BLOCKS; i++)
        if (property(blocks[i]))
            return blocks[i];
    _exit(3);
}

static bool is_in_a_noted_slab(const uint64_t *block)
{
    return heap_block_span(block)->flags & SLAB_NOTED;
}

static void *free_one(void *block)
{
    heap_free(heap_malloc(1)); /* a thread heap of its own */
    heap_free(block);
    return NULL;
}

static void in_another_thread(void *block)
{
    pthread_t thread;

    pthread_create(&thread, NULL, free_one, block);
    pthread_join(thread, NULL);
}

static void double_free_of_a_noted_block(void)
{
    fill();
    free_from(0, BLOCKS / 2);
    heap_free(one_that_is(is_noted, BLOCKS / 4));
}

static void double_free_when_no_longer_clearing(void)
{
    fill();
    free_from(0, BLOCKS / 2);
    (void)heap_malloc(7000);
    heap_free(one_that_is(is_noted, BLOCKS / 4));
}

static void double_free_of_what_was_in_a_list(void)
{
    fill();
    free_from(0, BLOCKS / 2);
    heap_free(blocks[0]);
}

static void double_free_of_a_noted_block_by_another_thread(void)
{
    fill();
    free_from(0, BLOCKS / 2);
    in_another_thread(one_that_is(is_noted, BLOCKS / 4));
}

static void double_free_of_what_another_thread_has_freed(void)
{
    uint64_t *block;

    fill();
    free_from(0, BLOCKS / 2);
    block = one_that_is(is_in_a_noted_slab, BLOCKS / 2);
    in_another_thread(block);
    heap_free(block);
}

static void free_inside_a_block_while_clearing(void)
{
    fill();
    free_from(0, BLOCKS / 2);
    heap_free(&blocks[BLOCKS - 1][2]);
}

static void misuse_is_reported_as_ever(void)
{
    static const struct heap_misuse cases[] = {
        {double_free_of_a_noted_block, "pheap: double free of 0x"},
        {double_free_when_no_longer_clearing, "pheap: double free of 0x"},
        {double_free_of_what_was_in_a_list, "pheap: double free of 0x"},
        {double_free_of_a_noted_block_by_another_thread, "pheap: double free of 0x"},
        {double_free_of_what_another_thread_has_freed, "pheap: double free of 0x"},
        {free_inside_a_block_while_clearing, "not the start of a block; the slab at 0x"},
    };

    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    srand(5);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(misuse_is_reported_as_ever);
    RUN(blocks_are_noted_and_not_touched);
    RUN(noted_blocks_are_handed_out_again_in_ascending_order);
    RUN(others_free_blocks_of_noted_slabs);
    return tap_done();
}
