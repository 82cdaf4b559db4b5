/*
 * file_area.c - see file_area.h. What is read goes through the writer's stage, which is empty
 * between rounds and inside the freeze.
 */
#include "core/image/file_area.h"

#include <string.h>

#include "core/base/sys.h"
#include "core/image/image_writer.h"
#include "core/image/writer_state.h"

/* Reads `pages` pages of the file to the beginning of the stage. */
static int read_pages(struct stage *stage, int fd, uint64_t file_page, uint64_t page,
                      uint64_t pages)
{
    uint64_t bytes = pages * PAGE_BYTES, got = 0;

    while (got < bytes) {
        ssize_t part = sys_pread(fd, stage->data + got, bytes - got, file_page * PAGE_BYTES + got);

        if (part < 0)
            return (int)part;
        if (part == 0)
            break;
        got += (uint64_t)part;
    }
    memset(stage->data + got, 0, bytes - got);
    for (uint64_t i = 0; i < pages; i++)
        stage->pages[i] = (page + i) | MEMORY_FILE;
    stage->named = stage->read_count = pages;
    if (stage->touched < pages)
        stage->touched = pages;
    return 0;
}

/* What differs waits in the scratch of the cut, if there is room; it is compared once more. */
static int keep_until_commit(struct image_writer *writer)
{
    struct stage *stage = &writer->stage, *scratch = &writer->scratch;
    int status = 0;

    if (stage_room(scratch) < stage->compared)
        status = writer_flush_scratch(writer, &writer->stats.freeze_written_bytes);
    if (status < 0 || stage_room(scratch) < stage->compared)
        return status < 0 ? status : stage_write(stage, &writer->stats.freeze_written_bytes);
    for (uint64_t i = 0; i < stage->compared; i++) {
        memcpy(scratch->data + scratch->named * PAGE_BYTES, stage->data + i * PAGE_BYTES,
               PAGE_BYTES);
        stage_add(scratch, stage->pages[i] | MEMORY_FILE);
    }
    scratch->read_count = scratch->named;
    if (scratch->touched < scratch->named)
        scratch->touched = scratch->named;
    stage_drop(stage);
    return 0;
}

int file_area_save(struct image_writer *writer, int fd, uint64_t file_page, uint64_t page,
                   uint64_t end, bool frozen, struct problem *why)
{
    struct stage *stage = &writer->stage;
    int status = 0;

    while (page < end && status == 0) {
        uint64_t pages = end - page < stage->limit ? end - page : stage->limit;

        status = read_pages(stage, fd, file_page, page, pages);
        if (status == 0)
            status = stage_compare(stage);
        if (status == 0)
            status = frozen ? keep_until_commit(writer)
                            : stage_write(stage, &writer->stats.written_bytes);
        page += pages;
        file_page += pages;
    }
    if (status == 0)
        return 0;
    stage_drop(stage);
    return problem_set(why, status, "%s: cannot save a file's pages: %s", writer->pool->path,
                       status_text(status));
}

uint64_t file_area_losses(const struct image_writer *writer)
{
    return writer->losses;
}

int file_area_clear(struct image_writer *writer, uint64_t page, uint64_t end, struct problem *why)
{
    struct pool *pool = writer->pool;
    int status = page < end ? index_clear(pool->index, pool->frames, page, end) : 0;

    return status == 0 ? 0
                       : problem_set(why, status, "%s: cannot forget a file's pages: %s",
                                     pool->path, status_text(status));
}
