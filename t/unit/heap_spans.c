/*
 * heap_spans.c - runs of slices: fit, give back, coalesce, grow, purge, alignment.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/heap/heap.h"
#include "core/heap/slot.h"
#include "core/heap/spans.h"
#include "core/heap/validate.h"
#include "t/lib/tap.h"

static struct heap *heap;

static struct span *take_aligned(uint32_t slices, uint32_t align_slices)
{
    struct span_request request = {slices, align_slices, SPAN_LARGE};
    bool is_zero = false;
    struct span *span = spans_alloc(heap, &request, &is_zero);

    if (span)
        span->large_bytes = (uint64_t)slices * SLICE_BYTES;
    return span;
}

static struct span *take(uint32_t slices)
{
    return take_aligned(slices, 1);
}

static void give(struct span *span)
{
    spans_free(heap, span, span->slices);
}

static void check_valid(void)
{
    struct problem why = {0};

    CHECK_EQ(validate_spans(heap, &why), 0);
    if (why.status)
        tap_note("%s", why.text);
}

static void five_slices_cost_five(void)
{
    struct span *first = take(5), *second = take(5);

    CHECK_EQ(second - first, 5);
    check_valid();
    give(first);
    give(second);
    check_valid();
}

static void a_freed_run_is_used_again_and_its_tail_given_back(void)
{
    struct span *hole = take(16), *guard = take(1), *part;

    give(hole);
    part = take(3);
    CHECK(part == hole);
    check_valid();
    CHECK_EQ(heap_span(heap, heap_slice_of(heap, hole) + 3)->kind, SPAN_FREE);
    CHECK_EQ(heap_span(heap, heap_slice_of(heap, hole) + 3)->slices, 13);
    give(part);
    give(guard);
    check_valid();
}

static void neighbours_coalesce_in_any_order(void)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    for (int i = 0; i < 6; i++) {
        struct span *parts[3] = {take(3), take(5), take(7)}, *guard = take(1), *whole;

        CHECK_EQ(parts[2] - parts[0], 8);
        for (int j = 0; j < 3; j++)
            give(parts[orders[i][j]]);
        check_valid();
        whole = take(15);
        CHECK(whole == parts[0]);
        give(whole);
        give(guard);
        check_valid();
    }
}

static void the_same_odd_size_again_and_again_takes_no_more_address_space(void)
{
    struct span *guard, *span = take(9600);
    uint32_t top;

    guard = take(1);
    top = heap->top;
    for (int i = 0; i < 100; i++) {
        give(span);
        span = take(9600);
    }
    CHECK_EQ(heap->top, top);
    give(span);
    give(guard);
    check_valid();
}

static void alignment_up_to_a_gibibyte_is_kept(void)
{
    for (uint32_t align = 1; align <= RUN_ALIGN_MAX_BYTES / SLICE_BYTES; align *= 2) {
        struct span *span = take_aligned(3, align);

        CHECK(span != NULL);
        CHECK_EQ(heap_span_address(heap, span) % ((uint64_t)align * SLICE_BYTES), 0);
        check_valid();
        give(span);
    }
    check_valid();
}

static void a_span_grows_into_the_free_run_behind_it(void)
{
    struct span *span = take(4), *behind = take(6), *guard = take(1);

    CHECK(!spans_grow(heap, span, 5));
    give(behind);
    CHECK(spans_grow(heap, span, 9));
    CHECK_EQ(span->slices, 9);
    CHECK(!spans_grow(heap, span, 11));
    check_valid();
    CHECK(spans_grow(heap, span, 10));
    check_valid();
    span->large_bytes = SLICE_BYTES;
    spans_shrink(heap, span, 2);
    check_valid();
    give(span);
    give(guard);
    check_valid();
}

static void the_last_span_grows_into_what_was_never_used(void)
{
    struct span *span = take(heap->slice_count / 1024);

    CHECK(heap_slice_of(heap, span) + span->slices == heap->top);
    CHECK(spans_grow(heap, span, span->slices + 100));
    CHECK_EQ(heap_slice_of(heap, span) + span->slices, heap->top);
    memset((void *)(heap_span_address(heap, span) + ((uint64_t)(span->slices - 1) << SLICE_SHIFT)),
           1, SLICE_BYTES);
    check_valid();
    give(span);
    check_valid();
}

static void purged_memory_reads_as_zero_and_is_known_to(void)
{
    struct span *span = take(20), *again;
    struct span_request request = {20, 1, SPAN_LARGE};
    uint8_t *bytes = (uint8_t *)heap_span_address(heap, span);
    bool is_zero = false;

    memset(bytes, 0xa5, 20 * SLICE_BYTES);
    give(span);
    check_valid();
    again = spans_alloc(heap, &request, &is_zero);
    CHECK(again == span);
    CHECK(!is_zero);
    again->large_bytes = 20 * SLICE_BYTES;
    give(again);
    CHECK(spans_purge(heap, 0) >= 20 * SLICE_BYTES);
    check_valid(); /* looks at a word of each page of clean slices */
    again = spans_alloc(heap, &request, &is_zero);
    CHECK(again == span);
    CHECK(is_zero);
    CHECK_EQ(bytes[0], 0);
    CHECK_EQ(bytes[20 * SLICE_BYTES - 1], 0);
    again->large_bytes = 20 * SLICE_BYTES;
    give(again);
}

