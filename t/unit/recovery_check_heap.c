/*
 * recovery_check_heap.c - the checker in heaps: those that malloc has made are fine, in the middle
 * of an operation too, and lies in their metadata are found: what is called fine can be walked and
 * allocated from.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/heap/fast_path.h"
#include "core/heap/heap.h"
#include "core/heap/profile.h"
#include "core/heap/slab.h"
#include "core/image/image_reader.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define SLOT    7
#define BLOCKS  1000
#define SITES   20
#define HANG_NS 2000000000ull /* of processor time */

static struct pool pool;
static struct oracle oracle;
static struct problem why;
static struct check_result result;
static struct finding last;
static uint64_t longest_ns;
static struct heap *heap;
static void *blocks[BLOCKS];

static void keep_last(void *context, const struct finding *finding)
{
    (void)context;
    last = *finding;
}

static enum severity check_now(void)
{
    const struct check_request request = {
        .path = scratch_path("pool"), .heaps = HEAPS_OF_ALL, .found = keep_last};
    uint64_t begin_ns = sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID), ns;

    memset(&last, 0, sizeof last);
    CHECK_OK(check_pool(&request, &result, &why));
    ns = sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns;
    longest_ns = ns > longest_ns ? ns : longest_ns;
    return result.worst;
}

/* --- this process's heap, in a pool --- */

static void save_pages(uint64_t start, uint64_t end)
{
    static const uint8_t zeroes[FRAME_BYTES];

    for (uint64_t at = start; at < end; at += FRAME_BYTES) {
        uint64_t page = at >> FRAME_SHIFT, bytes = 0, sum;

        if (memcmp((const void *)at, zeroes, FRAME_BYTES) == 0)
            continue;
        sum = checksum64((const void *)at, FRAME_BYTES);
        CHECK_OK(pool_write_pages(&pool, &page, &sum, (const void *)at, 1, &bytes));
    }
}

static void commit(void)
{
    struct generation_entry entry = {.kind = GENERATION_HEAP, .slot = SLOT};

    CHECK_OK(pool_commit(&pool, &entry, NULL, 0, &why));
}

static void save_profile(void)
{
    const struct profile *profile = heap_profile(heap);

    if (profile == NULL)
        return;
    save_pages(heap->profile.start, heap->profile.committed_end);
    save_pages(profile->stacks.start, profile->stacks.committed_end);
    save_pages(profile->samples.start, profile->samples.committed_end);
}

static void save_heap(void)
{
    uint64_t base = (uintptr_t)heap;

    scratch_pool(&pool, &oracle, 1);
    save_pages(base, base + FRAME_BYTES);
    save_pages(heap->spans.start, heap->spans.committed_end);
    save_pages(heap->dirty_bits.start, heap->dirty_bits.committed_end);
    save_pages(heap->free_bits.start, heap->free_bits.committed_end);
    save_pages(heap->thread_heaps.start, heap->thread_heaps.committed_end);
    save_pages(heap->data.start, base + ((uint64_t)heap->top << SLICE_SHIFT));
    save_profile();
    commit();
}

static uint64_t site;

static uint32_t walk_stack(uint64_t *frames, uint32_t most)
{
    (void)most;
    frames[0] = 0x1000 + site;
    frames[1] = 0x2000;
    return 2;
}

/* As preload/malloc.c does. */
static void *malloc_at(uint64_t where, size_t bytes)
{
    void *block;

    site = where;
    block = counted_malloc(heap_thread, bytes);
    return block ? block : heap_malloc(bytes);
}

static void use_heap(void)
{
    static const size_t sizes[] = {1, 40, 100, 200, 700, 3000, 9000, 40000, 70000, 300000};

    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = heap_malloc(sizes[(unsigned)rand() % 10]);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (rand() % 2) {
            heap_free(blocks[i]);
            blocks[i] = NULL;
        }
}

