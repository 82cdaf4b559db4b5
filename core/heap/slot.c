/*
 * slot.c - see slot.h. The slot is reserved with one PROT_NONE mapping; nothing is ever unmapped.
 *
 * Invariant: each area is readable and writable from its start to committed_end, committed_end
 * only grows, and the areas do not overlap.
 */
#include "core/heap/slot.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/heap/profile.h"
#include "core/heap/profile_table.h"

/* Under RLIMIT_AS less is reserved: the program's stacks, libraries and mappings, and the agent,
 * need some of it. What the kernel refuses is halved as often as needed, but not below this. */
#define RESERVE_MIN_BYTES (16ull << 20)
#define RESERVE_UNIT      (1ull << 20)
/* One thread heap for so many bytes of reserve, so that a full slot serves 65,536 threads at once.
 * More would put the data further from the slot's start, and cost descriptors of what lies before.
 */
#define RESERVE_BYTES_PER_THREAD (16ull << 20)
#define THREAD_HEAPS_MIN         512
#define THREAD_HEAPS_SHARE       8 /* but of a small reserve no more than the eighth part */

struct heap_place heap_place;
static const struct span no_span;
uintptr_t heap_spans = (uintptr_t)&no_span;
uint64_t heap_span_mask;

static bool profile_reserved;

void heap_profile_reserve(void)
{
    profile_reserved = true;
}

static uint64_t slot_round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

/* Five eighths of RLIMIT_AS, if there is such a limit. */
static uint64_t slot_reserve_wanted(void)
{
    struct rlimit64 limit = {RLIM64_INFINITY, RLIM64_INFINITY};
    uint64_t bytes;

    (void)sys_call(SYS_prlimit64, 0, RLIMIT_AS, 0, &limit);
    bytes = limit.rlim_cur / 8 * 5 & ~(RESERVE_UNIT - 1);
    if (bytes < RESERVE_MIN_BYTES)
        return RESERVE_MIN_BYTES;
    return bytes < SLOT_BYTES ? bytes : SLOT_BYTES;
}

static int slot_reserve(uintptr_t base, uint64_t *reserve_bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    long mapped;

    for (uint64_t bytes = slot_reserve_wanted();; bytes = bytes / 2 & ~(RESERVE_UNIT - 1)) {
        mapped = (long)sys_mmap((void *)base, bytes, PROT_NONE, flags, -1, 0);
        if (!sys_failed(mapped)) {
            *reserve_bytes = bytes;
            break;
        }
        if (mapped != -ENOMEM || bytes / 2 < RESERVE_MIN_BYTES)
            return (int)mapped;
    }
    if ((uintptr_t)mapped == base)
        return 0;
    /* A kernel before 4.17 takes the address as a hint. */
    (void)sys_munmap((void *)mapped, *reserve_bytes);
    return -EEXIST;
}

static void slot_area(struct area *area, uint64_t *cursor, uint64_t bytes)
{
    area->start = area->committed_end = *cursor;
    area->limit = *cursor = *cursor + slot_round_up(bytes, PAGE_BYTES);
}

static uint64_t power_of_two_from(uint64_t value)
{
    uint64_t power = 1;

    while (power < value)
        power *= 2;
    return power;
}

static uint64_t slot_secret(uintptr_t base)
{
    uint64_t secret = 0;

    if (sys_call(SYS_getrandom, &secret, sizeof secret, 1 /* GRND_NONBLOCK */) != sizeof secret)
        secret = sys_clock_ns(CLOCK_MONOTONIC) * 0x9e3779b97f4a7c15ull ^ base;
    return secret;
}

/* Takes it from the end of the data area. */
static void slot_lay_out_profile(struct heap *heap)
{
    uint64_t bytes = heap->reserve_bytes / PROFILE_RESERVE_PART, cursor;

    if (bytes < PROFILE_RESERVE_MIN_BYTES)
        bytes = PROFILE_RESERVE_MIN_BYTES;
    cursor = heap->data.limit -= bytes;
    slot_area(&heap->profile, &cursor, bytes);
}

/* Behind the data, so that the slices of the data have low numbers. */
static void slot_lay_out_free_bits(struct heap *heap)
{
    uint64_t slices = (heap->data.limit - heap->data.start) >> SLICE_SHIFT, cursor;

    cursor = heap->data.limit -= slot_round_up(slices * FREE_BITS_BYTES, SLICE_BYTES);
    slot_area(&heap->free_bits, &cursor, slices * FREE_BITS_BYTES);
}

