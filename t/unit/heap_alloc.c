/*
 * heap_alloc.c - the calls of heap.h: zeroing, realloc, the census, misuse, fork.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/misuse.h"
#include "t/lib/heap_fixture.h"
#include "t/lib/heap_misuse.h"

static bool all_bytes_are(const unsigned char *start, size_t bytes, unsigned char value)
{
    return bytes == 0 || (start[0] == value && memcmp(start, start + 1, bytes - 1) == 0);
}

static void a_heap_without_a_block_is_counted(void)
{
    static struct heap_census census;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    CHECK_EQ(census.totals.live_blocks, 0);
    CHECK_EQ(census.totals.committed_bytes, 0);
    check_valid();
}

static void the_census_counts_what_was_handed_out(void)
{
    static struct heap_census before, after;
    void *blocks[100];

    CHECK_OK(heap_census(heap_slot(), &before, NULL));
    for (int i = 0; i < 100; i++)
        blocks[i] = heap_malloc(i < 90 ? 200 : 1000000);
    CHECK_OK(heap_census(heap_slot(), &after, NULL));
    CHECK_EQ(after.totals.live_blocks - before.totals.live_blocks, 100);
    CHECK_EQ(after.totals.live_bytes - before.totals.live_bytes, 90 * 208 + 10 * 1003520);
    CHECK_EQ(after.large_blocks - before.large_blocks, 10);
    CHECK_EQ(after.classes[size_class_of(200)].blocks_used -
                 before.classes[size_class_of(200)].blocks_used,
             90);
    CHECK_EQ(after.thread_heaps, 1);
    for (int i = 0; i < 100; i++)
        heap_free(blocks[i]);
    CHECK_OK(heap_census(heap_slot(), &after, NULL));
    CHECK_EQ(after.totals.live_blocks, before.totals.live_blocks);
}

/* Damages one field after another of header and descriptors; the walk must come back. */
static void the_census_survives_damaged_descriptors(void)
{
    static struct heap_census census;
    struct heap *heap = heap_here();
    void *block = heap_malloc(100), *large = heap_malloc(1 << 20);
    struct span *spans[2] = {heap_block_span(block), heap_block_span(large)};
    uint32_t slot = heap->slot;
    int damaged = 0;

    for (int which = 0; which < 2; which++)
        for (size_t i = 0; i < sizeof(struct span); i++)
            for (int bit = 0; bit < 8; bit++) {
                struct problem why = {0};
                unsigned char *byte = (unsigned char *)spans[which] + i;

                *byte ^= (unsigned char)(1 << bit);
                damaged += heap_census(slot, &census, &why) == STATUS_DAMAGED;
                *byte ^= (unsigned char)(1 << bit);
            }
    CHECK(damaged > 100);
    for (size_t i = 0; i < 512; i++) {
        struct problem why = {0};
        unsigned char *byte = (unsigned char *)heap + i, old = *byte;

        *byte = (unsigned char)~old;
        (void)!heap_census(slot, &census, &why);
        *byte = old;
    }
    CHECK_OK(heap_census(slot, &census, NULL));
    heap_free(block);
    heap_free(large);
}

static void calloc_of_reused_memory_is_zero(void)
{
    static const size_t sizes[] = {16, 100, 1000, 5000, 60000, 70000, 1000000, 20000000};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *block = heap_malloc(sizes[i]);

        memset(block, 0xee, sizes[i]);
        heap_free(block);
        block = heap_calloc(sizes[i], 1);
        CHECK(all_bytes_are(block, sizes[i], 0));
        heap_free(block);
    }
    check_valid();
}

static void a_large_block_grows_in_place_when_it_can(void)
{
    unsigned char *block = heap_malloc(10 << 20), *grown;

    memset(block, 7, 10 << 20);
    grown = heap_realloc(block, 30 << 20);
    CHECK(all_bytes_are(grown, 10 << 20, 7));
    block = heap_realloc(grown, 12 << 20);
    CHECK(block == grown);
    CHECK_EQ(heap_usable_bytes(block), 12 << 20);
    grown = heap_realloc(block, 29 << 20);
    CHECK(grown == block);
    CHECK(all_bytes_are(grown, 10 << 20, 7));
    heap_free(grown);
    check_valid();
}

static void sizes_that_cannot_be_are_refused(void)
{
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1, SIZE_MAX, SIZE_MAX - 15, SLOT_BYTES};
    void *block = heap_malloc(100);

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK(heap_malloc(sizes[i]) == NULL);
        CHECK(heap_calloc(1, sizes[i]) == NULL);
        CHECK(heap_calloc(sizes[i], 2) == NULL);
        CHECK(heap_memalign(64, sizes[i]) == NULL);
        CHECK(heap_memalign(1 << 20, sizes[i]) == NULL);
        CHECK(heap_realloc(block, sizes[i]) == NULL);
    }
    CHECK(heap_memalign((size_t)2 << 30, 1) == NULL);
    CHECK_EQ(heap_usable_bytes(block), 112);
    heap_free(block);
    check_valid();
}

static void pointers_that_are_not_ours_are_left_alone(void)
{
    int local = 5;

    heap_free(&local);
    heap_free(NULL);
    CHECK_EQ(local, 5);
    CHECK_EQ(heap_usable_bytes(&local), 0);
    CHECK_EQ(heap_usable_bytes(NULL), 0);
    CHECK(!heap_owns(&local));
}

/* An address outside the slot whose descriptor, as free() computes it, is that of the block's
 * slab. */
static void *namesake_of(const void *block)
{
    uint64_t period = (heap_span_mask / sizeof(struct span) + 1) << SLICE_SHIFT;

    return (void *)((uintptr_t)block - (SLOT_BYTES + period - 1) / period * period);
}

