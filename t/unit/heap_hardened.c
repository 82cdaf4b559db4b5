/*
 * heap_hardened.c - the hardened heap: the same random calls as heap_model.c, and everything that
 * it finds and the plain one does not.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "core/heap/fast_path.h"
#include "core/heap/hardened_large.h"
#include "core/heap/hardened_slab.h"
#include "core/heap/heap.h"
#include "t/lib/heap_fixture.h"
#include "t/lib/heap_misuse.h"
#include "t/lib/heap_model.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define STEPS 12000u
#else
#define STEPS 60000u
#endif

static void random_calls(void)
{
    const char *text = getenv("PHEAP_TEST_LONG");
    struct heap_model model = {.calls = &heap_model_calls,
                               .threads = 1,
                               .rounds = text && strcmp(text, "1") == 0 ? 60 : 3,
                               .steps = STEPS,
                               .blocks_max = 1500,
                               .seed = 5,
                               .between = check_valid};

    CHECK_EQ(heap_model_run(&model), 0);
    model.threads = 3;
    model.steps = STEPS / 3;
    CHECK_EQ(heap_model_run(&model), 0);
}

static void no_block_is_left_in_the_census(void)
{
    static struct heap_census census;
    void *small, *large;

    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    CHECK_EQ(census.totals.live_blocks, 0);
    small = heap_malloc(100);
    large = heap_malloc(1000000);
    CHECK_OK(heap_census(heap_slot(), &census, NULL));
    CHECK_EQ(census.totals.live_blocks, 2);
    CHECK_EQ(census.totals.live_bytes, 112 + 1000000);
    heap_free(small);
    heap_free(large);
}

static void usable_bytes_are_those_asked_for(void)
{
    for (size_t bytes = 0; bytes < 300000; bytes = bytes * 2 + 1) {
        char *block = heap_malloc(bytes);

        CHECK_EQ(heap_usable_bytes(block), bytes);
        CHECK_EQ(heap_usable_bytes(block + 1), 0);
        heap_free(block);
        CHECK_EQ(heap_usable_bytes(block), 0);
    }
}

static void no_thread_has_a_fast_path(void)
{
    heap_free(heap_malloc(64));
    CHECK(heap_thread == &heap_thread_none);
    CHECK(fast_malloc(heap_thread, 64) == NULL);
}

static void places_are_random(void)
{
    enum { COUNT = 64 };
    char *blocks[COUNT];
    int neighbours = 0;

    for (int i = 0; i < COUNT; i++)
        blocks[i] = heap_malloc(200);
    for (int i = 1; i < COUNT; i++)
        neighbours += blocks[i] == blocks[i - 1] + 208;
    CHECK(neighbours < COUNT / 4);
    for (int i = 0; i < COUNT; i++)
        heap_free(blocks[i]);
}

static void a_freed_block_is_not_soon_used_again(void)
{
    void *freed = heap_malloc(200);
    bool seen = false;

    heap_free(freed);
    for (int i = 0; i < 4000; i++) {
        void *block = heap_malloc(200);

        seen = seen || block == freed;
        heap_free(block);
    }
    CHECK(!seen);
}

static void realloc_moves_and_keeps(void)
{
    char *block = heap_malloc(100), *moved;

    memset(block, 3, 100);
    moved = heap_realloc(block, 101);
    CHECK(moved != block && moved[0] == 3 && moved[99] == 3);
    block = heap_realloc(moved, 500000);
    CHECK(block[0] == 3 && block[99] == 3);
    heap_free(block);
}

static void large_alignments_are_kept(void)
{
    for (size_t align = 16; align <= (size_t)1 << 26; align *= 2)
        for (size_t bytes = 10; bytes < 200000; bytes *= 7) {
            char *block = heap_memalign(align, bytes);

            CHECK(block && (uintptr_t)block % align == 0);
            if (block)
                block[0] = block[bytes - 1] = 1;
            heap_free(block);
        }
    check_valid();
}

/* More slabs than there are guards for, and then all memory is free again. */
static void beyond_the_guards_there_is_memory(void)
{
    enum { COUNT = 9000 };
    static void *blocks[COUNT];

    for (int i = 0; i < COUNT; i++)
        blocks[i] = heap_malloc(70000);
    CHECK(blocks[COUNT - 1] != NULL);
    for (int i = 0; i < COUNT; i++)
        heap_free(blocks[i]);
    check_valid();
}

/* --- what must be found --- */

static void overflow_by_one(void)
{
    char *block = heap_malloc(100);

    block[100] = 0;
    heap_free(block);
}

static void overflow_far(void)
{
    char *block = heap_malloc(1000);

    memset(block, 'x', 1020);
    heap_free(block);
}

static void overflow_of_a_large_block(void)
{
    char *block = heap_malloc(100001);

    block[100001] ^= 1;
    heap_free(block);
}

static void overflow_found_by_realloc(void)
{
    char *block = heap_malloc(24);

    block[24] = 'x';
    block = heap_realloc(block, 50);
}

