/*
 * stage.c - see stage.h. What must hold: a page leaves a stage only into the index (it is there
 * already, it is zero, it is written) or back to the caller (it could not be read); after a failure
 * the caller drops the stage and suspects every page.
 */
#include "core/image/stage.h"

#include <errno.h>
#include <string.h>

#include "core/base/checksum.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int stage_create(struct stage *stage, struct arena *arena, struct pool *pool, uint64_t limit)
{
    *stage = (struct stage){.pool = pool, .limit = limit};
    stage->data = arena_alloc(arena, limit * PAGE_BYTES, PAGE_BYTES);
    stage->pages = arena_alloc(arena, limit * sizeof(uint64_t), 64);
    stage->checksums = arena_alloc(arena, limit * sizeof(uint64_t), 64);
    return stage->data && stage->pages && stage->checksums ? 0 : -ENOMEM;
}

/* Moves page `from` of the stage to place `to`. */
static void move_page(struct stage *stage, uint64_t to, uint64_t from)
{
    if (to == from)
        return;
    stage->pages[to] = stage->pages[from];
    stage->checksums[to] = stage->checksums[from];
    memcpy(stage->data + to * PAGE_BYTES, stage->data + from * PAGE_BYTES, PAGE_BYTES);
}

int stage_read(struct stage *stage, struct memory *memory, stage_unread *unread, void *context)
{
    uint64_t from = stage->read_count, kept = from;
    uint64_t failed = memory_read(memory, stage->pages + from, stage->named - from,
                                  stage->data + from * PAGE_BYTES);
    int status = 0;

    if (stage->touched < stage->named)
        stage->touched = stage->named;
    if (failed == 0) {
        stage->read_count = stage->named;
        return 0;
    }
    for (uint64_t i = from; i < stage->named && status >= 0; i++) {
        if (stage->pages[i] & MEMORY_UNREAD)
            status = unread(context, stage->pages[i] & ~MEMORY_UNREAD);
        else
            move_page(stage, kept++, i);
    }
    stage->read_count = stage->named = kept;
    return status;
}

static bool is_zero(const uint8_t *page)
{
    uint64_t first = 0;

    memcpy(&first, page, sizeof first);
    return first == 0 && memcmp(page, page + sizeof first, PAGE_BYTES - sizeof first) == 0;
}

bool stage_entry_shows(uint64_t page_and_flags, const struct index_entry *entry, const void *data)
{
    if (is_zero(data))
        return entry->frame == (page_and_flags & MEMORY_FILE ? FRAME_ZERO : FRAME_NONE);
    return entry->frame >= FRAME_FIRST && entry->checksum == checksum64(data, PAGE_BYTES);
}

int stage_compare_one(struct stage *stage, uint64_t page_and_flags, const void *data,
                      uint64_t *checksum)
{
    struct pool *pool = stage->pool;
    uint64_t page = page_and_flags & MEMORY_PAGE_MASK;
    uint64_t zero_frame = page_and_flags & MEMORY_FILE ? FRAME_ZERO : FRAME_NONE;
    struct index_entry entry = {FRAME_NONE, 0};
    int status = index_lookup(pool->index, page, &entry);

    if (status < 0)
        return status;
    if (!is_zero(data)) {
        *checksum = checksum64(data, PAGE_BYTES);
        return entry.frame < FRAME_FIRST || entry.checksum != *checksum;
    }
    if (entry.frame == zero_frame)
        return 0;
    if (zero_frame == FRAME_NONE)
        return index_clear(pool->index, pool->frames, page, page + 1);
    return index_set(pool->index, pool->frames, page, (struct index_entry){zero_frame, 0});
}

int stage_compare(struct stage *stage)
{
    uint64_t kept = stage->compared;

    for (uint64_t i = stage->compared; i < stage->read_count; i++) {
        int differs = stage_compare_one(stage, stage->pages[i], stage->data + i * PAGE_BYTES,
                                        &stage->checksums[i]);

        if (differs < 0)
            return differs;
        if (!differs)
            continue;
        stage->pages[i] &= MEMORY_PAGE_MASK;
        move_page(stage, kept++, i);
    }
    /* What is named but not read has no content yet: only its name moves. */
    memmove(stage->pages + kept, stage->pages + stage->read_count,
            (stage->named - stage->read_count) * sizeof(uint64_t));
    stage->named = kept + (stage->named - stage->read_count);
    stage->compared = stage->read_count = kept;
    return 0;
}

int stage_write(struct stage *stage, uint64_t *bytes_written)
{
    int status = 0;

    if (stage->compared)
        status = pool_write_pages(stage->pool, stage->pages, stage->checksums, stage->data,
                                  stage->compared, bytes_written);
    if (status >= 0)
        stage_drop(stage);
    return status;
}

void stage_forget_named(struct stage *stage)
{
    stage->named = stage->read_count;
}

void stage_drop(struct stage *stage)
{
    stage->compared = stage->read_count = stage->named = 0;
}

void stage_prefault(struct stage *stage, uint64_t pages)
{
    if (pages > stage->limit)
        pages = stage->limit;
    if (pages <= stage->touched)
        return;
    /* A kernel without it (before 5.14) faults in the freeze: slower, nothing else. */
    sys_madvise(stage->data + stage->touched * PAGE_BYTES, (pages - stage->touched) * PAGE_BYTES,
                MADV_POPULATE_WRITE);
    stage->touched = pages;
}

void stage_trim(struct stage *stage, uint64_t pages)
{
    if (pages >= stage->touched || stage->named)
        return;
    sys_madvise(stage->data + pages * PAGE_BYTES, (stage->touched - pages) * PAGE_BYTES,
                MADV_DONTNEED);
    stage->touched = pages;
}
