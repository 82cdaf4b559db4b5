/*
 * recovery_live_heap.c - looks at this process's own heap from outside, while it stands still and
 * while a thread changes it; figures against the census, and hostile descriptors.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/heap/heap.h"
#include "core/heap/heap_format.h"
#include "core/heap/profile.h"
#include "recovery/view/live_heap.h"
#include "t/lib/tap.h"

#define BLOCKS 5000

static struct live_heap live;
static struct live_figures figures;
static struct problem why;
static void *blocks[BLOCKS];

static void look(void)
{
    if (!CHECK_OK(live_heap_look(&live, &figures, &why)))
        tap_note("%s", why.text);
}

static void check_as_census(void)
{
    static struct heap_census census;

    look();
    if (!CHECK_OK(heap_census(heap_slot(), &census, &why)))
        return;
    CHECK_EQ(figures.used, census.totals.live_blocks);
    CHECK_EQ(figures.used_bytes, census.totals.live_bytes);
    CHECK_EQ(figures.span_bytes, census.totals.span_bytes);
    CHECK_EQ(figures.free_bytes, census.totals.free_bytes);
    CHECK_EQ(figures.committed_bytes, census.totals.committed_bytes);
    CHECK_EQ(figures.thread_heaps, census.thread_heaps);
    CHECK_EQ(figures.uncounted_slabs, 0);
    for (uint32_t i = 0; i < LIVE_CLASSES; i++) {
        CHECK_EQ(figures.classes[i].spans, census.classes[i].slabs);
        CHECK_EQ(figures.classes[i].used, census.classes[i].blocks_used);
    }
}

static size_t size_of(int i)
{
    if (i % 100 == 99)
        return 200000;
    return i % 100 == 49 ? 20000 : i % 10 == 9 ? 5000 : 16 + (size_t)i % 300;
}

static void a_heap_that_stands_still_is_seen_as_the_census_has_it(void)
{
    check_as_census();
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = heap_malloc(size_of(i));
    check_as_census();
    for (int i = 0; i < BLOCKS; i += 3) {
        heap_free(blocks[i]);
        blocks[i] = NULL;
    }
    check_as_census();
    for (int i = 0; i < BLOCKS; i++)
        heap_free(blocks[i]);
    check_as_census();
}

static void what_came_and_went_between_two_looks_is_summed_up(void)
{
    uint64_t allocated, freed, before;

    look();
    allocated = figures.seen_allocated_bytes;
    freed = figures.seen_freed_bytes;
    before = figures.used_bytes;
    for (int i = 0; i < 1000; i++)
        blocks[i] = heap_malloc(112);
    blocks[1000] = heap_malloc(1 << 20);
    look();
    CHECK_EQ(figures.seen_allocated_bytes - allocated, 1000 * 112 + (1 << 20));
    CHECK_EQ(figures.seen_freed_bytes - freed, 0);
    CHECK_EQ(figures.used_bytes - before, 1000 * 112 + (1 << 20));
    for (int i = 0; i < 1001; i++)
        heap_free(blocks[i]);
    look();
    CHECK_EQ(figures.seen_allocated_bytes - allocated, 1000 * 112 + (1 << 20));
    CHECK_EQ(figures.seen_freed_bytes - freed, 1000 * 112 + (1 << 20));
}

static bool ends;

static void *churn(void *unused)
{
    void *mine[500] = {0};
    unsigned seed = 1;

    while (!__atomic_load_n(&ends, __ATOMIC_RELAXED)) {
        unsigned i = (unsigned)rand_r(&seed) % 500;

        heap_free(mine[i]);
        mine[i] = heap_malloc(size_of((int)((unsigned)rand_r(&seed) % 1000)));
    }
    for (int i = 0; i < 500; i++)
        heap_free(mine[i]);
    heap_thread_exit();
    return unused;
}

/* 500 blocks, of 200,000 bytes at most: what a look says of a heap that changes under it must be
 * possible, if not right. */
