/*
 * pool_pages.c - pages on their way into frames: which frames they get, and what the index is told.
 *
 * What must always be true: a frame that something durable refers to is never written; the index
 * names a frame only after the write of it has succeeded.
 */
#include "core/pool/pool.h"

/* Fewer pages in a row are cheaper to read in than to map (docs/internals.md: 1.8 us a page, 6.5 us
 * an extent); twice that, so that long runs are not used up for small gains. */
#define NEIGHBOURS_MIN 8

static int release_run(struct pool *pool, uint64_t first, uint64_t end)
{
    int status = 0;

    for (uint64_t frame = first; status == 0 && frame < end; frame++)
        status = frames_release(pool->frames, frame);
    return status;
}

/* Writes `pages` pages to frames first.. and tells the index; on failure those that the index was
 * not told of are free again. */
static int write_run(struct pool *pool, const uint64_t *page_numbers, const uint64_t *checksums,
                     const uint8_t *data, uint64_t first, uint64_t pages)
{
    int status = persist_write(&pool->persist, first << FRAME_SHIFT, data, pages * FRAME_BYTES);
    uint64_t told = 0;

    while (status == 0 && told < pages) {
        struct index_entry entry = {first + told, checksums[told]};

        status = index_set(pool->index, pool->frames, page_numbers[told], entry);
        told += status == 0;
    }
    if (status < 0 && release_run(pool, first + told, first + pages) < 0)
        return STATUS_DAMAGED;
    return status;
}

/* Pages with consecutive numbers at the start of the list. */
static uint64_t count_neighbours(const uint64_t *page_numbers, uint64_t pages)
{
    uint64_t count = 1;

    while (count < pages && page_numbers[count] == page_numbers[count - 1] + 1)
        count++;
    return count;
}

/* Pages at the start of the list, up to where enough neighbours follow each other. */
static uint64_t count_scattered(const uint64_t *page_numbers, uint64_t pages)
{
    uint64_t count = 0;

    while (count < pages) {
        uint64_t neighbours = count_neighbours(page_numbers + count, pages - count);

        if (neighbours >= NEIGHBOURS_MIN)
            break;
        count += neighbours;
    }
    return count;
}

/* Frames for the first pages of the list: side by side for neighbours, which a restore can then
 * map in one piece; anywhere for the others. */
static int take_frames(struct pool *pool, const uint64_t *page_numbers, uint64_t pages,
                       uint64_t *first, uint64_t *got)
{
    uint64_t scattered = count_scattered(page_numbers, pages);

    if (scattered > 0)
        return frames_take_scattered(pool->frames, scattered, first, got);
    return frames_take(pool->frames, count_neighbours(page_numbers, pages), false, first, got);
}

/* Pages at the start of the list that were written for this generation before, to frames that
 * follow one another from *first on. */
static int count_again(struct pool *pool, const uint64_t *page_numbers, uint64_t pages,
                       uint64_t *first, uint64_t *count)
{
    *count = 0;
    while (*count < pages) {
        struct index_entry entry;
        int status = index_lookup(pool->index, page_numbers[*count], &entry);

        if (status < 0)
            return status;
        if (!frames_is_building(pool->frames, entry.frame) ||
            (*count > 0 && entry.frame != *first + *count))
            break;
        if (*count == 0)
            *first = entry.frame;
        ++*count;
    }
    return 0;
}

/*
 * Such a page stays where it is: with other frames for every round of a pre-copy a large heap's
 * first generation would be scattered already. Crash: nothing durable refers to these frames. What
 * they hold after a failed write nobody knows, so the index forgets these pages, and the next
 * attempt, which looks at all of memory, finds that they differ.
 */
static int write_again(struct pool *pool, const uint64_t *page_numbers, const uint64_t *checksums,
                       const uint8_t *data, uint64_t first, uint64_t pages)
{
    int status = persist_write(&pool->persist, first << FRAME_SHIFT, data, pages * FRAME_BYTES);
    int forgotten = 0;

    for (uint64_t i = 0; status == 0 && i < pages; i++)
        status = index_set(pool->index, pool->frames, page_numbers[i],
                           (struct index_entry){first + i, checksums[i]});
    for (uint64_t i = 0; status < 0 && forgotten == 0 && i < pages; i++)
        forgotten = index_clear(pool->index, pool->frames, page_numbers[i], page_numbers[i] + 1);
    return forgotten < 0 ? STATUS_DAMAGED : status;
}

/* Writes pages of the list, up to where the next ones that were written before begin. */
static int write_new(struct pool *pool, const uint64_t *page_numbers, const uint64_t *checksums,
                     const uint8_t *data, uint64_t pages, uint64_t *got)
{
    uint64_t first;
    int status = take_frames(pool, page_numbers, pages, &first, got);

    return status < 0 ? status : write_run(pool, page_numbers, checksums, data, first, *got);
}

/* Pages at the start of the list that are new to this generation. */
static int count_new(struct pool *pool, const uint64_t *page_numbers, uint64_t pages,
                     uint64_t *count)
{
    int status = 0;

    for (*count = 0; *count < pages; ++*count) {
        struct index_entry entry;

        status = index_lookup(pool->index, page_numbers[*count], &entry);
        if (status < 0 || frames_is_building(pool->frames, entry.frame))
            break;
    }
    return status;
}

int pool_write_pages(struct pool *pool, const uint64_t *page_numbers, const uint64_t *checksums,
                     const void *data, uint64_t pages, uint64_t *bytes_written)
{
    const uint8_t *bytes = data;
    uint64_t done = 0, fresh = 0; /* of what is left, so many are known to be new */

    while (done < pages) {
        const uint64_t *numbers = page_numbers + done, *sums = checksums + done;
        uint64_t first = FRAME_NONE, got = 0;
        int status = 0;

        if (fresh == 0)
            status = count_again(pool, numbers, pages - done, &first, &got);
        if (status == 0 && got > 0)
            status = write_again(pool, numbers, sums, bytes + done * FRAME_BYTES, first, got);
        if (status == 0 && got == 0 && fresh == 0)
            status = count_new(pool, numbers, pages - done, &fresh);
        if (status == 0 && got == 0) {
            status = write_new(pool, numbers, sums, bytes + done * FRAME_BYTES, fresh, &got);
            fresh -= status == 0 ? got : 0;
        }
        if (status < 0)
            return status;
        done += got;
        *bytes_written += got * FRAME_BYTES;
        pool->building_bytes += got * FRAME_BYTES;
    }
    return 0;
}
