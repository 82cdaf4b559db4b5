/*
 * contents.c - a generation's pages on their way into the new process: in the slot runs of frames
 * are mapped, everything else is read in.
 *
 * Always true: a page goes only where the process record has private memory, so a damaged index
 * cannot overwrite anything; what is read in agrees with its checksum before the process is let
 * go, verified meanwhile by the checker; what is mapped is verified by the new agent later
 * on.
 */
#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "recovery/restore/job.h"

#define VECTOR_MAX 1024 /* of preadv */

static int stray_page(const struct restore_job *job, uint64_t page)
{
    return problem_set(job->why, STATUS_DAMAGED,
                       "generation %lu has a page at %lx, where the process had no private memory",
                       (unsigned long)job->generation.number, (unsigned long)(page << PAGE_SHIFT));
}

static bool takes_contents(const struct image_mapping *mapping)
{
    return mapping != NULL && !(mapping->record->flags & RECORD_MAPPING_SHARED);
}

/* Every page of a plan lies in private memory; notes which mappings must be writable at first. */
static int plan_check(struct restore_job *job, const struct image_plan *plan)
{
    const struct image_mapping *mapping = NULL;

    for (uint64_t i = 0; i < plan->fill_count; i++) {
        uint64_t address = plan->fills[i].page << PAGE_SHIFT;

        if (mapping == NULL || address < mapping->record->start || address >= mapping->record->end)
            mapping = process_image_mapping(&job->process, address);
        if (!takes_contents(mapping))
            return stray_page(job, plan->fills[i].page);
        if (!(mapping->record->prot & PROT_WRITE))
            job->widened[mapping - job->process.mappings] = true;
    }
    return 0;
}

int contents_plan(struct restore_job *job)
{
    uint64_t slot_first = SLOT_BASE(job->process.process->slot) >> PAGE_SHIFT;
    uint64_t slot_end = slot_first + (SLOT_BYTES >> PAGE_SHIFT);
    const uint64_t bounds[CONTENTS_PLANS + 1] = {0, slot_first, slot_end,
                                                 PROCESS_ADDRESS_LIMIT >> PAGE_SHIFT};

    job->widened = arena_alloc(&job->arena, job->process.mapping_count + 1, 1);
    if (job->widened == NULL)
        return problem_set(job->why, -ENOMEM, "no memory for the restore's plan");
    for (int i = 0; i < CONTENTS_PLANS; i++) {
        int status =
            image_plan(&job->image, bounds[i], bounds[i + 1], i == 1, &job->plans[i], job->why);

        if (status == 0)
            status = plan_check(job, &job->plans[i]);
        if (status != 0)
            return status;
    }
    return 0;
}

static int verify_fill(const struct restore_job *job, const uint8_t *frames, uint64_t frame_count,
                       const struct plan_fill *fill)
{
    uint64_t frame = fill->entry.frame;

    if (frame == FRAME_ZERO)
        return 0;
    if (frame >= frame_count || frame < FRAME_FIRST)
        return problem_set(job->why, STATUS_DAMAGED,
                           "%s: frame %lu lies beyond the end of the file", job->pool.path,
                           (unsigned long)frame);
    if (checksum64(frames + frame * FRAME_BYTES, FRAME_BYTES) != fill->entry.checksum)
        return problem_set(job->why, STATUS_DAMAGED,
                           "%s: frame %lu (page at %lx of generation %lu) has the wrong checksum; "
                           "restore -g takes an older generation",
                           job->pool.path, (unsigned long)frame,
                           (unsigned long)(fill->page << PAGE_SHIFT),
                           (unsigned long)job->generation.number);
    return 0;
}

int contents_verify(struct restore_job *job)
{
    struct stat stat;
    int status = sys_fstat(job->pool.fd, &stat);
    size_t bytes = status == 0 ? (size_t)stat.st_size : 0;
    uint8_t *frames;

    if (status != 0 || bytes == 0)
        return problem_set(job->why, status ? status : STATUS_DAMAGED, "%s: cannot be read",
                           job->pool.path);
    frames = sys_mmap(NULL, bytes, PROT_READ, MAP_SHARED, job->pool.fd, 0);
    if (sys_failed((long)frames))
        return problem_set(job->why, (int)(long)frames, "%s: mmap: %s", job->pool.path,
                           status_text((int)(long)frames));
    for (int i = 0; i < CONTENTS_PLANS && status == 0; i++)
        for (uint64_t k = 0; k < job->plans[i].fill_count && status == 0; k++)
            status = verify_fill(job, frames, bytes / FRAME_BYTES, &job->plans[i].fills[k]);
    (void)sys_munmap(frames, bytes);
    return status;
}

void contents_size(const struct restore_job *job, size_t *calls, size_t *data_bytes)
{
    for (int i = 0; i < CONTENTS_PLANS; i++) {
        *calls += job->plans[i].extent_count + job->plans[i].fill_count + 4;
        *data_bytes += (job->plans[i].fill_count + 64) * sizeof(struct iovec) + 64;
    }
    *calls += job->process.mapping_count; /* an extent is cut where a mapping ends */
}

