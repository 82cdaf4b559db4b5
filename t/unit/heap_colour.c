/*
 * heap_colour.c - large blocks begin at the colour of their place, and are whole blocks for all
 * that.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/kept.h"
#include "core/heap/large.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "t/lib/heap_fixture.h"
#include "t/lib/heap_misuse.h"

#define MIB ((size_t)1 << 20)

static uintptr_t in_page(const void *block)
{
    return (uintptr_t)block % PAGE_BYTES;
}

static uint32_t slices_of_block(const void *block)
{
    return heap_block_span(block)->slices;
}

/* Every byte that the program may use is written, and the next block's first and last stay. */
static void use_all(unsigned char *block, unsigned char with)
{
    memset(block, with, heap_usable_bytes(block));
}

static void blocks_of_one_size_begin_at_many_distances_from_the_page(void)
{
    enum { BLOCKS = 64 };
    void *blocks[BLOCKS];
    uint64_t seen = 0;
    int colours;

    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = heap_malloc(MIB);
        CHECK_EQ(in_page(blocks[i]) % 64, 0);
        CHECK_EQ(slices_of_block(blocks[i]), 17);
        seen |= 1ull << in_page(blocks[i]) / 64;
    }
    colours = __builtin_popcountll(seen);
    tap_note("%d colours of %d blocks", colours, BLOCKS);
    CHECK(colours >= BLOCKS / 2);
    check_valid();
    for (int i = 0; i < BLOCKS; i++)
        heap_free(blocks[i]);
}

/* At most three slices: no slice more for a colour. */
static void a_short_span_has_no_slice_more(void)
{
    for (uint32_t slices = 2; slices < 4; slices++) {
        char *full = heap_malloc(slices * SLICE_BYTES);
        char *one_page_less = heap_malloc(slices * SLICE_BYTES - PAGE_BYTES);

        CHECK_EQ(slices_of_block(full), slices);
        CHECK_EQ(slices_of_block(one_page_less), slices);
        CHECK(in_page(full) == 0);
        use_all((unsigned char *)full, 1);
        use_all((unsigned char *)one_page_less, 2);
        CHECK_EQ(full[slices * SLICE_BYTES - 1], 1);
        heap_free(full);
        heap_free(one_page_less);
    }
    check_valid();
}

/* No block of n pages lies in more than n + 1, and n pages are usable wherever it begins. */
static void a_block_takes_a_page_more_at_most(void)
{
    for (size_t bytes = 65537; bytes < 2 * MIB; bytes += bytes / 5 + 61) {
        uintptr_t block = (uintptr_t)heap_malloc(bytes);
        uint64_t usable = heap_usable_bytes((void *)block);
        uint64_t pages = (in_page((void *)block) + usable - 1) / PAGE_BYTES;

        CHECK_EQ(usable, (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1ull));
        CHECK(pages <= usable / PAGE_BYTES);
        heap_free((void *)block);
    }
}

static void a_place_keeps_its_colour(void)
{
    void *guard = heap_malloc(9 * MIB), *first = heap_malloc(3 * MIB - 5000), *second;
    void *behind = heap_malloc(MIB);

    heap_free(first);
    second = heap_malloc(3 * MIB - 9000);
    CHECK(second == first);
    heap_free(second);
    heap_free(guard);
    heap_free(behind);
    check_valid();
}

static void alignment_is_kept(void)
{
    static const size_t sizes[] = {70000, 300000, MIB, 3 * MIB + 5};

    for (size_t align = 32; align <= 4 * MIB; align *= 2)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            unsigned char *block = heap_memalign(align, sizes[i]);

            CHECK_EQ((uintptr_t)block % align, 0);
            CHECK(heap_usable_bytes(block) >= sizes[i]);
            use_all(block, 7);
            heap_free(block);
        }
    check_valid();
}

/* A signal handler over an interrupted call gets a span for a small block too. */
static void alignment_is_kept_where_a_span_stands_in_for_a_slab(void)
{
    enum { BLOCKS = 20 };
    void *blocks[BLOCKS];
    int coloured_ones = 0;

    lock_acquire(&heap_thread->lock, heap_holder());
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = heap_memalign(1024, 40000);
        CHECK_EQ((uintptr_t)blocks[i] % 1024, 0);
        CHECK_EQ(heap_block_span(blocks[i])->kind, SPAN_LARGE);
        heap_free(blocks[i]);
        blocks[i] = heap_malloc(40000);
        coloured_ones += in_page(blocks[i]) != 0;
    }
    lock_release(&heap_thread->lock);
    CHECK(coloured_ones > 0);
    for (int i = 0; i < BLOCKS; i++)
        heap_free(blocks[i]);
    check_valid();
}