static void heaps_that_malloc_has_made_are_fine(void)
{
    for (unsigned round = 0; round < 5; round++) {
        use_heap();
        save_heap();
        if (!CHECK_EQ(check_now(), SEVERITY_NONE))
            tap_note("%s at 0x%lx: expected %s, found %s", finding_id(last.kind),
                     last.place.address, last.expected, last.found);
        pool_close(&pool);
    }
}

static void what_is_torn_under_a_lock_is_not_looked_at(void)
{
    uint32_t bin = heap->bins[0];

    heap->bins[0] = 12345678;
    save_heap();
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(last.kind, HP_BIN);
    pool_close(&pool);
    heap->spans_lock.word = (uintptr_t)heap;
    save_heap();
    CHECK_EQ(check_now(), SEVERITY_NONE);
    pool_close(&pool);
    heap->spans_lock.word = 0;
    heap->bins[0] = bin;
}

static void a_lock_that_nobody_can_hold_is_found(void)
{
    heap->threads_lock.word = 1;
    save_heap();
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(last.kind, HP_LOCK);
    pool_close(&pool);
    heap->threads_lock.word = 0;
}

/* After an upgrade, say: nobody is to repair what is whole. */
static void a_heap_of_another_version_is_no_damage(void)
{
    const uint32_t was = heap->version, versions[] = {was - 1, was + 1};

    for (unsigned i = 0; i < 2; i++) {
        heap->version = versions[i];
        save_heap();
        CHECK_EQ(check_now(), SEVERITY_HARMLESS);
        CHECK_EQ(last.kind, HP_VERSION);
        pool_close(&pool);
    }
    heap->version = was;
}

static void a_write_to_a_freed_block_is_found_at_its_slab(void)
{
    uint64_t *block = heap_malloc(48), was;

    heap_free(block);
    was = block[0];
    block[0] = 0x4141414141414141;
    save_heap();
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(last.kind, HP_LIST);
    CHECK_EQ(last.place.address, (uint64_t)block & ~(SLICE_BYTES - 1ull));
    pool_close(&pool);
    block[0] = was;
}

/* --- lies --- */

static void map_saved_heap(void)
{
    static struct image image;
    uint64_t first_page = SLOT_BASE(SLOT) >> FRAME_SHIFT;
    struct pool reader;

    if (pool_open(&reader, scratch_path("pool"), POOL_READ, &why) < 0 ||
        sys_munmap(heap, heap->reserve_bytes) < 0 ||
        image_open(&image, &reader, pool_generation(&reader, 0), &scratch_arena, &why) < 0 ||
        image_map(&image, first_page, first_page + (SLOT_BYTES >> FRAME_SHIFT), &why) < 0)
        _exit(2);
}

/* Samples are taken and dropped, at sites that are known and at others. */
static void use_profile(void)
{
    if (heap_profile(heap) == NULL)
        return;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (i % 3 == 0) {
            heap_free(blocks[i]);
            blocks[i] = malloc_at(i % (2 * SITES), 100 + i);
        }
}

/* Not from one with a lock that is held: whoever holds it would go on, and is not here. */
static void allocate_some(void)
{
    if (heap->spans_lock.word || heap->threads_lock.word || heap->fork_holder ||
        (heap_profile(heap) && heap_profile(heap)->lock.word))
        return;
    use_profile();
    for (size_t bytes = 1; bytes < 1000000; bytes = bytes * 3 / 2 + 1) {
        void *first = heap_malloc(bytes), *second = heap_malloc(bytes);

        heap_free(first);
        heap_free(second);
    }
}

/* In a child: the saved heap in the place of this process's own, walked and allocated from. */
static bool saved_heap_works(void)
{
    static struct heap_census census;
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        alarm(2);
        map_saved_heap();
        if (heap_census(SLOT, &census, &why) < 0)
            _exit(3);
        allocate_some();
        _exit(0);
    }
    return waitpid(child, &status, 0) == child && status == 0;
}

static unsigned tried, called_fine;

