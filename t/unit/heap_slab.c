/*
 * heap_slab.c - size classes, and a slab's way through its states.
 */
#include <pthread.h>
#include <string.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/remote.h"
#include "core/heap/spans.h"
#include "core/heap/thread_heap.h"
#include "t/lib/heap_fixture.h"

static struct span *slab_of(const void *block)
{
    return heap_block_span(block);
}

static uint32_t bare_bytes(uint32_t size_class)
{
    return size_class_block_bytes(size_class_bare(size_class));
}

/* The line that some are longer is not counted in. */
static void every_size_has_the_smallest_class_that_holds_it(void)
{
    for (size_t bytes = 0; bytes <= BLOCK_MAX_BYTES; bytes++) {
        uint32_t size_class = size_class_of(bytes);

        if (size_class >= PLAIN_CLASSES || bare_bytes(size_class) < bytes ||
            (size_class > 0 && bare_bytes(size_class - 1) >= bytes))
            CHECK_EQ(bytes, size_class);
    }
    CHECK_EQ(size_class_of(BLOCK_MAX_BYTES), PLAIN_CLASSES - 1);
    CHECK_EQ(size_class_block_bytes(SIZE_CLASSES - 1), BLOCK_MAX_BYTES);
    CHECK_EQ(size_class_bare(PLAIN_CLASSES - 1), SIZE_CLASSES - 1);
    CHECK_EQ(size_class_of(4097), COLOURED_CLASS);
    for (uint32_t i = 0; i < PLAIN_CLASSES; i++)
        CHECK_EQ(size_class_block_bytes(i) - bare_bytes(i), i < COLOURED_CLASS ? 0 : COLOUR_STEP);
    CHECK_EQ(size_class_block_bytes(size_class_of(1100)), 1152);
}

static void rounding_up_wastes_at_most_an_eighth(void)
{
    for (size_t bytes = 129; bytes <= BLOCK_MAX_BYTES; bytes++) {
        uint32_t block_bytes = bare_bytes(size_class_of(bytes));

        if ((block_bytes - bytes) * 8 > block_bytes)
            CHECK_EQ(bytes, block_bytes);
    }
    for (uint32_t i = 0; i < SIZE_CLASSES; i++) {
        uint32_t slab_size = size_class_slab_slices(i) * SLICE_BYTES;

        CHECK_EQ(size_class_block_bytes(i) % 16, 0);
        CHECK(slab_size % size_class_block_bytes(i) * 8 <= slab_size);
        CHECK(slab_size / size_class_block_bytes(i) >= 4);
    }
}

static void an_aligned_class_has_only_aligned_blocks(void)
{
    for (size_t align = 16; align <= SLICE_BYTES; align *= 2)
        for (size_t bytes = 0; bytes <= BLOCK_MAX_BYTES; bytes += 37) {
            uint32_t size_class = size_class_of_aligned(bytes, align);

            if (size_class == SIZE_CLASSES ? bytes + align - 1 < BLOCK_MAX_BYTES
                                           : size_class_block_bytes(size_class) % align != 0 ||
                                                 size_class_block_bytes(size_class) < bytes)
                CHECK_EQ(bytes, align);
        }
    CHECK_EQ(size_class_of_aligned(16, 2 * SLICE_BYTES), SIZE_CLASSES);
}

/* Of a class of malloc's the bytes that only it serves; for the others memalign() must ask. */
static void *block_of_class(uint32_t size_class)
{
    uint32_t bytes = size_class_block_bytes(size_class);

    return size_class < PLAIN_CLASSES ? heap_malloc(bare_bytes(size_class))
                                      : heap_memalign(2 * COLOUR_STEP, bytes);
}

/* What free() asks, of an offset from the slab's first block. */
static bool may_be_freed_at_once(const struct span *slab, uint64_t offset)
{
    return (offset + size_class_block_bytes(slab->size_class)) * slab->reciprocal >= PRODUCT_LEAST;
}

static void one_product_tells_a_block_of_this_slab(void)
{
    for (uint32_t i = 0; i < SIZE_CLASSES; i++) {
        uint32_t block_bytes = size_class_block_bytes(i);
        void *block = block_of_class(i);
        struct span *slab = slab_of(block);
        int wrong = slab->size_class != i;

        for (uint64_t offset = 0; offset < slab_bytes(slab); offset += 8)
            wrong += may_be_freed_at_once(slab, offset) != (offset % block_bytes == 0);
        for (uint64_t other = 1; other < 1ull << 18; other += other / 8 + 1)
            for (uint64_t offset = 0; offset < slab_bytes(slab); offset += block_bytes) {
                wrong += may_be_freed_at_once(slab, offset + (other << TAG_SHIFT));
                wrong += may_be_freed_at_once(slab, offset - (other << TAG_SHIFT));
                wrong += may_be_freed_at_once(slab, offset + TAG_NOBODY - (other << TAG_SHIFT));
            }
        for (uint64_t page = 0x555500000000; page < 0x7fffffff0000; page += 0x7ff3000)
            for (uint64_t offset = 0; offset < 0x1000; offset += 0x110)
                wrong += may_be_freed_at_once(slab, page + offset - slab->start);
        CHECK_EQ(wrong, 0);
        heap_free(block);
    }
    check_valid();
}

