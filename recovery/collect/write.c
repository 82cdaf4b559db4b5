/*
 * write.c - a heap of which blocks were freed, as the next generation of its program.
 *
 * What must always be true: the new generation shows what the one that was looked at shows, but for
 * the pages of the slot that differ from it in memory; and has the same process record.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/heap/profile.h"
#include "recovery/collect/program.h"

#define ARENA_BYTES  (16ull << 30) /* reserved, not used: the frames of very large pools */
#define BUFFER_PAGES 256u

struct saving {
    struct pool *pool;
    uint64_t pages[BUFFER_PAGES], checksums[BUFFER_PAGES];
    uint32_t count;
    uint64_t bytes_written;
    uint8_t *buffer; /* of their contents */
};

static bool is_empty(const uint64_t *page)
{
    for (size_t i = 0; i < PAGE_BYTES / 8; i++)
        if (page[i])
            return false;
    return true;
}

static int flush(struct saving *saving)
{
    int status = 0;

    if (saving->count > 0)
        status = pool_write_pages(saving->pool, saving->pages, saving->checksums, saving->buffer,
                                  saving->count, &saving->bytes_written);
    saving->count = 0;
    return status;
}

static int add_page(struct saving *saving, uint64_t address, uint64_t checksum)
{
    uint32_t place = saving->count++;

    saving->pages[place] = address >> PAGE_SHIFT;
    saving->checksums[place] = checksum;
    memcpy(saving->buffer + (uint64_t)place * PAGE_BYTES, (const void *)address, PAGE_BYTES);
    return saving->count == BUFFER_PAGES ? flush(saving) : 0;
}

static int save_page(struct saving *saving, uint64_t address)
{
    struct pool *pool = saving->pool;
    uint64_t page = address >> PAGE_SHIFT, checksum;
    struct index_entry entry;
    int status = index_lookup(pool->index, page, &entry);

    if (status < 0)
        return status;
    if (is_empty((const uint64_t *)address))
        return entry.frame < FRAME_FIRST ? 0
                                         : index_clear(pool->index, pool->frames, page, page + 1);
    checksum = checksum64((const void *)address, PAGE_BYTES);
    if (entry.frame >= FRAME_FIRST && entry.checksum == checksum)
        return 0;
    return add_page(saving, address, checksum);
}

static int save_range(struct saving *saving, uint64_t start, uint64_t end)
{
    int status = 0;

    for (uint64_t at = start & ~(uint64_t)(PAGE_BYTES - 1); status == 0 && at < end;
         at += PAGE_BYTES)
        status = save_page(saving, at);
    return status;
}

/* Every page that the heap may have changed is in one of these. */
static int save_heap(struct saving *saving, const struct heap *heap)
{
    const struct profile *profile = heap_profile(heap);
    uint64_t base = (uintptr_t)heap;
    const uint64_t ranges[][2] = {
        {base, base + SLICE_BYTES},
        {heap->spans.start, heap->spans.committed_end},
        {heap->dirty_bits.start, heap->dirty_bits.committed_end},
        {heap->thread_heaps.start, heap->thread_heaps.committed_end},
        {heap->data.start, base + ((uint64_t)heap->top << SLICE_SHIFT)},
        {heap->profile.start, profile ? heap->profile.start + sizeof *profile : 0},
        {profile ? profile->samples.start : 0, profile ? profile->samples.committed_end : 0},
    };
    int status = 0;

    for (size_t i = 0; status == 0 && i < sizeof ranges / sizeof ranges[0]; i++)
        status = save_range(saving, ranges[i][0], ranges[i][1]);
    return status == 0 ? flush(saving) : status;
}

/*
 * Crash: as pool_commit(): the generation before, or the new one. Where the program is resumed from
 * either, it finds a heap that is whole.
 */
static int commit(struct pool *pool, const struct generation_entry *from,
                  struct generation_entry *entry, struct problem *why)
{
    uint8_t *record = malloc(from->record_bytes + 1);
    int status = record ? pool_read_record(pool, from, record, why)
                        : problem_set(why, -ENOMEM, "no memory for the process record");

    *entry = (struct generation_entry){
        .kind = from->kind, .slot = from->slot, .time_ns = sys_clock_ns(CLOCK_REALTIME)};
    if (status == 0)
        status = pool_commit(pool, entry, record, from->record_bytes, why);
    free(record);
    return status;
}

static int save_and_commit(struct saving *saving, const struct generation_entry *from,
                           const struct heap *heap, uint64_t *number, struct problem *why)
{
    struct generation_entry entry;
    int status = save_heap(saving, heap);

    if (status < 0)
        return problem_set(why, status, "cannot write to pool '%s': %s; the last generation stays",
                           saving->pool->path, status_text(status));
    status = commit(saving->pool, from, &entry, why);
    *number = entry.number;
    return status;
}

int collect_write(struct pool *pool, const struct generation_entry *from, const struct heap *heap,
                  uint64_t *number, struct problem *why)
{
    struct saving *saving = calloc(1, sizeof *saving);
    struct arena arena;
    int status = arena_create(&arena, ARENA_BYTES);

    if (status < 0) {
        free(saving);
        return problem_set(why, status, "cannot reserve memory: %s", status_text(status));
    }
    if (saving != NULL)
        saving->buffer = malloc((size_t)BUFFER_PAGES * PAGE_BYTES);
    if (saving == NULL || saving->buffer == NULL)
        status = problem_set(why, -ENOMEM, "no memory to write a generation");
    if (status == 0)
        status = pool_load(pool, &arena, from->number, why);
    if (status == 0) {
        saving->pool = pool;
        status = save_and_commit(saving, from, heap, number, why);
    }
    if (saving != NULL)
        free(saving->buffer);
    free(saving);
    arena_destroy(&arena);
    return status;
}