static void purging_after_a_restore_maps_over_the_pages(void)
{
    struct span *span = take(20);
    uint8_t *bytes = (uint8_t *)heap_span_address(heap, span);

    memset(bytes, 0xa5, 20 * SLICE_BYTES);
    give(span);
    heap_note_restored();
    CHECK(spans_purge(heap, 0) >= 20 * SLICE_BYTES);
    heap->restored = 0;
    check_valid();
    CHECK_EQ(bytes[5], 0);
    span = take(20);
    bytes[5] = 1; /* still writable */
    give(span);
}

static void a_run_is_purged_only_when_it_has_been_free_for_two_epochs(void)
{
    struct span *span = take(20), *guard = take(1);

    (void)spans_purge(heap, 0);
    memset((void *)heap_span_address(heap, span), 1, 20 * SLICE_BYTES);
    give(span);
    CHECK_EQ(spans_purge(heap, 2), 0);
    heap->epoch++;
    CHECK_EQ(spans_purge(heap, 2), 0);
    heap->epoch++;
    CHECK(spans_purge(heap, 2) >= 20 * SLICE_BYTES);
    give(guard);
}

static void memory_next_to_a_busy_span_is_purged_all_the_same(void)
{
    struct span *large = take(100), *busy;

    (void)spans_purge(heap, 0);
    give(large);
    for (int i = 0; i < 2; i++) {
        busy = take(1); /* out of the run that was freed, and back into it */
        heap->epoch++;
        give(busy);
    }
    CHECK(spans_purge(heap, 2) >= 99 * SLICE_BYTES);
    check_valid();
}

static void zeroing_touches_only_what_is_dirty(void)
{
    struct span *dirty = take(2), *clean = take(2), *guard = take(1), *span;
    uint8_t *bytes = (uint8_t *)heap_span_address(heap, dirty);

    (void)clean;
    memset(bytes, 0x5a, 2 * SLICE_BYTES);
    spans_free(heap, clean, 0);
    spans_free(heap, dirty, 2);
    span = take(4);
    CHECK(span == dirty);
    spans_zero(heap, span, (uintptr_t)bytes + 192, 4 * SLICE_BYTES - 1000);
    CHECK_EQ(bytes[191], 0x5a);
    for (uint32_t i = 192; i < 2 * SLICE_BYTES; i += 4096)
        CHECK_EQ(bytes[i], 0);
    give(span);
    give(guard);
    check_valid();
}

static void more_than_the_slot_is_refused(void)
{
    CHECK(take(heap->slice_count) == NULL);
    CHECK(take(UINT32_MAX) == NULL);
    check_valid();
}