static int add_extent(struct restore_job *job, struct batch *batch, struct plan_extent extent)
{
    while (extent.pages > 0) {
        uint64_t start = extent.page << PAGE_SHIFT;
        const struct image_mapping *mapping = process_image_mapping(&job->process, start);
        uint64_t pages, prot;

        if (!takes_contents(mapping) || mapping->record->file != RECORD_ID_NONE)
            return stray_page(job, extent.page);
        pages = (mapping->record->end - start) >> PAGE_SHIFT;
        if (pages > extent.pages)
            pages = extent.pages;
        prot = mapping->record->prot |
               (job->widened[mapping - job->process.mappings] ? PROT_WRITE : 0u);
        batch_add(batch, "mapping the heap", SYS_mmap,
                  BATCH_ARGS(start, pages << PAGE_SHIFT, prot,
                             MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, (uint64_t)job->pool_fd,
                             extent.frame << FRAME_SHIFT));
        batch_expect(batch, (int64_t)start);
        extent.page += pages;
        extent.frame += pages;
        extent.pages -= pages;
    }
    return 0;
}

struct fill_vector {
    struct batch *batch;
    struct iovec parts[VECTOR_MAX];
    uint64_t count;
    uint64_t first_frame;
    uint64_t pages;
};

/* One preadv for what has been gathered; zeroes come from a descriptor of /dev/zero. */
static void flush_vector(struct fill_vector *vector, uint64_t fd, enum batch_reference how)
{
    struct batch *batch = vector->batch;
    uint64_t parts;

    if (vector->count == 0)
        return;
    parts = batch_data(batch, vector->parts, vector->count * sizeof *vector->parts);
    batch_add(batch, "reading memory contents", SYS_preadv,
              BATCH_ARGS(fd, parts, vector->count,
                         how == BATCH_VALUE ? vector->first_frame << FRAME_SHIFT : 0, 0));
    batch_refer(batch, 0, how);
    batch_expect(batch, (int64_t)(vector->pages << PAGE_SHIFT));
    vector->count = 0;
    vector->pages = 0;
}

static void gather(struct fill_vector *vector, const struct plan_fill *fill)
{
    uint8_t *to = (uint8_t *)(uintptr_t)(fill->page << PAGE_SHIFT);
    struct iovec *last = vector->count > 0 ? &vector->parts[vector->count - 1] : NULL;

    if (vector->count == 0)
        vector->first_frame = fill->entry.frame;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == to)
        last->iov_len += PAGE_BYTES;
    else
        vector->parts[vector->count++] = (struct iovec){to, PAGE_BYTES};
    vector->pages++;
}

/* Fills are ordered by frame, zeroes first; contiguous frames go into one preadv. */
static void add_fills(struct restore_job *job, struct batch *batch, const struct image_plan *plan,
                      struct fill_vector *vector)
{
    uint64_t i = 0;

    *vector = (struct fill_vector){.batch = batch};
    if (plan->fill_count > 0 && plan->fills[0].entry.frame == FRAME_ZERO) {
        uint64_t path = batch_string(batch, "/dev/zero");
        size_t zero = batch_add(batch, "/dev/zero", SYS_openat,
                                BATCH_ARGS((uint64_t)AT_FDCWD, path, O_RDONLY));

        for (; i < plan->fill_count && plan->fills[i].entry.frame == FRAME_ZERO; i++) {
            gather(vector, &plan->fills[i]);
            if (vector->count == VECTOR_MAX)
                flush_vector(vector, zero, BATCH_RESULT);
        }
        flush_vector(vector, zero, BATCH_RESULT);
        batch_add(batch, "close", SYS_close, BATCH_ARGS(zero));
        batch_refer(batch, 0, BATCH_RESULT);
    }
    for (; i < plan->fill_count; i++) {
        if (vector->count == VECTOR_MAX ||
            plan->fills[i].entry.frame != vector->first_frame + vector->pages)
            flush_vector(vector, (uint64_t)job->pool_fd, BATCH_VALUE);
        gather(vector, &plan->fills[i]);
    }
    flush_vector(vector, (uint64_t)job->pool_fd, BATCH_VALUE);
}

int contents_add(struct restore_job *job, struct batch *batch)
{
    struct fill_vector *vector = arena_alloc(&job->arena, sizeof *vector, 16);

    if (vector == NULL)
        return problem_set(job->why, -ENOMEM, "no memory for the restore's plan");
    for (int i = 0; i < CONTENTS_PLANS; i++) {
        for (uint64_t k = 0; k < job->plans[i].extent_count; k++) {
            int status = add_extent(job, batch, job->plans[i].extents[k]);

            if (status != 0)
                return status;
        }
        add_fills(job, batch, &job->plans[i], vector);
    }
    return batch->failed;
}