static void a_heap_that_changes_meanwhile_gives_possible_figures(void)
{
    pthread_t other;
    uint64_t last = 0;

    ends = false;
    pthread_create(&other, NULL, churn, NULL);
    for (int i = 0; i < 2000; i++) {
        look();
        if (!CHECK(figures.used < 20000 && figures.used_bytes <= figures.span_bytes &&
                   figures.span_bytes <= figures.committed_bytes + (64u << 20)))
            break;
        CHECK(figures.seen_allocated_bytes >= last);
        last = figures.seen_allocated_bytes;
    }
    __atomic_store_n(&ends, true, __ATOMIC_RELAXED);
    pthread_join(other, NULL);
    CHECK(last > 0);
    check_as_census();
}

/* Any bytes in a descriptor: no look ends badly, and what is counted fits into the heap. */
static void descriptors_of_any_bytes_are_passed_over(void)
{
    struct heap *heap = (struct heap *)SLOT_BASE(heap_slot());
    static uint8_t saved[256 * sizeof(struct span)];
    uint32_t count = heap->top - heap->data_slice < 256 ? heap->top - heap->data_slice : 256;
    struct span *first = heap_span(heap, heap->data_slice);

    srand(1);
    memcpy(saved, first, count * sizeof *first);
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 20; i++)
            ((uint8_t *)first)[(size_t)rand() % (count * sizeof *first)] = (uint8_t)rand();
        look();
        CHECK(figures.span_bytes <= (uint64_t)heap->top << SLICE_SHIFT &&
              figures.used_bytes <= figures.span_bytes);
    }
    memcpy(first, saved, count * sizeof *first);
    check_as_census();
}

static void headers_that_make_no_sense_are_refused(void)
{
    struct heap *heap = (struct heap *)SLOT_BASE(heap_slot()), saved = *heap;

    heap->top = UINT32_MAX;
    CHECK_EQ(live_heap_look(&live, &figures, &why), STATUS_DAMAGED);
    *heap = saved;
    heap->spans.committed_end = heap->spans.start;
    CHECK_EQ(live_heap_look(&live, &figures, &why), STATUS_DAMAGED);
    *heap = saved;
    heap->magic++;
    CHECK_EQ(live_heap_look(&live, &figures, &why), STATUS_DAMAGED);
    *heap = saved;
    check_as_census();
}

static uint32_t walk(uint64_t *frames, uint32_t most)
{
    (void)most;
    frames[0] = 1;
    return 1;
}

static void a_profile_tells_of_what_was_freed_at_once_too(void)
{
    double expected = 0;

    CHECK_OK(heap_profile_start(4096, walk));
    look();
    CHECK_EQ(figures.rate_bytes, 4096);
    CHECK_EQ(figures.sampled_bytes, 0);
    for (int i = 0; i < 100000; i++) {
        heap_free(heap_malloc(96));
        expected += 96;
    }
    look(); /* 2,300 samples: 2 % one standard deviation */
    if (!CHECK((double)figures.sampled_bytes > expected * 0.9 &&
               (double)figures.sampled_bytes < expected * 1.1))
        tap_note("%llu sampled of %.0f", (unsigned long long)figures.sampled_bytes, expected);
}

static void another_slot_and_another_process_are_said(void)
{
    struct live_heap other;

    CHECK_OK(live_heap_open(&other, getpid(), (heap_slot() + 7) % SLOT_COUNT));
    CHECK_EQ(live_heap_look(&other, &figures, &why), -EFAULT);
    live_heap_close(&other);
    CHECK_EQ(live_heap_open(&other, getpid(), SLOT_COUNT), -EINVAL);
    live_heap_close(&other);
    CHECK_OK(live_heap_open(&other, INT32_MAX - 1, heap_slot()));
    CHECK_EQ(live_heap_look(&other, &figures, &why), -ESRCH);
    live_heap_close(&other);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_profile_reserve();
    if (heap_start(SLOT_VOLATILE) < 0 || live_heap_open(&live, getpid(), SLOT_VOLATILE) < 0)
        return 1;
    RUN(a_heap_that_stands_still_is_seen_as_the_census_has_it);
    RUN(what_came_and_went_between_two_looks_is_summed_up);
    RUN(a_heap_that_changes_meanwhile_gives_possible_figures);
    RUN(descriptors_of_any_bytes_are_passed_over);
    RUN(headers_that_make_no_sense_are_refused);
    RUN(another_slot_and_another_process_are_said);
    RUN(a_profile_tells_of_what_was_freed_at_once_too);
    live_heap_close(&live);
    return tap_done();
}
