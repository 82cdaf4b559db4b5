/*
 * heap_inbox_misuse.c - double frees of blocks that are on their way to their owners, and other
 * frees by other threads that are none.
 */
#include "t/lib/heap_misuse.h"
#include "t/lib/inbox_fixture.h"
#include "t/lib/tap.h"

static void *free_both_and_end(void *unused)
{
    heap_free(heap_malloc(1));
    free_by_batch(blocks[0]);
    heap_thread_exit();
    return unused;
}

static void double_free_on_its_way(void)
{
    allocate(1);
    in_another_thread(free_both_and_end, NULL);
    in_another_thread(free_both_and_end, NULL);
    inbox_take(heap_thread);
}

static void double_free_by_owner_first(void)
{
    allocate(1);
    heap_free(blocks[0]);
    in_another_thread(free_both_and_end, NULL);
    inbox_take(heap_thread);
}

static void double_free_by_owner_last(void)
{
    allocate(1);
    in_another_thread(free_both_and_end, NULL);
    heap_free(blocks[0]);
    heap_trim();
}

static void *allocate_and_leave(void *unused)
{
    allocate(4000);
    heap_thread_exit();
    return unused;
}

/* Its owner has ended: nobody takes it, it goes to its slab. */
static void double_free_of_a_dead_owners(void)
{
    in_another_thread(allocate_and_leave, NULL);
    free_blocks(0, 2000);
    free_by_batch(blocks[1500]);
    free_blocks(2001, 2100);
}

static void double_free_in_one_batch_of_a_dead_owners(void)
{
    in_another_thread(allocate_and_leave, NULL);
    free_by_batch(blocks[10]);
    free_by_batch(blocks[10]);
    remote_post(heap_here(), heap_thread);
}

static void *free_and_free_again(void *unused)
{
    heap_free(heap_malloc(1));
    free_blocks(0, BLOCKS - 1000);
    free_by_batch(blocks[BLOCKS - 1500]);
    free_blocks(BLOCKS - 1000, BLOCKS - 900);
    heap_thread_exit();
    return unused;
}

static void double_free_past_a_full_inbox(void)
{
    allocate(BLOCKS);
    in_another_thread(free_and_free_again, NULL);
}

static void inside_a_block(void)
{
    allocate(2);
    blocks[0] = (char *)blocks[1] + 8;
    in_another_thread(free_both_and_end, NULL);
}

static void misuse_is_reported_when_the_owner_takes(void)
{
    static const struct heap_misuse cases[] = {
        {double_free_on_its_way, "pheap: double free of 0x"},
        {double_free_by_owner_first, "pheap: double free of 0x"},
        {double_free_by_owner_last, "pheap: double free of 0x"},
        {double_free_of_a_dead_owners, "pheap: double free of 0x"},
        {double_free_in_one_batch_of_a_dead_owners, "pheap: double free of 0x"},
        {double_free_past_a_full_inbox, "pheap: double free of 0x"},
        {inside_a_block, "not the start of a block; the slab at 0x"},
    };

    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1)); /* a thread heap for the main thread */
    RUN(misuse_is_reported_when_the_owner_takes);
    return tap_done();
}