/* By the bins, where the census goes by the descriptors. */
static bool bins_agree(const struct heap_free_runs *runs)
{
    uint64_t all = 0, largest = 0;

    for (uint32_t bin = 0; bin < RUN_BINS; bin++) {
        uint64_t count = 0, slices = 0;

        for (uint32_t run = heap->bins[bin]; run; run = heap_span(heap, run)->next) {
            count++;
            slices += heap_span(heap, run)->slices;
            if (heap_span(heap, run)->slices > largest)
                largest = heap_span(heap, run)->slices;
        }
        if (count != runs->orders[bin].runs || slices * SLICE_BYTES != runs->orders[bin].bytes)
            return false;
        all += count;
    }
    return all == runs->all.runs && heap->free_slices * SLICE_BYTES == runs->all.bytes &&
           largest * SLICE_BYTES == runs->largest_bytes;
}

static void free_runs_are_counted_by_order(void)
{
    static struct heap_census census;
    struct span *holes[3] = {take(20), take(20), take(5)}, *guard;

    CHECK_OK(heap_census(heap->slot, &census, NULL));
    CHECK(bins_agree(&census.free_runs));
    guard = take(1);
    give(holes[0]);
    give(holes[2]);
    CHECK_OK(heap_census(heap->slot, &census, NULL));
    CHECK(census.free_runs.all.runs > 0 && bins_agree(&census.free_runs));
    CHECK_EQ(census.totals.free_bytes, census.free_runs.all.bytes);
    heap_span(heap, heap_slice_of(heap, holes[1]))->kind = SPAN_ASIDE;
    CHECK_OK(heap_census(heap->slot, &census, NULL));
    heap_span(heap, heap_slice_of(heap, holes[1]))->kind = SPAN_LARGE;
    CHECK_EQ(census.free_runs.aside.bytes, 20 * SLICE_BYTES);
    CHECK(bins_agree(&census.free_runs));
    give(holes[1]);
    give(guard);
    check_valid();
}

/* In a fresh heap: 1, 2 and 3 slices make orders 0, 1 and 1; of two runs of 20 the lower one is
 * the largest. */
static int a_known_layout(void)
{
    static const uint32_t lengths[] = {20, 1, 2, 3, 20};
    static struct heap_census census;
    const struct heap_free_runs *runs = &census.free_runs;
    struct span *holes[5];
    uint32_t top;

    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    heap = heap_here();
    for (int i = 0; i < 5; i++) {
        holes[i] = take(lengths[i]);
        top = heap_slice_of(heap, take(1)) + 1;
    }
    for (int i = 4; i >= 0; i--)
        give(holes[i]);
    if (heap_census(heap->slot, &census, NULL) < 0 || runs->all.runs != 5 ||
        runs->all.bytes != 46 * SLICE_BYTES || runs->aside.runs != 0)
        return 2;
    if (runs->orders[0].runs != 1 || runs->orders[1].runs != 2 || runs->orders[4].runs != 2 ||
        runs->orders[1].bytes != 5 * SLICE_BYTES || runs->orders[4].bytes != 40 * SLICE_BYTES)
        return 3;
    if (runs->largest_bytes != 20 * SLICE_BYTES ||
        runs->largest_address != heap_span_address(heap, holes[0]))
        return 4;
    return runs->untouched_bytes == heap->data.limit - heap_slice_address(heap, top) ? 0 : 5;
}

static void a_layout_that_is_known_is_told(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(a_known_layout());
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_EQ(status, 0);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_layout_that_is_known_is_told);
    if (heap_start(SLOT_VOLATILE) < 0)
        return 1;
    heap = heap_here();
    RUN(five_slices_cost_five);
    RUN(a_freed_run_is_used_again_and_its_tail_given_back);
    RUN(neighbours_coalesce_in_any_order);
    RUN(the_same_odd_size_again_and_again_takes_no_more_address_space);
    RUN(alignment_up_to_a_gibibyte_is_kept);
    RUN(a_span_grows_into_the_free_run_behind_it);
    RUN(the_last_span_grows_into_what_was_never_used);
    RUN(purged_memory_reads_as_zero_and_is_known_to);
    RUN(purging_after_a_restore_maps_over_the_pages);
    RUN(a_run_is_purged_only_when_it_has_been_free_for_two_epochs);
    RUN(memory_next_to_a_busy_span_is_purged_all_the_same);
    RUN(zeroing_touches_only_what_is_dirty);
    RUN(more_than_the_slot_is_refused);
    RUN(free_runs_are_counted_by_order);
    return tap_done();
}
