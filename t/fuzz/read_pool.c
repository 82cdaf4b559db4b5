/*
 * read_pool.c - fuzz target: the readers of a pool that a restore uses. Superblock, index and
 * deltas, plan, pages, record: each says no, or what it gave can be used.
 */
#include <stdlib.h>
#include <string.h>
#include "core/base/arena.h"
#include "core/heap/heap.h"
#include "core/image/image_reader.h"
#include "core/process/process_image.h"
#include "recovery/restore/job.h"
#include "t/fuzz/packed_pool.h"
#include "t/fuzz/target.h"

#define ARENA_BYTES (1ull << 30)
#define PAGES_READ  64u

static struct pool pool;
static struct arena arena;
static struct problem why;

static void must_say_why(int status)
{
    if (status < 0 && why.text[0] == 0)
        abort();
    why = (struct problem){0};
}

/* What is planned can be mapped and read. */
static void look_at_plan(const struct image_plan *plan, uint64_t first, uint64_t end)
{
    uint8_t page[FRAME_BYTES];
    uint64_t after = first;

    for (uint64_t i = 0; i < plan->extent_count; i++) {
        const struct plan_extent *extent = &plan->extents[i];

        if (extent->page < after || extent->pages == 0 || extent->pages > end - extent->page ||
            extent->frame < FRAME_FIRST ||
            extent->pages > pool_frames_present(&pool) - extent->frame)
            abort();
        after = extent->page + extent->pages;
    }
    for (uint64_t i = 0; i < plan->fill_count; i++) {
        if (plan->fills[i].page < first || plan->fills[i].page >= end)
            abort();
        if (i < PAGES_READ)
            must_say_why(pool_read_page(&pool, plan->fills[i].entry, page, &why));
    }
}

static void plan(struct image *image, uint64_t first, uint64_t end, bool may_map)
{
    uintptr_t mark = arena_mark(&arena);
    struct image_plan plan;
    int status = image_plan(image, first, end, may_map, &plan, &why);

    if (status == 0)
        look_at_plan(&plan, first, end);
    must_say_why(status);
    arena_rewind(&arena, mark);
}

static void read_record(const struct generation_entry *entry)
{
    uintptr_t mark = arena_mark(&arena);
    struct process_image process;
    void *record = arena_alloc(&arena, entry->record_bytes, 16);
    int status;

    if (record == NULL)
        return;
    status = pool_read_record(&pool, entry, record, &why);
    must_say_why(status);
    if (status == 0)
        must_say_why(process_image_read(&process, record, entry->record_bytes, &arena, &why));
    arena_rewind(&arena, mark);
}

static void read_generation(const struct generation_entry *entry)
{
    const uint64_t slot = SLOT_BASE(entry->slot) >> PAGE_SHIFT;
    const uint64_t slot_end = slot + (SLOT_BYTES >> PAGE_SHIFT);
    uintptr_t mark = arena_mark(&arena);
    struct image image;
    int status = image_open(&image, &pool, entry, &arena, &why);

    must_say_why(status);
    if (status == 0) {
        plan(&image, 0, slot, false);
        plan(&image, slot, slot_end, true);
        plan(&image, slot_end, PROCESS_ADDRESS_LIMIT >> PAGE_SHIFT, false);
    }
    read_record(entry);
    arena_rewind(&arena, mark);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = packed_pool_write(data, size);
    struct generation_entry chosen;
    int status;

    if (arena.base == 0 && arena_create(&arena, ARENA_BYTES) < 0)
        abort();
    status = pool_open(&pool, path, POOL_READ, &why);
    must_say_why(status);
    if (status < 0)
        return 0;
    must_say_why(resume_choose(&pool.super, 0, &chosen, &why));
    for (uint32_t i = 0; i < pool.super.generation_count; i++)
        read_generation(&pool.super.generations[i]);
    pool_close(&pool);
    return 0;
}
