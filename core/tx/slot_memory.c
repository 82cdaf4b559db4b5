/*
 * slot_memory.c - see slot_memory.h.
 */
#include "core/tx/slot_memory.h"

#include <errno.h>
#include "core/base/checksum.h"
#include "core/base/slot_choice.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"

#define RESERVE_MIN_BYTES (1ull << 30)
#define SPAN_BYTES        ((uint64_t)sizeof(struct tx_span))
#define RUN_PAGES         64u /* read in one call, and still in the cache when they are summed */
#define POPULATE_WRITE    23  /* MADV_POPULATE_WRITE of Linux 5.14 */

static int reserve_at(uintptr_t base, uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    void *mapped = sys_mmap((void *)base, bytes, PROT_NONE, flags, -1, 0);

    if (sys_failed((long)mapped))
        return (int)(long)mapped;
    if ((uintptr_t)mapped == base)
        return 0;
    (void)sys_munmap(mapped, bytes); /* a kernel before 4.17 takes the address as a hint */
    return -EEXIST;
}

static int make_accessible(uintptr_t start, uintptr_t end)
{
    return start < end ? sys_mprotect((void *)start, end - start, PROT_READ | PROT_WRITE) : 0;
}

int slot_memory_reserve(struct slot_memory *memory, uint32_t slot)
{
    uintptr_t base = SLOT_BASE(slot);
    uint64_t bytes = (uint64_t)TX_SLICES_MAX * SLICE_BYTES;
    int status;

    while ((status = reserve_at(base, bytes)) == -ENOMEM && bytes > RESERVE_MIN_BYTES)
        bytes /= 2;
    if (status < 0)
        return status;
    *memory = (struct slot_memory){
        .base = base, .reserve_bytes = bytes, .slices_max = (uint32_t)(bytes >> SLICE_SHIFT)};
    status = make_accessible(base, base + SLICE_BYTES);
    if (status < 0)
        slot_memory_release(memory);
    return status;
}

void slot_memory_release(struct slot_memory *memory)
{
    if (memory->base)
        (void)sys_munmap((void *)memory->base, memory->reserve_bytes);
    *memory = (struct slot_memory){0};
}

uint32_t slot_memory_choose(void)
{
    uint64_t random = (uint64_t)sys_clock_ns(CLOCK_MONOTONIC);

    (void)sys_call(SYS_getrandom, &random, sizeof random, 0); /* the clock will do */
    for (uint32_t i = 0; i < SLOTS_FOR_OPENED; i++) {
        uint32_t slot = slot_for_opened(random % SLOTS_FOR_OPENED + i);

        if (reserve_at(SLOT_BASE(slot), SLICE_BYTES) < 0)
            continue;
        (void)sys_munmap((void *)SLOT_BASE(slot), SLICE_BYTES);
        return slot;
    }
    return slot_for_process(random);
}

static uintptr_t spans_end(const struct slot_memory *memory, uint64_t slices)
{
    return memory->base + TX_SPANS_OFFSET + slices * SPAN_BYTES;
}

static uintptr_t data_end(const struct slot_memory *memory, uint64_t slices)
{
    return memory->base + (slices > TX_DATA_SLICE ? slices : TX_DATA_SLICE) * SLICE_BYTES;
}

int slot_memory_extend(struct slot_memory *memory, uint64_t slices)
{
    uint64_t from = memory->slices;
    uint64_t wanted = (slices + SLOT_STEP_SLICES - 1) & ~(uint64_t)(SLOT_STEP_SLICES - 1);
    int status;

    if (slices <= from)
        return 0;
    if (wanted > memory->slices_max)
        return -ENOMEM;
    if (wanted < from + from / 4 && from + from / 4 <= memory->slices_max)
        wanted = (from + from / 4) & ~(uint64_t)(SLOT_STEP_SLICES - 1);
    status = make_accessible(spans_end(memory, from), spans_end(memory, wanted));
    if (status == 0)
        status = make_accessible(data_end(memory, from), data_end(memory, wanted));
    if (status == 0)
        __atomic_store_n(&memory->slices, (uint32_t)wanted, __ATOMIC_RELEASE);
    return status;
}

/* --- filling --- */

/* How many slices must be accessible for this page to be; 0: the first slice will do. */
static uint64_t slices_for(const struct slot_memory *memory, uint64_t page)
{
    uint64_t offset = (page << PAGE_SHIFT) - memory->base;

    if (offset < TX_SPANS_OFFSET)
        return 0;
    if (offset < (uint64_t)TX_DATA_SLICE * SLICE_BYTES)
        return (offset + PAGE_BYTES - TX_SPANS_OFFSET) / SPAN_BYTES;
    return (offset >> SLICE_SHIFT) + 1;
}

static int extend_for(struct slot_memory *memory, const struct image_plan *plan)
{
    uint64_t slices = 0;

    for (uint64_t i = 0; i < plan->fill_count; i++)
        if (slices_for(memory, plan->fills[i].page) > slices)
            slices = slices_for(memory, plan->fills[i].page);
    return slot_memory_extend(memory, slices);
}