static void double_free(void)
{
    void *block = heap_malloc(100);

    heap_free(block);
    heap_free(block);
}

static void double_free_of_a_large_block(void)
{
    void *block = heap_malloc(100000);

    heap_free(block);
    heap_free(block);
}

static void *free_it(void *block)
{
    heap_free(block);
    return NULL;
}

static void double_free_by_another_thread(void)
{
    void *block = heap_malloc(100);
    pthread_t thread;

    pthread_create(&thread, NULL, free_it, block);
    pthread_join(thread, NULL);
    heap_free(block);
}

static void free_inside(void)
{
    heap_free((char *)heap_malloc(100) + 16);
}

static void free_inside_a_large_block(void)
{
    heap_free((char *)heap_malloc(1000000) + 4096);
}

static void realloc_of_a_freed_block(void)
{
    void *block = heap_malloc(100);

    heap_free(block);
    block = heap_realloc(block, 200);
}

static void write_after_free(void)
{
    char *block = heap_malloc(100);

    heap_free(block);
    block[50] = 'x';
    for (int i = 0; i < 100000; i++)
        heap_free(heap_malloc(100));
}

/* --- faults --- */

static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    heap_explain_fault(info->si_addr);
    signal(number, SIG_DFL);
}

static void touch(volatile char *address)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &action, NULL);
    *address = 1;
}

static void touch_behind_a_large_block(void)
{
    touch((char *)heap_malloc(1 << 20) + (1 << 20));
}

static void touch_before_a_large_block(void)
{
    touch((char *)heap_malloc(1 << 20) - 1);
}

static void touch_a_freed_large_block(void)
{
    char *block = heap_malloc(1 << 20);

    heap_free(block);
    touch(block + 5000);
}

static void run_over_the_end_of_a_slab(void)
{
    char *block = heap_malloc(100);
    const struct span *slab = heap_block_span(block);

    touch((char *)heap_span_address(heap_here(), slab) + slab->slices * (size_t)SLICE_BYTES - 1);
}

static void run_into_a_table(void)
{
    char *block = heap_malloc(100);

    touch((char *)hard_slab_blocks(heap_here(), heap_block_span(block)) - 1);
}

static void touch_what_was_never_handed_out(void)
{
    touch((char *)heap_here()->data.limit - 65536);
}

static void what_programs_do_wrong_is_reported(void)
{
    static const struct heap_misuse cases[] = {
        {overflow_by_one, "pheap: overflow of 0x"},
        {overflow_by_one, "a block of 100 bytes in the slab at 0x"},
        {overflow_far, "size class 1024"},
        {overflow_of_a_large_block, "a large block of 100001 bytes"},
        {overflow_found_by_realloc, "pheap: overflow of 0x"},
        {double_free, "pheap: double free of 0x"},
        {double_free_of_a_large_block, "pheap: double free of 0x"},
        {double_free_by_another_thread, "size class 112"},
        {free_inside, "not the start of a block; the slab at 0x"},
        {free_inside_a_large_block, "pheap: invalid pointer 0x"},
        {realloc_of_a_freed_block, "pheap: double free of 0x"},
        {write_after_free, "was written to after its free"},
        {touch_behind_a_large_block, "behind the large block 0x"},
        {touch_before_a_large_block, "before the large block 0x"},
        {touch_a_freed_large_block, "which was freed"},
        {run_over_the_end_of_a_slab, "a guard page of the slab at 0x"},
        {run_into_a_table, "a guard page of the slab at 0x"},
        {touch_what_was_never_handed_out, "has handed out nothing there"},
    };

    heap_misuse_check(cases, sizeof cases / sizeof *cases);
}

/* --- fork --- */

static void *churn(void *argument)
{
    while (!__atomic_load_n(&fork_is_over, __ATOMIC_RELAXED))
        for (size_t bytes = 20; bytes < 200000; bytes *= 3)
            heap_free(heap_malloc(bytes));
    return argument;
}

static int child_allocates(void)
{
    for (size_t bytes = 20; bytes < 2000000; bytes *= 2)
        heap_free(heap_malloc(bytes));
    return heap_is_valid(&(struct problem){0}) ? 0 : 1;
}

static void children_allocate_while_threads_do(void)
{
    check_children_while(churn, child_allocates);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    heap_harden();
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    RUN(a_freed_block_is_not_soon_used_again); /* while the quarantine is empty */
    RUN(no_block_is_left_in_the_census);
    RUN(usable_bytes_are_those_asked_for);
    RUN(no_thread_has_a_fast_path);
    RUN(places_are_random);
    RUN(realloc_moves_and_keeps);
    RUN(large_alignments_are_kept);
    RUN(what_programs_do_wrong_is_reported);
    RUN(children_allocate_while_threads_do);
    /* These leave many mappings, which makes fork slow. */
    RUN(random_calls);
    RUN(beyond_the_guards_there_is_memory);
    return tap_done();
}