static void *make_one(void *out)
{
    *(void **)out = heap_malloc(64);
    return NULL; /* its thread heap stays as it is: heap_thread_exit() is not called */
}

static void a_foreign_pointer_is_no_block_of_another_thread_s_slab(void)
{
    void *theirs = NULL, *foreign;
    pthread_t thread;

    heap_free(heap_malloc(64)); /* this thread has a heap */
    pthread_create(&thread, NULL, make_one, &theirs);
    pthread_join(thread, NULL);
    foreign = namesake_of(theirs);
    CHECK(!heap_owns(foreign));
    CHECK(span_of_slice(foreign) == span_of_slice(theirs));
    heap_free(foreign);
    CHECK(heap_realloc_plain(foreign, 32) == NULL);
    CHECK_EQ(heap_usable_bytes(foreign), 0);
    heap_free(theirs);
    check_valid();
}

/* --- misuse --- */

static void double_free_small(void)
{
    void *block = heap_malloc(64);

    heap_free(block);
    heap_free(block);
}

static void double_free_with_others_between(void)
{
    void *blocks[3] = {heap_malloc(64), heap_malloc(64), heap_malloc(64)};

    for (int i = 0; i < 3; i++)
        heap_free(blocks[i]);
    heap_free(blocks[0]);
}

static void double_free_medium(void)
{
    void *block = heap_malloc(40000);

    heap_free(block);
    heap_free(block);
}

static void double_free_large(void)
{
    void *block = heap_malloc(4000000);

    heap_free(block);
    heap_free(block);
}

static void *free_one(void *block)
{
    heap_free(block);
    return NULL;
}

static void double_free_by_two_threads(void)
{
    void *block = heap_malloc(64);
    pthread_t thread;

    pthread_create(&thread, NULL, free_one, block);
    pthread_join(thread, NULL);
    heap_free(block);
}

static void free_inside_a_block(void)
{
    heap_free((char *)heap_malloc(64) + 8);
}

static void free_inside_a_medium_block(void)
{
    heap_free((char *)heap_malloc(60000) + 30000);
}

static void free_inside_a_large_block(void)
{
    heap_free((char *)heap_malloc(4000000) + 65536);
}

static void free_of_what_was_never_allocated(void)
{
    heap_free((void *)(heap_here()->data.limit - 65536));
}

static void realloc_of_a_freed_block(void)
{
    void *block = heap_malloc(64);

    heap_free(block);
    block = heap_realloc(block, 1000);
}

static void write_after_free(void)
{
    uint64_t *block = heap_malloc(64), *other = heap_malloc(64);

    heap_free(other);
    heap_free(block);
    block[0] = 0x4141414141414141;
    (void)heap_malloc(64);
    (void)heap_malloc(64);
}

static void misuse_is_reported_by_address_and_aborts(void)
{
    static const struct heap_misuse cases[] = {
        {double_free_small, "pheap: double free of 0x"},
        {double_free_with_others_between, "a block of 64 bytes in the slab at 0x"},
        {double_free_medium, "pheap: double free of 0x"},
        {double_free_large, "no block starts there"},
        {double_free_by_two_threads, "pheap: double free of 0x"},
        {free_inside_a_block, "not the start of a block; the slab at 0x"},
        {free_inside_a_medium_block, "not the start of a block; the slab at 0x"},
        {free_inside_a_large_block, "pheap: invalid pointer 0x"},
        {free_of_what_was_never_allocated, "has handed out nothing there"},
        {realloc_of_a_freed_block, "pheap: double free of 0x"},
        {write_after_free, "a freed block was written to"},
    };

    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

/* --- fork --- */

static void *churn(void *argument)
{
    void *blocks[50] = {argument};

    blocks[0] = NULL;
    for (unsigned i = 0; !__atomic_load_n(&fork_is_over, __ATOMIC_RELAXED); i++) {
        heap_free(blocks[i % 50]);
        blocks[i % 50] = heap_malloc(i % 977 * (i % 10 ? 1 : 100));
    }
    for (int i = 0; i < 50; i++)
        heap_free(blocks[i]);
    heap_thread_exit();
    return NULL;
}

static int child_allocates(void)
{
    struct problem why = {0};
    void *blocks[500];

    for (int i = 0; i < 500; i++)
        blocks[i] = heap_malloc((size_t)i * 40);
    for (int i = 0; i < 500; i++)
        heap_free(blocks[i]);
    return heap_here()->thread_heaps_live == 1 && heap_trim() + 1 && why.status == 0 ? 0 : 1;
}

static void a_child_of_fork_allocates_while_the_parent_has_threads(void)
{
    check_children_while(churn, child_allocates);
}

static void the_forking_thread_may_allocate_between_the_handlers(void)
{
    void *blocks[300];

    alarm(FORK_SECONDS);
    heap_fork_prepare();
    for (int i = 0; i < 300; i++)
        blocks[i] = heap_malloc((size_t)i * 300);
    for (int i = 0; i < 300; i++)
        heap_free(blocks[i]);
    heap_fork_parent();
    alarm(0);
    check_valid();
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(a_heap_without_a_block_is_counted);
    RUN(the_census_counts_what_was_handed_out);
    RUN(the_census_survives_damaged_descriptors);
    RUN(calloc_of_reused_memory_is_zero);
    RUN(a_large_block_grows_in_place_when_it_can);
    RUN(sizes_that_cannot_be_are_refused);
    RUN(pointers_that_are_not_ours_are_left_alone);
    RUN(a_foreign_pointer_is_no_block_of_another_thread_s_slab);
    RUN(misuse_is_reported_by_address_and_aborts);
    RUN(a_child_of_fork_allocates_while_the_parent_has_threads);
    RUN(the_forking_thread_may_allocate_between_the_handlers);
    return tap_done();
}