static void slot_lay_out(struct heap *heap, uint64_t reserve_bytes)
{
    uintptr_t base = (uintptr_t)heap;
    uint64_t slices = reserve_bytes >> SLICE_SHIFT;
    uint64_t threads = reserve_bytes / RESERVE_BYTES_PER_THREAD;
    uint64_t cursor = base + SPANS_OFFSET;

    if (threads < THREAD_HEAPS_MIN)
        threads = THREAD_HEAPS_MIN;
    if (threads > reserve_bytes / THREAD_HEAPS_SHARE / THREAD_HEAP_STRIDE)
        threads = reserve_bytes / THREAD_HEAPS_SHARE / THREAD_HEAP_STRIDE;
    heap->reserve_bytes = reserve_bytes;
    heap->slice_count = (uint32_t)slices;
    slot_area(&heap->spans, &cursor, power_of_two_from(slices) * sizeof(struct span));
    slot_area(&heap->dirty_bits, &cursor, slices / 8);
    slot_area(&heap->thread_heaps, &cursor, threads * THREAD_HEAP_STRIDE);
    cursor = slot_round_up(cursor, SLICE_BYTES);
    slot_area(&heap->data, &cursor, base + reserve_bytes - cursor);
    if (profile_reserved)
        slot_lay_out_profile(heap);
    slot_lay_out_free_bits(heap);
    heap->data_slice = (uint32_t)((heap->data.start - base) >> SLICE_SHIFT);
    heap->top = heap->data_slice;
}

int slot_create(uint32_t slot, struct heap **out)
{
    uintptr_t base = SLOT_BASE(slot);
    struct heap *heap = (struct heap *)base;
    uint64_t reserve_bytes;
    int status = slot_reserve(base, &reserve_bytes);

    if (status < 0)
        return status;
    status = sys_mprotect(heap, PAGE_BYTES, PROT_READ | PROT_WRITE);
    if (status < 0) {
        (void)sys_munmap(heap, reserve_bytes);
        return status;
    }
    slot_lay_out(heap, reserve_bytes);
    heap->version = HEAP_VERSION;
    heap->slot = slot;
    heap->secret = slot_secret(base);
    lock_init(&heap->spans_lock, LOCK_RANK_SPANS);
    lock_init(&heap->threads_lock, LOCK_RANK_THREAD_HEAPS);
    heap->empty_slab.free_head = (uintptr_t)&heap->empty_slab | LIST_END_BIT;
    heap->empty_slab.start_key = UINT64_MAX;
    heap->magic = HEAP_MAGIC;
    *out = heap;
    return 0;
}

bool slot_commit(struct area *area, uint64_t end, uint64_t step_bytes)
{
    uint64_t from = area->committed_end;
    uint64_t least = slot_round_up(end, PAGE_BYTES);
    uint64_t most = slot_round_up(from + step_bytes, PAGE_BYTES);

    if (end <= from)
        return true;
    if (least > area->limit)
        return false;
    if (most < least)
        most = least;
    if (most > area->limit)
        most = area->limit;
    if (sys_mprotect((void *)from, most - from, PROT_READ | PROT_WRITE) < 0) {
        most = least;
        if (sys_mprotect((void *)from, most - from, PROT_READ | PROT_WRITE) < 0)
            return false;
    }
    area->committed_end = most;
    return true;
}

bool slot_describe(struct heap *heap, uint64_t slices)
{
    uint64_t bytes = power_of_two_from(slices) * sizeof(struct span);

    if (!slot_commit(&heap->spans, heap->spans.start + bytes, 0))
        return false;
    /* Before any block of the new slices can be freed, so whoever frees one finds it described. */
    heap_spans = heap->spans.start;
    __atomic_store_n(&heap_span_mask, bytes - sizeof(struct span), __ATOMIC_RELEASE);
    __atomic_store_n(&heap_place.slice_count, bytes / sizeof(struct span), __ATOMIC_RELEASE);
    return true;
}

bool slot_drop(const struct heap *heap, uintptr_t start, uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

    if (!heap->restored) {
        int status = sys_madvise((void *)start, bytes, MADV_DONTNEED);

        /* An image may have been cut between the look and the call. */
        if (!heap->restored)
            return status == 0;
    }
    return !sys_failed((long)sys_mmap((void *)start, bytes, PROT_READ | PROT_WRITE, flags, -1, 0));
}