/* The last slices below a multiple of 4 GiB, where a slab of several slices does not fit. */
static void a_link_has_the_same_upper_half_all_over_a_slab(void)
{
    static void *blocks[1000];
    uint64_t top = heap_slice_address(heap_here(), heap_here()->top);
    uint64_t boundary = (top >> 32) + 1;
    void *large = heap_malloc((boundary << 32) - top - 3 * SLICE_BYTES);
    int beyond = 0;

    CHECK(large != NULL);
    for (int i = 0; i < 1000; i++) {
        const struct span *slab;

        blocks[i] = heap_malloc(60000);
        slab = slab_of(blocks[i]);
        CHECK_EQ(slab->start >> 32, (slab->start + slab_bytes(slab) - 1) >> 32);
        CHECK_EQ(slab->start_key >> 32, (uint32_t)slab->key);
        beyond += slab->start >> 32 == boundary;
    }
    CHECK(beyond > 0);
    for (int i = 0; i < 1000; i++)
        heap_free(blocks[i]);
    heap_free(large);
    check_valid();
}

static void a_slab_is_carved_page_by_page(void)
{
    char *block = heap_malloc(720);

    CHECK(slab_of(block)->carved_bytes <= 4096);
    heap_free(block);
    check_valid();
}

/* Fills whole slabs of blocks of 8 KiB, 8 a slab. */
static void fill(void **blocks, int count)
{
    for (int i = 0; i < count; i++)
        blocks[i] = heap_malloc(8192);
}

static void a_full_slab_is_in_no_list_until_a_block_comes_back(void)
{
    void *blocks[17];
    struct span *slab;

    fill(blocks, 17);
    slab = slab_of(blocks[3]);
    CHECK(slab->owner & OWNER_FULL);
    CHECK_EQ(slab->remote, REMOTE_NOTIFY);
    check_valid();
    heap_free(blocks[3]);
    CHECK(!(slab->owner & OWNER_FULL));
    CHECK_EQ(slab->remote, 0);
    check_valid();
    blocks[3] = heap_malloc(8192);
    for (int i = 0; i < 17; i++)
        heap_free(blocks[i]);
    check_valid();
}

static void an_empty_slab_that_is_not_current_goes(void)
{
    void *blocks[40];
    struct span *slab;

    fill(blocks, 40);
    slab = slab_of(blocks[8]);
    for (int i = 0; i < 40; i++)
        heap_free(blocks[i]);
    CHECK(slab->kind != SPAN_SLAB || slab_is_unused(heap_here(), slab));
    check_valid();
}

static void *free_all(void *argument)
{
    void **blocks = argument;

    for (; *blocks; blocks++)
        heap_free(*blocks);
    return NULL;
}

static void in_another_thread(void **blocks)
{
    pthread_t thread;

    if (CHECK_EQ(pthread_create(&thread, NULL, free_all, blocks), 0))
        pthread_join(thread, NULL);
}

static void blocks_freed_by_another_thread_come_back_to_full_slabs(void)
{
    void *blocks[33] = {NULL}, *first;
    struct span *slab;

    fill(blocks, 32);
    first = blocks[0];
    slab = slab_of(first);
    in_another_thread(blocks);
    CHECK(heap_thread->notified != 0);
    CHECK(slab->remote != 0);
    check_valid();
    for (int i = 0; i < 32; i++)
        blocks[i] = heap_malloc(8192);
    CHECK_EQ(heap_thread->notified, 0);
    check_valid();
    for (int i = 0; i < 32; i++)
        heap_free(blocks[i]);
    check_valid();
}

static void our_free_and_a_notification_under_way_meet_in_a_full_slab(void)
{
    void *blocks[17], *remote[2] = {NULL, NULL};
    struct span *slab;

    fill(blocks, 17);
    slab = slab_of(blocks[0]);
    remote[0] = blocks[0];
    in_another_thread(remote);
    heap_free(blocks[1]); /* the slab stays full until the notification is taken */
    CHECK(slab->owner & OWNER_FULL);
    for (int i = 2; i < 17; i++)
        heap_free(blocks[i]);
    blocks[0] = heap_malloc(8192);
    heap_free(blocks[0]);
    for (int i = 0; i < 9; i++)
        blocks[i] = heap_malloc(8192);
    for (int i = 0; i < 9; i++)
        heap_free(blocks[i]);
    CHECK_EQ(heap_thread->notified, 0);
    check_valid();
}

