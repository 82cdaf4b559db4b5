/*
 * image_reader.c - see image_reader.h: reading pages, and mapping a generation into this process.
 * What to map and what to read in is decided in image_plan.c.
 */
#include "core/image/image_reader.h"

#include <errno.h>
#include <string.h>

#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/index_scan.h"

#define FILL_PIECES 256u

static int open_problem(const struct image *image, int status, struct problem *why)
{
    return problem_set(why, status, "%s: cannot open generation %lu: %s", image->pool->path,
                       (unsigned long)image->generation.number, status_text(status));
}

int image_open_to_plan(struct image *image, const struct pool *pool,
                       const struct generation_entry *generation, struct arena *arena,
                       struct problem *why)
{
    int status = 0;

    *image = (struct image){
        .pool = pool, .generation = *generation, .arena = arena, .extents_max = PLAN_EXTENTS_MAX};
    status = index_scan_open(&image->scan, arena, pool->fd, generation_index(generation));
    return status < 0 ? open_problem(image, status, why) : 0;
}

static int load_index(struct image *image, struct problem *why)
{
    struct index_tree *index = NULL;
    int status =
        index_open(&index, image->arena, image->pool->fd, generation_index(&image->generation));

    if (status < 0)
        return open_problem(image, status, why);
    image->index = index;
    return 0;
}

int image_open(struct image *image, const struct pool *pool,
               const struct generation_entry *generation, struct arena *arena, struct problem *why)
{
    int status = image_open_to_plan(image, pool, generation, arena, why);

    return status < 0 ? status : load_index(image, why);
}

static int index_problem(const struct image *image, int status, uint64_t page, struct problem *why)
{
    return problem_set(why, status,
                       "%s: generation %lu: the index cannot be read at address 0x%lx: %s",
                       image->pool->path, (unsigned long)image->generation.number,
                       (unsigned long)(page << PAGE_SHIFT), status_text(status));
}

/* Copies bytes [offset, offset + bytes) of one page. */
static int read_part(struct image *image, uint64_t page, size_t offset, void *out, size_t bytes,
                     struct problem *why)
{
    uint8_t whole[PAGE_BYTES];
    struct index_entry entry = {FRAME_NONE, 0};
    int status = image->index == NULL ? load_index(image, why) : 0;

    if (status < 0)
        return status;
    status = index_lookup(image->index, page, &entry);
    if (status < 0)
        return index_problem(image, status, page, why);
    if (entry.frame < FRAME_FIRST) {
        memset(out, 0, bytes);
        return 0;
    }
    if (bytes == PAGE_BYTES)
        return pool_read_page(image->pool, entry, out, why);
    status = pool_read_page(image->pool, entry, whole, why);
    if (status >= 0)
        memcpy(out, whole + offset, bytes);
    return status;
}

int image_read(struct image *image, uintptr_t address, void *buffer, size_t bytes,
               struct problem *why)
{
    uint8_t *out = buffer;

    while (bytes) {
        size_t offset = address % PAGE_BYTES;
        size_t part = PAGE_BYTES - offset < bytes ? PAGE_BYTES - offset : bytes;
        int status = read_part(image, address >> PAGE_SHIFT, offset, out, part, why);

        if (status < 0)
            return status;
        address += part;
        out += part;
        bytes -= part;
    }
    return 0;
}

/* --- mapping --- */

static int map_extents(const struct image_plan *plan, int fd)
{
    for (uint64_t i = 0; i < plan->extent_count; i++) {
        const struct plan_extent *extent = &plan->extents[i];
        void *mapped = sys_mmap((void *)(extent->page << PAGE_SHIFT), extent->pages << PAGE_SHIFT,
                                PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                                extent->frame << FRAME_SHIFT);

        if (sys_failed((long)mapped))
            return (int)(long)mapped;
    }
    return 0;
}

/* The length of the run of fills from i on whose frames follow each other. */
static uint64_t fill_run(const struct image_plan *plan, uint64_t i)
{
    uint64_t count = 1;

    while (i + count < plan->fill_count && count < FILL_PIECES &&
           plan->fills[i + count].entry.frame == plan->fills[i].entry.frame + count)
        count++;
    return count;
}

