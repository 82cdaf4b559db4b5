/*
 * heap_slab_colour.c - blocks of 4 to 64 KiB begin at all lines of a page, those that are to be
 * aligned do not, and both are whole blocks for all that.
 */
#include <pthread.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/thread_heap.h"
#include "core/heap/slot.h"
#include "t/lib/heap_misuse.h"
#include "t/lib/tap.h"

#define KIB         ((size_t)1024)
#define SLABS       24
#define BLOCKS_MAX  64 /* of one slab, and what is looked at of a class */
#define MEDIUM_BASE 9000

static void check_valid(void)
{
    struct problem why = {0};

    CHECK(heap_is_valid(&why));
    if (why.status)
        tap_note("%s", why.text);
}

static uint32_t line_of(const void *block)
{
    return (uint32_t)((uintptr_t)block % PAGE_BYTES / COLOUR_STEP);
}

static struct span *slab_of(const void *block)
{
    return heap_block_span(block);
}

static uint32_t blocks_of_slab(uint32_t size_class)
{
    uint32_t most =
        size_class_slab_slices(size_class) * SLICE_BYTES / size_class_block_bytes(size_class);

    return most < BLOCKS_MAX ? most : BLOCKS_MAX;
}

/* Of one slab: its blocks are taken until as many lie in a new one as fit, 64 at most. */
static uint32_t fill_a_slab(uint32_t size_class, void **blocks)
{
    size_t bytes = size_class_block_bytes(size_class) - COLOUR_STEP;
    uint32_t wanted = blocks_of_slab(size_class), count = 0;

    while (count < wanted) {
        void *block = heap_malloc(bytes);

        if (count > 0 && slab_of(block) != slab_of(blocks[0]))
            count = 0; /* the others stay: what was left of the slab before */
        blocks[count++] = block;
    }
    return count;
}

static void blocks_of_one_slab_begin_at_different_lines(void)
{
    void *blocks[BLOCKS_MAX];

    for (uint32_t i = COLOURED_CLASS; i < PLAIN_CLASSES; i++) {
        uint32_t count = fill_a_slab(i, blocks);
        uint64_t seen = 0;

        for (uint32_t j = 0; j < count; j++) {
            CHECK_EQ((uintptr_t)blocks[j] % COLOUR_STEP, 0);
            CHECK(slab_is_own(slab_of(blocks[j]), blocks[j]));
            seen |= 1ull << line_of(blocks[j]);
        }
        CHECK_EQ(__builtin_popcountll(seen), count);
        for (uint32_t j = 0; j < count; j++)
            heap_free(blocks[j]);
    }
    check_valid();
}

/* As far as their blocks leave room; all of a slab's blocks fit behind its colour. */
static void slabs_of_one_class_begin_at_different_lines(void)
{
    static const size_t sizes[] = {8 * KIB, 16 * KIB, 24 * KIB, 32 * KIB, 64 * KIB};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t size_class = size_class_of(sizes[i]);
        uint64_t seen = 0;

        for (int j = 0; j < SLABS; j++) {
            void *blocks[BLOCKS_MAX];
            uint32_t count = fill_a_slab(size_class, blocks);
            const struct span *slab = slab_of(blocks[0]);

            CHECK(slab->slices > 1);
            CHECK_EQ(count, slab_bytes(slab) / size_class_block_bytes(size_class));
            seen |= 1ull << slab->first_offset / COLOUR_STEP;
        }
        tap_note("%zu bytes: %d colours of %d slabs", sizes[i], __builtin_popcountll(seen), SLABS);
        CHECK(__builtin_popcountll(seen) >= SLABS / 3);
    }
    check_valid();
}

/* A line longer is usable too, and no two blocks of a slab share a byte. */
static void every_byte_of_a_block_is_its_own(void)
{
    unsigned char *blocks[BLOCKS_MAX];

    for (uint32_t i = COLOURED_CLASS; i < PLAIN_CLASSES; i++) {
        uint32_t count = fill_a_slab(i, (void **)blocks);
        size_t bytes = size_class_block_bytes(i);
        int wrong = 0;

        for (uint32_t j = 0; j < count; j++) {
            CHECK_EQ(heap_usable_bytes(blocks[j]), bytes);
            memset(blocks[j], (int)j + 1, bytes);
        }
        for (uint32_t j = 0; j < count; j++)
            for (size_t k = 0; k < bytes; k++)
                wrong += blocks[j][k] != j + 1;
        CHECK_EQ(wrong, 0);
        CHECK(heap_realloc(blocks[0], bytes) == blocks[0]);
        for (uint32_t j = 0; j < count; j++)
            heap_free(blocks[j]);
    }
    check_valid();
}