/* Pages from here on that lie side by side in memory and in the pool. */
static uint64_t count_neighbours(const struct image_plan *plan, uint64_t first)
{
    const struct plan_fill *fills = plan->fills + first;
    uint64_t count = 1;

    while (first + count < plan->fill_count && count < RUN_PAGES &&
           fills->entry.frame > FRAME_ZERO && fills[count].page == fills->page + count &&
           fills[count].entry.frame == fills->entry.frame + count)
        count++;
    return count;
}

static bool are_whole(const struct plan_fill *fills, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (checksum64((void *)(fills[i].page << PAGE_SHIFT), PAGE_BYTES) !=
            fills[i].entry.checksum)
            return false;
    return true;
}

/* Several in one call, into memory that is made in one call. What is not as it should be is read
 * page by page, which says what is wrong. */
static int read_neighbours(const struct pool *pool, const struct plan_fill *fills, uint64_t count,
                           struct problem *why)
{
    void *start = (void *)(fills->page << PAGE_SHIFT);
    uint64_t bytes = count << PAGE_SHIFT;
    int status = 0;

    if (count > 1) {
        (void)sys_madvise(start, bytes, POPULATE_WRITE);
        if (sys_pread_all(pool->fd, start, bytes, fills->entry.frame << FRAME_SHIFT) == 0 &&
            are_whole(fills, count))
            return 0;
    }
    for (uint64_t i = 0; status == 0 && i < count; i++)
        status = pool_read_page(pool, fills[i].entry, (uint8_t *)start + (i << PAGE_SHIFT), why);
    return status;
}

static int no_room(const struct image *image, int status, struct problem *why)
{
    return problem_set(why, status, "cannot make room for the heap of pool '%s': %s",
                       image->pool->path, status_text(status));
}

/* Of a large block that was never written to, or holds zeroes, the image has the span's first entry
 * alone, and the last one may reach beyond what the pages tell. */
static int extend_for_last_block(struct slot_memory *memory)
{
    const struct tx_span *spans = (const struct tx_span *)(memory->base + TX_SPANS_OFFSET);
    uint32_t slice = memory->slices;

    while (slice > TX_DATA_SLICE && spans[slice - 1].kind == TX_NONE)
        slice--;
    if (slice <= TX_DATA_SLICE || spans[slice - 1].kind != TX_LARGE)
        return 0;
    slice--;
    if (spans[slice].slices > memory->slices_max - slice)
        return 0; /* blocks_derive() says so */
    return slot_memory_extend(memory, (uint64_t)slice + spans[slice].slices);
}

int slot_memory_fill(struct slot_memory *memory, struct image *image, struct problem *why)
{
    uint64_t first = memory->base >> PAGE_SHIFT;
    uint64_t end = first + (memory->reserve_bytes >> PAGE_SHIFT);
    struct image_plan plan;
    int status = image_plan(image, first, end, false, &plan, why);

    if (status < 0)
        return status;
    status = extend_for(memory, &plan);
    if (status < 0)
        return no_room(image, status, why);
    for (uint64_t i = 0, count; status == 0 && i < plan.fill_count; i += count) {
        count = count_neighbours(&plan, i);
        status = read_neighbours(image->pool, &plan.fills[i], count, why);
    }
    if (status < 0)
        return status;
    status = extend_for_last_block(memory);
    return status < 0 ? no_room(image, status, why) : 0;
}

int slot_memory_empty(struct slot_memory *memory)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    void *mapped = sys_mmap((void *)memory->base, memory->reserve_bytes, PROT_NONE, flags, -1, 0);

    if (sys_failed((long)mapped))
        return (int)(long)mapped;
    memory->slices = 0;
    return make_accessible(memory->base, memory->base + SLICE_BYTES);
}

int slot_memory_seal(const struct slot_memory *memory)
{
    uintptr_t ranges[3][2] = {
        {memory->base, memory->base + SLICE_BYTES},
        {spans_end(memory, 0), spans_end(memory, memory->slices)},
        {data_end(memory, 0), data_end(memory, memory->slices)},
    };
    int status = 0;

    for (int i = 0; status == 0 && i < 3; i++)
        if (ranges[i][0] < ranges[i][1])
            status = sys_mprotect((void *)ranges[i][0], ranges[i][1] - ranges[i][0], PROT_READ);
    return status;
}

bool slot_memory_may_write(const struct slot_memory *memory, uintptr_t address, uint64_t bytes)
{
    uintptr_t roots = memory->base + TX_ROOTS_OFFSET;
    uintptr_t roots_end = roots + TX_ROOTS * sizeof(struct tx_root);
    uintptr_t start = data_end(memory, 0);
    uintptr_t end = data_end(memory, __atomic_load_n(&memory->slices, __ATOMIC_ACQUIRE));
    uintptr_t types = memory->base + TX_TYPES_OFFSET;
    uintptr_t types_end = types + TX_TYPES * sizeof(struct tx_type);

    if (address >= roots && address < roots_end)
        return bytes <= roots_end - address;
    if (address >= types && address < types_end)
        return bytes <= types_end - address;
    return address >= start && address < end && bytes <= end - address;
}