/* The bytes before a block's own are no block's: a realloc moves the bytes and stays aligned. */
static void realloc_keeps_what_was_written(void)
{
    size_t bytes = 66000;
    unsigned char *block = heap_malloc(bytes);

    memset(block, 0x5a, bytes);
    for (int round = 0; round < 300; round++) {
        size_t wanted = 66000 + (size_t)(round * 7919 % 4000) * 512;
        size_t kept = wanted < bytes ? wanted : bytes;
        int wrong = 0;

        block = heap_realloc(block, wanted);
        for (size_t i = 0; i < kept; i += 61)
            wrong += block[i] != 0x5a;
        CHECK_EQ(wrong, 0);
        CHECK(heap_usable_bytes(block) >= wanted);
        bytes = wanted;
        use_all(block, 0x5a);
    }
    check_valid();
    heap_free(block);
}

static int bytes_set(const unsigned char *bytes, size_t count)
{
    int set = 0;

    for (size_t i = 0; i < count; i++)
        set += bytes[i] != 0;
    return set;
}

/* From spans that are kept, that are clean, dirty, and dirty in part; small ones are cleared, those
 * of more than 8 MiB mapped anew. */
static void calloc_is_zero_from_the_first_byte_to_the_last(void)
{
    static const size_t sizes[] = {70000, 500000, MIB, 3 * MIB, 9 * MIB, 17 * MIB + 4000};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int round = 0; round < 3; round++) {
            unsigned char *written = heap_malloc(sizes[i] / (size_t)(round + 1)), *zero;

            use_all(written, 0xee);
            heap_free(written);
            if (round == 2)
                kept_flush(heap_here(), 0);
            zero = heap_calloc(1, sizes[i]);
            CHECK_EQ(bytes_set(zero, sizes[i]), 0);
            use_all(zero, 0xee);
            heap_free(zero);
        }
    check_valid();
}

static void *coloured(void)
{
    void *block = heap_malloc(MIB);

    while (in_page(block) < 128)
        block = heap_malloc(MIB);
    return block;
}

static void free_the_span(void)
{
    void *block = coloured();

    heap_free((void *)heap_span_address(heap_here(), heap_block_span(block)));
}

static void free_another_line(void)
{
    heap_free((char *)coloured() - 64);
}

static void free_inside(void)
{
    heap_free((char *)coloured() + 64);
}

static void free_twice(void)
{
    void *block = coloured();

    heap_free(block);
    heap_free(block);
}

static void realloc_the_span(void)
{
    void *block = coloured();

    block = heap_realloc((void *)heap_span_address(heap_here(), heap_block_span(block)), 2 * MIB);
}

static void what_begins_elsewhere_is_no_block(void)
{
    static const struct heap_misuse cases[] = {
        {free_the_span, "bytes starts at"},    {free_another_line, "bytes starts at"},
        {free_inside, "bytes starts at"},      {free_twice, "to free: no block starts there"},
        {realloc_the_span, "bytes starts at"},
    };
    char *block = coloured();

    CHECK_EQ(heap_usable_bytes(block - 64), 0);
    CHECK_EQ(heap_usable_bytes((void *)heap_span_address(heap_here(), heap_block_span(block))), 0);
    heap_free(block);
    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

static bool counting;

static void *count_all_the_time(void *failed)
{
    static struct heap_census census;

    while (__atomic_load_n(&counting, __ATOMIC_RELAXED))
        *(int *)failed += heap_census_live(&census) < 0;
    return NULL;
}

/* A block that is made, or resized, lies in its span at every moment, also when so many epochs have
 * passed that their number is larger than a span. */
static void who_looks_meanwhile_finds_blocks_in_their_spans(void)
{
    enum { ROUNDS = 20000 };
    int failed = 0;
    pthread_t thread;
    void *block;

    __atomic_add_fetch(&heap_here()->epoch, 1ull << 40, __ATOMIC_RELAXED);
    counting = true;
    pthread_create(&thread, NULL, count_all_the_time, &failed);
    for (size_t round = 0; round < ROUNDS; round++) {
        block = heap_malloc(70000 + round % 5 * 60000);
        block = heap_realloc(block, MIB + round % 7 * 100000);
        block = heap_realloc(block, 70000);
        heap_free(block);
    }
    __atomic_store_n(&counting, false, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK_EQ(failed, 0);
    check_valid();
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1));
    RUN(blocks_of_one_size_begin_at_many_distances_from_the_page);
    RUN(a_short_span_has_no_slice_more);
    RUN(a_block_takes_a_page_more_at_most);
    RUN(a_place_keeps_its_colour);
    RUN(alignment_is_kept);
    RUN(alignment_is_kept_where_a_span_stands_in_for_a_slab);
    RUN(realloc_keeps_what_was_written);
    RUN(calloc_is_zero_from_the_first_byte_to_the_last);
    RUN(what_begins_elsewhere_is_no_block);
    RUN(who_looks_meanwhile_finds_blocks_in_their_spans);
    return tap_done();
}