/* Fresh ones, and such as have been written to. */
static void calloc_is_zero(void)
{
    for (int round = 0; round < 2; round++)
        for (uint32_t i = COLOURED_CLASS; i < PLAIN_CLASSES; i++) {
            unsigned char *blocks[5];
            size_t bytes = size_class_block_bytes(i) - COLOUR_STEP;
            int set = 0;

            for (int j = 0; j < 5; j++) {
                blocks[j] = heap_calloc(1, bytes);
                for (size_t k = 0; k < bytes; k++)
                    set += blocks[j][k] != 0;
                memset(blocks[j], 0xee, heap_usable_bytes(blocks[j]));
            }
            CHECK_EQ(set, 0);
            for (int j = 0; j < 5; j++)
                heap_free(blocks[j]);
        }
    check_valid();
}

/* A slab whose last block reaches beyond the first slice only because of the colour. */
static struct span *write_to_the_slice_behind(struct heap *heap)
{
    const uint32_t size_class = size_class_of(9 * KIB), bytes = size_class_block_bytes(size_class);
    const uint32_t count = SLICE_BYTES / bytes;
    struct span *passed[16], *slab = NULL;
    int tries = 0;

    heap_lock(heap, &heap_thread->lock);
    for (; tries < 16; tries++) {
        slab = slab_create(heap, heap_thread, size_class);
        if (slab->first_offset + count * bytes > SLICE_BYTES)
            break;
        passed[tries] = slab;
    }
    CHECK(tries < 16);
    for (uint32_t i = 0; i < count; i++)
        memset(slab_carve_one(heap, slab), 0xee, bytes);
    while (tries > 0)
        slab_release(heap, passed[--tries]);
    slab_release(heap, slab);
    heap_unlock(heap, &heap_thread->lock);
    return slab;
}

/* A slab that is given back says which of its slices are not zero any more. */
static void a_slab_leaves_nothing_behind_for_calloc(void)
{
    const size_t bytes = SLICE_BYTES + SLICE_BYTES / 2;
    struct span *slab = write_to_the_slice_behind(heap_here());
    uintptr_t behind = heap_span_address(heap_here(), slab) + SLICE_BYTES;
    unsigned char *zeroes[100];
    bool found = false;
    int count = 0;

    while (!found && count < 100) {
        int set = 0;

        zeroes[count] = heap_calloc(1, bytes);
        for (size_t i = 0; i < bytes; i++)
            set += zeroes[count][i] != 0;
        CHECK_EQ(set, 0);
        found = behind - (uintptr_t)zeroes[count++] < bytes;
    }
    CHECK(found);
    while (count > 0)
        heap_free(zeroes[--count]);
    check_valid();
}

/* Beside blocks of the same size that need not be aligned, all blocks of a slab. A slab serves
 * whatever can be aligned in one. */
static void memalign_has_slabs_of_its_own(void)
{
    for (size_t align = 32; align <= SLICE_BYTES; align *= 2)
        for (size_t bytes = 4097; bytes <= BLOCK_MAX_BYTES; bytes += 3989) {
            void *aligned[9], *plain[9];
            int wrong = 0;

            for (int i = 0; i < 9; i++) {
                aligned[i] = heap_memalign(align, bytes);
                plain[i] = heap_malloc(bytes);
                wrong += (uintptr_t)aligned[i] % align != 0;
                wrong += heap_usable_bytes(aligned[i]) < bytes;
                wrong += slab_of(aligned[i])->kind != SPAN_SLAB;
                wrong += align > COLOUR_STEP && slab_of(aligned[i]) == slab_of(plain[i]);
                memset(aligned[i], 1, bytes);
                memset(plain[i], 2, bytes);
            }
            CHECK_EQ(wrong, 0);
            for (int i = 0; i < 9; i++) {
                heap_free(aligned[i]);
                heap_free(plain[i]);
            }
        }
    check_valid();
}

static void *free_from_another_thread(void *blocks)
{
    void **block = blocks;

    heap_free(heap_malloc(1)); /* a thread heap of its own */
    for (int i = 0; i < 200; i += 2)
        heap_free(block[i]);
    heap_thread_exit();
    return NULL;
}