static void *make_and_leave(void *argument)
{
    void **blocks = argument;

    for (int i = 0; i < 20; i++)
        blocks[i] = heap_malloc(8192);
    heap_thread_exit();
    return NULL;
}

static void slabs_of_an_ended_thread_are_tended_and_stolen(void)
{
    void *blocks[21] = {NULL};
    struct span *slab;
    pthread_t thread;

    if (!CHECK_EQ(pthread_create(&thread, NULL, make_and_leave, blocks), 0))
        return;
    pthread_join(thread, NULL);
    CHECK_EQ(heap_here()->dead_count, 1);
    check_valid();
    slab = slab_of(blocks[19]); /* its current slab: half used */
    CHECK_EQ(((struct thread_heap *)slab->owner)->state, THREAD_HEAP_DEAD);
    CHECK(thread_heap_steal(heap_here(), heap_thread, slab->size_class) == slab);
    CHECK_EQ(slab->owner, (uint64_t)heap_thread);
    slab_count(heap_here(), slab); /* as the caller does when it has a current one */
    slab_set_partial(heap_here(), heap_thread, slab);
    free_all(blocks);
    check_valid();
    CHECK_EQ(slab_of(blocks[0])->kind != SPAN_SLAB, 1); /* full, dead, and now empty: gone */
}

#define BATCHED 1000

/* Frees all but the last block; says whether the last one freed is known to be free already. */
static void *free_in_batches(void *argument)
{
    void **blocks = argument;

    for (int i = 0; i < BATCHED - 1; i++)
        heap_free(blocks[i]);
    CHECK(heap_thread != &heap_thread_none);
    CHECK(remote_finds_free(heap_here(), blocks[BATCHED - 2]));
    CHECK(!remote_finds_free(heap_here(), blocks[BATCHED - 1]));
    heap_thread_exit();
    return NULL;
}

static uint64_t live_blocks(void)
{
    static struct heap_census census;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    return census.totals.live_blocks;
}

static void batches_of_remote_frees_are_posted_at_the_threads_end(void)
{
    uint64_t before = live_blocks();
    void *blocks[BATCHED];
    pthread_t thread;

    for (int i = 0; i < BATCHED; i++)
        blocks[i] = heap_malloc(16 + (size_t)i % 7 * 16);
    if (!CHECK_EQ(pthread_create(&thread, NULL, free_in_batches, blocks), 0))
        return;
    pthread_join(thread, NULL);
    CHECK_EQ(live_blocks(), before + 1);
    for (uint32_t i = 0; i < heap_here()->thread_heap_count; i++)
        for (uint32_t j = 0; j < REMOTE_BATCHES; j++)
            CHECK_EQ(heap_thread_heap(heap_here(), i)->batches[j].count, 0);
    heap_free(blocks[BATCHED - 1]);
    check_valid();
}

static void *adopt_and_leave(void *argument)
{
    void *block = heap_malloc(64);

    *(struct thread_heap **)argument = heap_thread;
    heap_free(block);
    heap_thread_exit();
    return NULL;
}

static void a_new_thread_takes_a_dead_heap_over_whole(void)
{
    struct thread_heap *seen[3] = {NULL, NULL, NULL};
    uint32_t made = 0;

    for (int i = 0; i < 3; i++) {
        pthread_t thread;

        if (CHECK_EQ(pthread_create(&thread, NULL, adopt_and_leave, &seen[i]), 0))
            pthread_join(thread, NULL);
        if (i == 0)
            made = heap_here()->thread_heap_count;
    }
    CHECK(seen[0] == seen[1] && seen[1] == seen[2]);
    CHECK_EQ(heap_here()->thread_heap_count, made);
    CHECK_EQ(heap_here()->thread_heaps_live, 1);
    check_valid();
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(every_size_has_the_smallest_class_that_holds_it);
    RUN(rounding_up_wastes_at_most_an_eighth);
    RUN(an_aligned_class_has_only_aligned_blocks);
    RUN(one_product_tells_a_block_of_this_slab);
    RUN(a_link_has_the_same_upper_half_all_over_a_slab);
    RUN(a_slab_is_carved_page_by_page);
    RUN(a_full_slab_is_in_no_list_until_a_block_comes_back);
    RUN(an_empty_slab_that_is_not_current_goes);
    RUN(blocks_freed_by_another_thread_come_back_to_full_slabs);
    RUN(our_free_and_a_notification_under_way_meet_in_a_full_slab);
    RUN(slabs_of_an_ended_thread_are_tended_and_stolen);
    RUN(batches_of_remote_frees_are_posted_at_the_threads_end);
    RUN(a_new_thread_takes_a_dead_heap_over_whole);
    return tap_done();
}