static int check_fill(const struct image *image, const struct plan_fill *fill, struct problem *why)
{
    const void *page = (const void *)(fill->page << PAGE_SHIFT);

    if (checksum64(page, PAGE_BYTES) == fill->entry.checksum)
        return 0;
    return problem_set(why, STATUS_DAMAGED,
                       "%s: frame %lu (page at 0x%lx of generation %lu) does not match its "
                       "checksum; pheap recover --check lists what is damaged",
                       image->pool->path, (unsigned long)fill->entry.frame,
                       (unsigned long)(fill->page << PAGE_SHIFT),
                       (unsigned long)image->generation.number);
}

static int read_fill_run(const struct image *image, const struct plan_fill *fills, uint64_t count,
                         bool compares, struct problem *why)
{
    struct iovec pieces[FILL_PIECES];
    ssize_t got = 0;

    for (uint64_t i = 0; i < count; i++)
        pieces[i] = (struct iovec){(void *)(fills[i].page << PAGE_SHIFT), PAGE_BYTES};
    got = sys_call(SYS_preadv, image->pool->fd, pieces, count, fills[0].entry.frame << FRAME_SHIFT,
                   0);
    if (got != (ssize_t)(count * PAGE_BYTES))
        return problem_set(why, got < 0 ? (int)got : STATUS_DAMAGED,
                           "%s: cannot read %lu frames from frame %lu on: %s", image->pool->path,
                           (unsigned long)count, (unsigned long)fills[0].entry.frame,
                           got < 0 ? status_text((int)got) : "the file is too short");
    for (uint64_t i = 0; compares && i < count; i++) {
        int status = check_fill(image, &fills[i], why);

        if (status < 0)
            return status;
    }
    return 0;
}

static int read_fills(const struct image *image, const struct image_plan *plan, bool compares,
                      struct problem *why)
{
    uint64_t count = 1;

    for (uint64_t i = 0; i < plan->fill_count; i += count) {
        int status = 0;

        count = 1;
        if (plan->fills[i].entry.frame == FRAME_ZERO) {
            memset((void *)(plan->fills[i].page << PAGE_SHIFT), 0, PAGE_BYTES);
            continue;
        }
        count = fill_run(plan, i);
        status = read_fill_run(image, plan->fills + i, count, compares, why);
        if (status < 0)
            return status;
    }
    return 0;
}

static int map_pages(struct image *image, uint64_t first_page, uint64_t end_page, bool compares,
                     struct problem *why)
{
    void *base = (void *)(first_page << PAGE_SHIFT);
    size_t bytes = (end_page - first_page) << PAGE_SHIFT;
    struct image_plan plan;
    void *mapped = NULL;
    int fd = -1;
    int status = image_plan(image, first_page, end_page, true, &plan, why);

    if (status < 0)
        return status;
    /* The mappings are made through a descriptor that holds the generation's lock, so that no
     * writer reuses the frames for as long as they are mapped. */
    fd = pool_lock_generation(image->pool, image->generation.number, why);
    if (fd < 0)
        return fd;
    mapped = sys_mmap(base, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (!sys_failed((long)mapped) && mapped != base) { /* before Linux 4.17 it is but a hint */
        sys_munmap(mapped, bytes);
        mapped = (void *)(long)-EEXIST;
    }
    status = sys_failed((long)mapped) ? (int)(long)mapped : map_extents(&plan, fd);
    sys_close(fd);
    if (status < 0)
        problem_set(why, status, "%s: cannot map generation %lu at 0x%lx: %s%s", image->pool->path,
                    (unsigned long)image->generation.number, (unsigned long)base,
                    status_text(status), status == -ENOMEM ? "; raise ulimit -v" : "");
    else
        status = read_fills(image, &plan, compares, why);
    if (status < 0 && !sys_failed((long)mapped))
        sys_munmap(base, bytes);
    return status;
}

int image_map(struct image *image, uint64_t first_page, uint64_t end_page, struct problem *why)
{
    return map_pages(image, first_page, end_page, true, why);
}

int image_map_as_is(struct image *image, uint64_t first_page, uint64_t end_page,
                    struct problem *why)
{
    return map_pages(image, first_page, end_page, false, why);
}