static void another_thread_frees_them(void)
{
    void *blocks[200];
    pthread_t thread;

    for (size_t i = 0; i < 200; i++)
        blocks[i] = heap_malloc(MEDIUM_BASE + i * 250);
    pthread_create(&thread, NULL, free_from_another_thread, blocks);
    pthread_join(thread, NULL);
    check_valid();
    for (size_t i = 0; i < 200; i += 2)
        blocks[i] = heap_malloc(MEDIUM_BASE + i * 250);
    check_valid();
    for (size_t i = 0; i < 200; i++)
        heap_free(blocks[i]);
    check_valid();
}

/* Larger blocks are freed while the thread clears out, which small ones began. */
static void they_are_freed_while_the_thread_clears_out(void)
{
    enum { SMALL = 100 * 1024, LARGER = 300 };
    static void *small[SMALL], *larger[LARGER];

    for (int i = 0; i < SMALL; i++)
        small[i] = heap_malloc(64);
    for (size_t i = 0; i < LARGER; i++)
        larger[i] = heap_malloc(4200 + i * 200);
    for (int i = 0; i < SMALL; i++)
        heap_free(small[i]);
    CHECK(heap_tag & TAG_CLEARING);
    for (int i = 0; i < LARGER; i += 2)
        heap_free(larger[i]);
    CHECK(heap_tag & TAG_CLEARING);
    check_valid();
    for (int i = 1; i < LARGER; i += 2)
        heap_free(larger[i]);
    check_valid();
    heap_free(heap_malloc(64));
}

/* In a slab that has a colour, and not at its end. */
static char *coloured(void)
{
    char *block = heap_malloc(20000);

    while (slab_of(block)->first_offset < 2 * COLOUR_STEP)
        block = heap_malloc(20000);
    return block;
}

static char *first_of_its_slab(void)
{
    return (char *)heap_slab_blocks(heap_here(), slab_of(coloured()));
}

static void free_the_slab(void)
{
    heap_free((void *)slab_of(coloured())->start);
}

static void free_a_block_before_the_first(void)
{
    heap_free(first_of_its_slab() - slab_of(coloured())->first_offset / 2 / 64 * 64);
}

static void free_as_if_there_were_no_colour(void)
{
    heap_free((char *)slab_of(coloured())->start + size_class_block_bytes(size_class_of(20000)));
}

static void free_it_while_the_thread_clears_out(void)
{
    char *start = (char *)slab_of(coloured())->start;

    heap_tag |= TAG_CLEARING;
    heap_free(start + size_class_block_bytes(size_class_of(20000)));
}

static void free_inside(void)
{
    heap_free(coloured() + COLOUR_STEP);
}

static void free_twice(void)
{
    void *block = coloured(), *next = coloured();

    heap_free(block);
    heap_free(next);
    heap_free(block);
}

static void realloc_the_slab(void)
{
    (void)heap_realloc((void *)slab_of(coloured())->start, 30000);
}

static void what_begins_elsewhere_is_no_block(void)
{
    static const struct heap_misuse cases[] = {
        {free_the_slab, "not the start of a block"},
        {free_a_block_before_the_first, "not the start of a block"},
        {free_as_if_there_were_no_colour, "not the start of a block"},
        {free_it_while_the_thread_clears_out, "not the start of a block"},
        {free_inside, "not the start of a block"},
        {realloc_the_slab, "not the start of a block"},
        {free_twice, "double free"},
    };
    char *block = coloured();

    CHECK_EQ(heap_usable_bytes(block - COLOUR_STEP), 0);
    CHECK_EQ(heap_usable_bytes((void *)slab_of(block)->start), 0);
    CHECK_EQ(heap_usable_bytes(first_of_its_slab()), size_class_block_bytes(size_class_of(20000)));
    heap_free(block);
    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1));
    RUN(blocks_of_one_slab_begin_at_different_lines);
    RUN(slabs_of_one_class_begin_at_different_lines);
    RUN(every_byte_of_a_block_is_its_own);
    RUN(calloc_is_zero);
    RUN(a_slab_leaves_nothing_behind_for_calloc);
    RUN(memalign_has_slabs_of_its_own);
    RUN(another_thread_frees_them);
    RUN(they_are_freed_while_the_thread_clears_out);
    RUN(what_begins_elsewhere_is_no_block);
    return tap_done();
}
