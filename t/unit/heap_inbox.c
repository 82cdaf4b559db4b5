/*
 * heap_inbox.c - blocks that another thread frees: into the owner's inbox and out of it, when it is
 * full, when a writer stops half-way, when many write at once. What ends and forks do:
 * heap_inbox_ends.c.
 */
#include "t/lib/inbox_fixture.h"
#include "t/lib/tap.h"

static void what_another_thread_frees_waits_in_the_owners_inbox(void)
{
    uint64_t before = live_blocks();

    allocate(1000);
    freed_by_another(0, 999);
    CHECK_EQ(waiting(), 999);
    CHECK_EQ(live_blocks(), before + 1);
    for (uint32_t i = 0; i < 999; i++)
        CHECK(inbox_has(heap_thread, blocks[i]) &&
              !slab_looks_free(heap_block_span(blocks[i]), blocks[i]));
    CHECK(!inbox_has(heap_thread, blocks[999]));
    CHECK(is_valid());
    inbox_take(heap_thread);
    CHECK_EQ(waiting(), 0);
    for (uint32_t i = 0; i < 999; i++)
        CHECK(slab_looks_free(heap_block_span(blocks[i]), blocks[i]));
    heap_free(blocks[999]);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

static void malloc_takes_from_it_when_a_list_is_empty(void)
{
    uint64_t before = live_blocks();
    uint32_t taken = 0;

    allocate(2000);
    freed_by_another(0, 2000);
    CHECK_EQ(waiting(), 2000);
    while (waiting() > 0 && taken < BLOCKS)
        blocks[taken++] = heap_malloc(16);
    CHECK_EQ(waiting(), 0);
    CHECK(taken <= SLICE_BYTES / 16 + 1); /* no more than the slab had */
    CHECK_EQ(live_blocks(), before + taken);
    while (taken > 0)
        heap_free(blocks[--taken]);
    CHECK(is_valid());
}

static void what_finds_no_room_goes_to_its_slab(void)
{
    uint64_t before = live_blocks();

    allocate(BLOCKS);
    freed_by_another(0, BLOCKS);
    CHECK(waiting() <= INBOX_BLOCKS && waiting() > INBOX_BLOCKS - REMOTE_BATCH_BLOCKS);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
    heap_trim();
    CHECK_EQ(waiting(), 0);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

static void *free_as_programs_do(void *unused)
{
    heap_free(heap_malloc(1));
    for (uint32_t i = 0; i < 1000; i++)
        heap_free(blocks[i]);
    heap_thread_exit();
    return unused;
}

/* 256, or as many again where an epoch begins meanwhile. */
static void a_threads_first_ones_go_to_their_slabs_at_once(void)
{
    uint64_t before = live_blocks();

    allocate(1000);
    in_another_thread(free_as_programs_do, NULL);
    CHECK(waiting() <= 1000 - REMOTE_SINGLES_AN_EPOCH);
    for (uint32_t i = 0; i < REMOTE_SINGLES_AN_EPOCH; i++)
        CHECK(slab_looks_free(heap_block_span(blocks[i]), blocks[i]));
    CHECK_EQ(live_blocks(), before);
    heap_trim();
    CHECK(is_valid());
}

/* The few of each round leave the ring where it is, so that the many of the next one go over its
 * end. */
static void the_ring_goes_round(void)
{
    uint64_t before = live_blocks(), begun = heap_thread->inbox_taken;

    for (int round = 0; round < 10; round++) {
        uint32_t count = round % 2 ? 4000 : 400;

        allocate(count);
        freed_by_another(0, count);
        CHECK_EQ(waiting(), count);
        CHECK(is_valid());
        inbox_take(heap_thread);
        CHECK(is_valid());
    }
    CHECK(heap_thread->inbox_taken - begun >= 5 * 4400);
    CHECK_EQ(live_blocks(), before);
}

static void an_empty_ring_begins_anew(void)
{
    allocate(2000);
    freed_by_another(0, 1000);
    inbox_take(heap_thread);
    CHECK_EQ(heap_thread->inbox_taken % INBOX_BLOCKS, 0);
    CHECK_EQ(heap_thread->inbox_reserved, heap_thread->inbox_taken);
    freed_by_another(1000, 1600);
    heap_thread->inbox_reserved++; /* a writer that has not filled its place: it is not empty */
    inbox_take(heap_thread);
    CHECK_EQ(heap_thread->inbox_taken % INBOX_BLOCKS, 600);
    inbox_close_gaps(heap_thread);
    inbox_take(heap_thread);
    CHECK_EQ(heap_thread->inbox_taken % INBOX_BLOCKS, 0);
    free_blocks(1600, 2000);
    CHECK(is_valid());
}

/* --- writers that stop --- */

static void nobody_waits_for_a_writer_that_has_stopped(void)
{
    uint64_t before = live_blocks();

    allocate(200);
    freed_by_another(0, 50);
    heap_thread->inbox_reserved += 3; /* and does not fill them */
    freed_by_another(50, 100);
    inbox_take(heap_thread);
    CHECK_EQ(waiting(), 3 + 50);
    CHECK_EQ(live_blocks(), before + 100);
    inbox_close_gaps(heap_thread);
    CHECK(is_valid());
    inbox_take(heap_thread);
    CHECK_EQ(waiting(), 0);
    free_blocks(100, 200);
    CHECK_EQ(live_blocks(), before);
    CHECK(is_valid());
}

/* --- many at once --- */

#define WRITERS 4

static void *free_a_quarter(void *argument)
{
    uint32_t quarter = *(uint32_t *)argument;

    heap_free(heap_malloc(1));
    for (uint32_t i = quarter; i < BLOCKS; i += WRITERS)
        free_by_batch(blocks[i]);
    heap_thread_exit();
    return NULL;
}

static void many_write_while_the_owner_takes(void)
{
    uint64_t before = live_blocks();
    uint32_t quarters[WRITERS];
    pthread_t threads[WRITERS];

    for (int round = 0; round < 20; round++) {
        allocate(BLOCKS);
        for (uint32_t i = 0; i < WRITERS; i++) {
            quarters[i] = i;
            if (!CHECK_EQ(pthread_create(&threads[i], NULL, free_a_quarter, &quarters[i]), 0))
                return;
        }
        for (int i = 0; i < 100; i++)
            inbox_take(heap_thread);
        for (uint32_t i = 0; i < WRITERS; i++)
            pthread_join(threads[i], NULL);
        inbox_take(heap_thread);
        CHECK_EQ(waiting(), 0);
        CHECK(is_valid());
        CHECK_EQ(live_blocks(), before);
    }
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1)); /* a thread heap for the main thread */
    RUN(what_another_thread_frees_waits_in_the_owners_inbox);
    RUN(malloc_takes_from_it_when_a_list_is_empty);
    RUN(what_finds_no_room_goes_to_its_slab);
    RUN(a_threads_first_ones_go_to_their_slabs_at_once);
    RUN(the_ring_goes_round);
    RUN(an_empty_ring_begins_anew);
    RUN(nobody_waits_for_a_writer_that_has_stopped);
    RUN(many_write_while_the_owner_takes);
    return tap_done();
}