/* The word at this address of the heap is `value` in the next generation. */
static void lie_at(uint64_t *word, uint64_t value)
{
    uint64_t was = *word, page = (uintptr_t)word & ~(FRAME_BYTES - 1ull);
    enum severity worst;

    if (value == was)
        return;
    *word = value;
    save_pages(page, page + FRAME_BYTES);
    *word = was;
    commit();
    tried++;
    worst = check_now();
    if (worst != SEVERITY_NONE)
        return;
    called_fine++;
    if (!CHECK(saved_heap_works()))
        tap_note("word at 0x%lx: 0x%lx instead of 0x%lx", (uintptr_t)word, value, was);
}

static void lie_in(uint64_t *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const uint64_t was = words[i];
        const uint64_t lies[] = {0,
                                 1,
                                 UINT64_MAX,
                                 was + 1,
                                 was - 1,
                                 INT64_MAX,
                                 words[(i + 1) % count],
                                 (uintptr_t)&words[i]};

        for (unsigned k = 0; k < sizeof lies / sizeof lies[0]; k++)
            lie_at(&words[i], lies[k]);
        save_pages((uintptr_t)&words[i] & ~(FRAME_BYTES - 1ull),
                   ((uintptr_t)&words[i] & ~(FRAME_BYTES - 1ull)) + FRAME_BYTES);
    }
    commit();
    CHECK_EQ(check_now(), SEVERITY_NONE);
}

static void report_lies(const char *what)
{
    CHECK(longest_ns < HANG_NS);
    tap_note("%s: %u lies, %u of them called fine, and the heap could be used; the longest check "
             "took %lu us",
             what, tried, called_fine, longest_ns / 1000);
    tried = called_fine = 0;
}

static void a_header_may_say_anything(void)
{
    save_heap();
    lie_in((uint64_t *)heap, __builtin_offsetof(struct heap, empty_slab) / 8);
    report_lies("header");
    pool_close(&pool);
}

/* The first span of each kind. */
static void descriptors_may_say_anything(void)
{
    uint32_t seen = 0;

    save_heap();
    for (uint32_t slice = heap->data_slice; slice < heap->top;
         slice += heap_span(heap, slice)->slices) {
        struct span *span = heap_span(heap, slice);

        if (seen >> span->kind & 1)
            continue;
        seen |= 1u << span->kind;
        lie_in((uint64_t *)span, sizeof *span / 8);
    }
    CHECK(seen >> SPAN_SLAB & 1 && seen >> SPAN_LARGE & 1 && seen >> SPAN_FREE & 1);
    report_lies("spans");
    pool_close(&pool);
}

static void thread_heaps_may_say_anything(void)
{
    struct thread_heap *thread = heap_thread_heap(heap, 0);

    save_heap();
    lie_in((uint64_t *)&thread->notified, 2);
    report_lies("thread heap");
    pool_close(&pool);
}

static void free_blocks_may_say_anything(void)
{
    save_heap();
    for (uint32_t slice = heap->data_slice, left = 6; slice < heap->top && left > 0;
         slice += heap_span(heap, slice)->slices) {
        struct span *span = heap_span(heap, slice);

        if (span->kind == SPAN_SLAB && slab_has_free(span)) {
            lie_in((uint64_t *)span->free_head, 2);
            left--;
        }
    }
    report_lies("free blocks");
    pool_close(&pool);
}

/* --- a profile --- */

static struct profile_stack *stack_at(uint32_t number)
{
    return (struct profile_stack *)heap_profile(heap)->stacks.start + (number - 1);
}

static struct profile_sample *sample_at(uint32_t number)
{
    return (struct profile_sample *)heap_profile(heap)->samples.start + (number - 1);
}

