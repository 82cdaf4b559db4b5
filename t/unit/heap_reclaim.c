/*
 * heap_reclaim.c - blocks freed as a tool does it, on this process's own heap while it stands
 * still: from slabs in each state and of threads that live, have ended, or wait, and blocks that
 * are spans; the heap is valid after each and hands them out again.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/heap/heap.h"
#include "core/heap/profile.h"
#include "core/heap/profile_table.h"
#include "core/heap/reclaim.h"
#include "core/heap/slab.h"
#include "core/heap/slot.h"
#include "t/lib/tap.h"

#define BLOCKS 6000u

static struct own_block {
    uint64_t address;
    uint32_t bytes;
} blocks[BLOCKS];

static uint32_t random_size(void)
{
    switch (rand() % 100) {
    case 0:
        return 65537 + (uint32_t)rand() % 1000000;
    case 1 ... 10:
        return 1 + (uint32_t)rand() % 60000;
    default:
        return 1 + (uint32_t)rand() % 300;
    }
}

static void allocate(uint32_t first, uint32_t step)
{
    for (uint32_t i = first; i < BLOCKS; i += step) {
        blocks[i].bytes = random_size();
        blocks[i].address = (uint64_t)(uintptr_t)heap_malloc(blocks[i].bytes);
        memset((void *)blocks[i].address, (int)(i % 251), blocks[i].bytes);
    }
}

static uint32_t count_wrong(uint32_t first, uint32_t step)
{
    uint32_t wrong = 0;

    for (uint32_t i = first; i < BLOCKS; i += step) {
        const uint8_t *bytes = (const uint8_t *)blocks[i].address;

        wrong += bytes[0] != i % 251 || bytes[blocks[i].bytes - 1] != i % 251;
    }
    return wrong;
}

static uint64_t live_blocks(void)
{
    struct heap_census census;

    return heap_census(heap_slot(), &census, NULL) < 0 ? 0 : census.totals.live_blocks;
}

static sem_t allocated, go_on;

static void *allocate_and_wait(void *unused)
{
    allocate(1, 4);
    sem_post(&allocated);
    sem_wait(&go_on);
    for (uint32_t i = 0; i < BLOCKS; i++) /* finds what was freed behind its back */
        heap_free(heap_malloc(random_size()));
    heap_thread_exit();
    return unused;
}

static void *allocate_and_end(void *unused)
{
    allocate(2, 4);
    heap_thread_exit();
    return unused;
}

static bool reclaim(struct heap *heap, uint64_t address)
{
    if (!reclaim_holds(heap, address))
        return false;
    reclaim_free(heap, address);
    return !reclaim_holds(heap, address);
}

/* Numbers 0 and 1 of 4 are this thread's and a living one's, 2 one's that has ended; 3 stays. */
static uint32_t reclaim_all_but_the_fourth(struct heap *heap)
{
    uint32_t refused = 0;

    for (uint32_t i = 0; i < BLOCKS; i++)
        if (i % 4 != 3) {
            refused += !reclaim(heap, blocks[i].address);
            if (i % 1000 == 0)
                refused += !heap_is_valid(NULL);
        }
    return refused;
}

static void whatever_thread_has_them_blocks_are_freed_and_used_again(void)
{
    struct heap *heap;
    pthread_t lives, ends;
    uint64_t before;

    srand(3);
    sem_init(&allocated, 0, 0);
    sem_init(&go_on, 0, 0);
    heap = heap_here();
    CHECK(pthread_create(&lives, NULL, allocate_and_wait, NULL) == 0);
    sem_wait(&allocated);
    CHECK(pthread_create(&ends, NULL, allocate_and_end, NULL) == 0);
    pthread_join(ends, NULL);
    allocate(0, 4);
    allocate(3, 4);
    before = live_blocks();
    CHECK_OK(reclaim_ready(heap, NULL));
    CHECK_EQ(reclaim_all_but_the_fourth(heap), 0);
    CHECK_EQ(before - live_blocks(), BLOCKS / 4 * 3);
    CHECK(heap_is_valid(NULL));
    CHECK_EQ(count_wrong(3, 4), 0);
    sem_post(&go_on);
    pthread_join(lives, NULL);
    allocate(0, 4);
    allocate(1, 4);
    allocate(2, 4);
    CHECK(heap_is_valid(NULL));
    CHECK_EQ(count_wrong(0, 1), 0);
    for (uint32_t i = 0; i < BLOCKS; i++)
        heap_free((void *)blocks[i].address);
    CHECK(heap_is_valid(NULL));
}

