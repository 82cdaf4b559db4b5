/*
 * heap_garbage.c - what heap_each_garbage() tells: free memory that was written, never a byte of a
 * block or of a list; nothing while the spans are being changed.
 */
#include <stdlib.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/slot.h"
#include "core/heap/validate.h"
#include "t/lib/tap.h"

#define SPANS_MAX 4096
#define BLOCKS    600

static struct span_of_bytes {
    uintptr_t start, end;
} told[SPANS_MAX];
static unsigned told_count;

static bool note(void *context, uintptr_t start, uintptr_t end)
{
    (void)context;
    if (told_count == SPANS_MAX)
        return false;
    told[told_count++] = (struct span_of_bytes){start, end};
    return true;
}

static bool ask(void)
{
    told_count = 0;
    return heap_each_garbage(note, NULL);
}

/* Bytes of [start, start + bytes) that were told. */
static size_t garbage_in(const void *block, size_t bytes)
{
    uintptr_t start = (uintptr_t)block, end = start + bytes;
    size_t sum = 0;

    for (unsigned i = 0; i < told_count; i++) {
        uintptr_t from = told[i].start > start ? told[i].start : start;
        uintptr_t to = told[i].end < end ? told[i].end : end;

        sum += from < to ? to - from : 0;
    }
    return sum;
}

static void a_free_span_that_was_written_is_told_and_handed_out_it_is_not(void)
{
    void *kept = heap_malloc(1 << 20), *block = heap_malloc(4 << 20), *guard = heap_malloc(1 << 20);

    memset(block, 1, 4 << 20);
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 4 << 20), 0);
    heap_free(block);
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 4 << 20), 4 << 20);
    CHECK_EQ(garbage_in(kept, 1 << 20), 0);
    CHECK_EQ(garbage_in(guard, 1 << 20), 0);
    CHECK(heap_malloc(4 << 20) == block);
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 4 << 20), 0);
    heap_free(block);
    (void)heap_trim(); /* reads as zero now: nothing to leave out */
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 4 << 20), 0);
    heap_free(kept);
    heap_free(guard);
}

static void a_span_that_its_thread_keeps_is_told(void)
{
    void *block = heap_malloc(1 << 18);

    memset(block, 1, 1 << 18);
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 1 << 18), 0);
    heap_free(block);
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 1 << 18), 1 << 18);
    CHECK(heap_malloc(1 << 18) == block);
    CHECK(ask());
    CHECK_EQ(garbage_in(block, 1 << 18), 0);
    heap_free(block);
}

static void what_was_never_carved_of_a_slab_on_used_memory_is_told(void)
{
    void *blocks[8], *large, *first;
    size_t bytes = 3000, large_bytes;

    (void)heap_trim(); /* all that is free is one run now, and is written to */
    large_bytes = heap_here()->free_slices << SLICE_SHIFT;
    large = heap_malloc(large_bytes);
    memset(large, 1, large_bytes);
    heap_free(large);
    for (int i = 0; i < 8; i++)
        blocks[i] = heap_malloc(bytes);
    first = blocks[0];
    CHECK(ask());
    for (int i = 0; i < 8; i++)
        CHECK_EQ(garbage_in(blocks[i], bytes), 0);
    CHECK(garbage_in((void *)((uintptr_t)first & ~(uintptr_t)(SLICE_BYTES - 1)), SLICE_BYTES) > 0);
    for (int i = 0; i < 8; i++)
        heap_free(blocks[i]);
}

static void nothing_is_told_while_the_spans_are_being_changed(void)
{
    struct heap *heap = heap_here();

    heap_lock(heap, &heap->spans_lock);
    CHECK(!ask());
    heap_unlock(heap, &heap->spans_lock);
    CHECK(ask());
}

/* The pages that are told are wiped as a restore would: blocks and the heap's own lists stay whole.
 */
static void wipe_told(void)
{
    for (unsigned i = 0; i < told_count; i++) {
        uintptr_t start = (told[i].start + PAGE_BYTES - 1) & -(uintptr_t)PAGE_BYTES;

        for (; start + PAGE_BYTES <= told[i].end; start += PAGE_BYTES)
            memset((void *)start, 0, PAGE_BYTES);
    }
}

static bool is_whole(const unsigned char *block, size_t bytes, unsigned char fill)
{
    for (size_t i = 0; i < bytes; i++)
        if (block[i] != fill)
            return false;
    return true;
}

static void without_what_is_told_the_heap_is_whole(void)
{
    static unsigned char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    struct problem why = {0};
    bool whole = true;

    srand(7);
    for (int round = 0; round < 20000 && whole; round++) {
        int i = rand() % BLOCKS;

        if (blocks[i]) {
            whole = is_whole(blocks[i], sizes[i], (unsigned char)i);
            heap_free(blocks[i]);
            blocks[i] = NULL;
        } else {
            bool by_calloc = rand() % 2;

            sizes[i] = 1 + (size_t)rand() % (1u << (4 + rand() % 16));
            blocks[i] = by_calloc ? heap_calloc(1, sizes[i]) : heap_malloc(sizes[i]);
            whole = !by_calloc || is_whole(blocks[i], sizes[i], 0);
            memset(blocks[i], i, sizes[i]);
        }
        if (round % 200 == 0 && ask())
            wipe_told();
    }
    CHECK(whole);
    CHECK(heap_is_valid(&why));
    for (int i = 0; i < BLOCKS; i++)
        heap_free(blocks[i]);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (heap_start(4) < 0)
        return 1;
    RUN(a_free_span_that_was_written_is_told_and_handed_out_it_is_not);
    RUN(a_span_that_its_thread_keeps_is_told);
    RUN(what_was_never_carved_of_a_slab_on_used_memory_is_told);
    RUN(nothing_is_told_while_the_spans_are_being_changed);
    RUN(without_what_is_told_the_heap_is_whole);
    return tap_done();
}