static void start_profile(void)
{
    CHECK_OK(heap_profile_start(2048, walk_stack));
    for (unsigned i = 0; i < BLOCKS; i++) {
        heap_free(blocks[i]);
        blocks[i] = malloc_at(i % SITES, 50 + i);
    }
    for (unsigned i = 0; i < BLOCKS; i += 4) {
        heap_free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void a_profile_that_malloc_has_made_is_fine(void)
{
    const struct profile *profile;

    start_profile();
    profile = heap_profile(heap);
    CHECK(profile->stack_count >= SITES / 2 && profile->live > 50 &&
          profile->live < profile->sample_count);
    save_heap();
    if (!CHECK_EQ(check_now(), SEVERITY_NONE))
        tap_note("%s at 0x%lx: expected %s, found %s", finding_id(last.kind), last.place.address,
                 last.expected, last.found);
    pool_close(&pool);
}

static void expect_lie(uint32_t *word, uint32_t value, enum finding_kind kind)
{
    uint64_t page = (uintptr_t)word & ~(FRAME_BYTES - 1ull);
    uint32_t was = *word;

    save_heap();
    *word = value;
    save_pages(page, page + FRAME_BYTES);
    *word = was;
    commit();
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    if (!CHECK_EQ(last.kind, kind))
        tap_note("expected %s, found %s", last.expected, last.found);
    pool_close(&pool);
}

/* One of each kind; a chain that leads in a circle would stop a program that is resumed. */
static void lies_in_a_profile_have_their_ids(void)
{
    struct profile *profile = heap_profile(heap);
    uint32_t bucket = profile_stack_bucket(stack_at(1)->hash);
    struct profile_sample *live = sample_at(1);

    while (live->address == 0)
        live++;
    expect_lie((uint32_t *)&profile->magic, 1, PF_HEADER);
    expect_lie(&profile->stack_count, 1000000, PF_HEADER);
    expect_lie(&profile->live, profile->sample_count + 1, PF_HEADER);
    expect_lie(&stack_at(1)->frame_count, PROFILE_FRAMES_MAX + 1, PF_STACK);
    expect_lie((uint32_t *)&stack_at(1)->frames[0], 7, PF_STACK);
    expect_lie(&live->stack, profile->stack_count + 1, PF_SAMPLE);
    expect_lie(&live->next, (uint32_t)(live - sample_at(1)) + 1, PF_CHAIN);
    expect_lie(&profile->stack_buckets[bucket], 0, PF_CHAIN);
    expect_lie(&stack_at(1)->next, 1, PF_CHAIN);
    expect_lie(&profile->free_sample, 0, PF_CHAIN);
    expect_lie(&profile->live, profile->live - 1, PF_CHAIN);
    expect_lie((uint32_t *)&heap->profile_rate_bytes, 0, PF_HEADER);
    expect_lie((uint32_t *)&heap->profile.start + 1, 0, HP_AREA);
}

static void a_profile_may_say_anything(void)
{
    struct profile *profile = heap_profile(heap);
    unsigned seen = 0;

    save_heap();
    lie_in(&heap->profile_rate_bytes, 1 + sizeof heap->profile / 8);
    lie_in((uint64_t *)profile, __builtin_offsetof(struct profile, stack_buckets) / 8);
    for (unsigned i = 0; i < PROFILE_SAMPLE_BUCKETS && seen < 3; i += 2)
        if (profile->sample_buckets[i]) {
            lie_in((uint64_t *)&profile->sample_buckets[i], 1);
            seen++;
        }
    lie_in((uint64_t *)stack_at(1), 6);
    lie_in((uint64_t *)sample_at(1), 8);
    report_lies("profile");
    pool_close(&pool);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    srand(11);
    heap_profile_reserve();
    if (heap_start(SLOT) < 0 || (heap = (struct heap *)SLOT_BASE(SLOT)) == NULL)
        return 1;
    RUN(heaps_that_malloc_has_made_are_fine);
    RUN(what_is_torn_under_a_lock_is_not_looked_at);
    RUN(a_lock_that_nobody_can_hold_is_found);
    RUN(a_heap_of_another_version_is_no_damage);
    RUN(a_write_to_a_freed_block_is_found_at_its_slab);
    RUN(a_header_may_say_anything);
    RUN(descriptors_may_say_anything);
    RUN(thread_heaps_may_say_anything);
    RUN(free_blocks_may_say_anything);
    RUN(a_profile_that_malloc_has_made_is_fine); /* from here on there is one */
    RUN(lies_in_a_profile_have_their_ids);
    RUN(a_profile_may_say_anything);
    scratch_end();
    return tap_done();
}