static void what_is_no_block_in_use_is_not_held(void)
{
    uint64_t *small = heap_malloc(100), *large = heap_malloc(300000), *slab = heap_malloc(3000);
    struct heap *heap = heap_here();
    struct span *span =
        heap_span(heap, (uint32_t)(((uintptr_t)small - (uintptr_t)heap) >> SLICE_SHIFT));
    uint64_t was = small[0];

    CHECK(reclaim_holds(heap, (uintptr_t)small) && reclaim_holds(heap, (uintptr_t)large) &&
          reclaim_holds(heap, (uintptr_t)slab));
    CHECK(!reclaim_holds(heap, (uintptr_t)small + 16));
    CHECK(!reclaim_holds(heap, (uintptr_t)large + 65536));
    CHECK(!reclaim_holds(heap, (uintptr_t)heap) && !reclaim_holds(heap, (uintptr_t)heap + 65536));
    CHECK(!reclaim_holds(heap, (uint64_t)(uintptr_t)heap + SLOT_BYTES - 16));
    CHECK(!reclaim_holds(heap, 0) && !reclaim_holds(heap, UINT64_MAX));
    /* A thread has linked it, and was stopped before it was in the list. */
    slab_link(span, small, NULL);
    CHECK(!reclaim_holds(heap, (uintptr_t)small));
    small[0] = was;
    CHECK(reclaim_holds(heap, (uintptr_t)small));
    CHECK(reclaim_identity(heap, (uintptr_t)small) == span->key);
    CHECK_EQ(reclaim_identity(heap, (uintptr_t)large), 0);
    heap_free(small);
    heap_free(large);
    heap_free(slab);
    CHECK(!reclaim_holds(heap, (uintptr_t)small));
}

/* It was dirty, and is zero: what is asked for zeroed is zero. */
static void the_memory_of_a_large_block_reads_as_zero(void)
{
    uint8_t *block = heap_malloc(3 << 20), *again;

    memset(block, 1, 3 << 20);
    reclaim_free(heap_here(), (uintptr_t)block);
    CHECK_EQ(block[12345], 0);
    again = heap_calloc(1, 3 << 20);
    CHECK(again != NULL && again[0] == 0 && memcmp(again, again + 1, (3 << 20) - 1) == 0);
    heap_free(again);
    CHECK(heap_is_valid(NULL));
}

static void while_a_thread_was_changing_spans_nothing_is_ready(void)
{
    struct heap *heap = heap_here();

    heap_lock(heap, &heap->spans_lock);
    CHECK_EQ(reclaim_ready(heap, NULL), STATUS_DEFERRED);
    heap_unlock(heap, &heap->spans_lock);
    heap_fork_prepare();
    CHECK_EQ(reclaim_ready(heap, NULL), STATUS_DEFERRED);
    heap_fork_parent();
    CHECK_OK(reclaim_ready(heap, NULL));
}

static uint32_t walk_nothing(uint64_t *frames, uint32_t most)
{
    frames[0] = 1;
    return most > 0;
}

/* In a child, which has no heap yet. */
static int in_a_profiled_heap(void)
{
    struct heap *heap;
    struct profile *profile;

    heap_profile_reserve();
    if (heap_start(SLOT_VOLATILE) < 0 || heap_profile_start(500, walk_nothing) < 0)
        return 2;
    heap = heap_here();
    profile = heap_profile(heap);
    allocate(0, 1);
    if (profile->live < 100 || reclaim_ready(heap, NULL) < 0)
        return 3;
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (!reclaim(heap, blocks[i].address))
            return 4;
    if (profile->live != 0 || !profile_table_is_valid(heap) || !heap_is_valid(NULL))
        return 5;
    allocate(0, 1);
    if (profile->live < 100 || !heap_is_valid(NULL) || count_wrong(0, 1) != 0)
        return 6;
    lock_acquire(&profile->lock, heap_holder());
    if (reclaim_ready(heap, NULL) != STATUS_DEFERRED)
        return 7;
    lock_release(&profile->lock);
    profile->free_sample = profile->sample_count + 1;
    return reclaim_ready(heap, NULL) == STATUS_DAMAGED ? 0 : 8;
}

static int in_a_hardened_heap(void)
{
    heap_harden();
    if (heap_start(SLOT_VOLATILE) < 0)
        return 2;
    return reclaim_ready(heap_here(), NULL) == STATUS_REFUSED ? 0 : 3;
}

static void in_a_child(int (*what)(void))
{
    int status = -1;
    pid_t child = fork();

    if (child == 0)
        _exit(what());
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

static void samples_go_with_their_blocks(void)
{
    in_a_child(in_a_profiled_heap);
}

static void nothing_of_a_hardened_heap_is_ready(void)
{
    in_a_child(in_a_hardened_heap);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(samples_go_with_their_blocks);
    RUN(nothing_of_a_hardened_heap_is_ready);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(whatever_thread_has_them_blocks_are_freed_and_used_again);
    RUN(what_is_no_block_in_use_is_not_held);
    RUN(the_memory_of_a_large_block_reads_as_zero);
    RUN(while_a_thread_was_changing_spans_nothing_is_ready);
    return tap_done();
}
