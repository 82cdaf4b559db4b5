/*
 * heap_kept.c - large blocks that their thread keeps at hand when it has freed them.
 */
#include <pthread.h>
#include <string.h>
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/kept.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "t/lib/heap_fixture.h"
#include "t/lib/heap_misuse.h"

#define BYTES 250000

static uint32_t kept_by(const struct thread_heap *thread)
{
    const uint32_t *places = &thread->kept[0][0];
    uint32_t count = 0;

    for (int i = 0; i < KEPT_PLACES; i++)
        count += places[i] != 0;
    return count;
}

static uint32_t kept_count(void)
{
    return kept_by(heap_thread);
}

static void the_same_block_comes_back_without_the_spans_lock(void)
{
    void *block = heap_malloc(BYTES), *again;
    uint64_t free_slices = heap_here()->free_slices;
    uint32_t top = heap_here()->top;

    heap_free(block);
    CHECK_EQ(heap_block_span(block)->kind, SPAN_ASIDE);
    check_valid();
    heap_thread->ticks = 100;                     /* no new epoch */
    lock_acquire(&heap_here()->spans_lock, &top); /* whoever wanted it would wait for ever */
    again = heap_malloc(BYTES - 4096);
    heap_free(again);
    lock_release(&heap_here()->spans_lock);
    CHECK(again == block);
    CHECK_EQ(heap_here()->free_slices, free_slices);
    kept_flush(heap_here(), 0);
    CHECK_EQ(kept_count(), 0);
    CHECK(heap_here()->free_slices > free_slices);
    check_valid();
}

static void one_with_more_than_an_eighth_too_much_stays(void)
{
    void *block = heap_malloc(9 * SLICE_BYTES), *small, *fitting;

    heap_free(block);
    small = heap_malloc(7 * SLICE_BYTES);
    CHECK(small != block);
    fitting = heap_malloc(8 * SLICE_BYTES);
    CHECK(fitting == block);
    heap_free(small);
    heap_free(fitting);
    kept_flush(heap_here(), 0);
    check_valid();
}

static void calloc_clears_one_that_was_written(void)
{
    char *block, *again;
    int wrong = 0;

    CHECK(heap_trim()); /* so that the dirty bits say that it reads as zero */
    block = heap_malloc(BYTES);
    memset(block, 0xff, BYTES);
    heap_free(block);
    again = heap_calloc(1, BYTES);
    CHECK(again == block);
    for (int i = 0; i < BYTES; i++)
        wrong += again[i] != 0;
    CHECK_EQ(wrong, 0);
    heap_free(again);
    kept_flush(heap_here(), 0);
}

static void free_many(uint32_t count, size_t bytes)
{
    void *blocks[16];

    for (uint32_t i = 0; i < count; i++)
        blocks[i] = heap_malloc(bytes);
    for (uint32_t i = 0; i < count; i++)
        heap_free(blocks[i]);
    CHECK_EQ(heap_block_span(blocks[count - 1])->kind, SPAN_ASIDE);
    check_valid();
}

static void a_thread_keeps_a_few_of_a_mebibyte_at_most(void)
{
    void *large = heap_malloc(KEPT_SLICES_MAX * SLICE_BYTES);

    heap_free(large);
    CHECK_EQ(kept_count(), 0);
    free_many(KEPT_OF_A_LENGTH + 3, 2 * SLICE_BYTES);
    CHECK_EQ(kept_count(), KEPT_OF_A_LENGTH);
    free_many(7, (KEPT_SLICES_MAX - 1) * SLICE_BYTES);
    CHECK(heap_thread->kept_slices <= KEPT_SLICES_IN_ALL);
    CHECK(heap_thread->kept_slices > KEPT_SLICES_IN_ALL - KEPT_SLICES_MAX);
    kept_flush(heap_here(), 0);
}

/* Another thread's too, when it has ended. */
static void *free_one(void *unused)
{
    (void)unused;
    heap_free(heap_malloc(BYTES));
    CHECK_EQ(kept_count(), 1);
    heap_thread_exit();
    return NULL;
}

static void what_nobody_takes_goes_back_after_two_epochs(void)
{
    struct heap *heap = heap_here();
    uint64_t free_slices = heap->free_slices;
    void *block = heap_malloc(BYTES);
    pthread_t thread;

    pthread_create(&thread, NULL, free_one, NULL);
    pthread_join(thread, NULL);
    heap_free(block);
    for (int epoch = 0; epoch < 2; epoch++) {
        CHECK_EQ(heap_block_span(block)->kind, SPAN_ASIDE);
        (void)spans_purge(heap, 2);
        __atomic_add_fetch(&heap->epoch, 1, __ATOMIC_RELAXED);
    }
    (void)spans_purge(heap, 2);
    CHECK_EQ(kept_count(), 0);
    CHECK(heap->free_slices >= free_slices);
    for (uint32_t i = 0; i < heap->thread_heap_count; i++)
        CHECK_EQ(kept_by(heap_thread_heap(heap, i)), 0);
    check_valid();
}

static bool racing;

static void *flush_all_the_time(void *unused)
{
    (void)unused;
    while (__atomic_load_n(&racing, __ATOMIC_RELAXED))
        kept_flush(heap_here(), 0);
    return NULL;
}

static void a_block_is_never_given_to_two(void)
{
    enum { LIVE = 6, ROUNDS = 20000 };
    uint64_t *blocks[LIVE] = {NULL};
    pthread_t thread;
    int wrong = 0;

    racing = true;
    pthread_create(&thread, NULL, flush_all_the_time, NULL);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        uint64_t **place = &blocks[round * 7919 % LIVE];

        if (*place) {
            wrong += (*place)[0] != (uintptr_t)place;
            heap_free(*place);
        }
        *place = heap_malloc(BYTES + round % 3 * SLICE_BYTES);
        (*place)[0] = (uintptr_t)place;
    }
    __atomic_store_n(&racing, false, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK_EQ(wrong, 0);
    for (int i = 0; i < LIVE; i++)
        heap_free(blocks[i]);
    kept_flush(heap_here(), 0);
    check_valid();
}

static void double_free(void)
{
    void *block = heap_malloc(BYTES);

    heap_free(block);
    heap_free(block);
}

static void realloc_of_a_freed_block(void)
{
    void *block = heap_malloc(BYTES);

    heap_free(block);
    block = heap_realloc(block, 2 * BYTES);
}

static void a_kept_block_is_no_block(void)
{
    static const struct heap_misuse cases[] = {
        {double_free, "to free: no block starts there"},
        {realloc_of_a_freed_block, "to realloc: no block starts there"},
    };
    void *block = heap_malloc(BYTES);

    heap_free(block);
    CHECK_EQ(heap_usable_bytes(block), 0);
    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_free(heap_malloc(1));
    RUN(the_same_block_comes_back_without_the_spans_lock);
    RUN(one_with_more_than_an_eighth_too_much_stays);
    RUN(calloc_clears_one_that_was_written);
    RUN(a_thread_keeps_a_few_of_a_mebibyte_at_most);
    RUN(what_nobody_takes_goes_back_after_two_epochs);
    RUN(a_block_is_never_given_to_two);
    RUN(a_kept_block_is_no_block);
    return tap_done();
}
