/*
 * contents.c - a generation's pages on their way into the new process: in the slot runs of frames
 * are mapped, everything else is read in (fill.c).
 *
 * Always true: a page goes only where the process record has private memory, so a damaged index
 * cannot overwrite anything; what is read in agrees with its checksum; what is mapped is verified
 * by the new agent later on.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/image/file_area.h"
#include "core/process/saved_files.h"
#include "recovery/restore/job.h"

static int stray_page(const struct restore_job *job, uint64_t page, struct problem *why)
{
    return problem_set(why, STATUS_DAMAGED,
                       "generation %lu has a page at %lx, where the process had no private memory",
                       (unsigned long)job->generation.number, (unsigned long)(page << PAGE_SHIFT));
}

static bool takes_contents(const struct restore_job *job, const struct image_mapping *mapping)
{
    return mapping != NULL && (!(mapping->record->flags & RECORD_MAPPING_SHARED) ||
                               process_image_is_replaced(&job->process, mapping->record));
}

/* Every page of a plan lies in private memory; notes which mappings must be writable at first. */
static int plan_check(struct restore_job *job, const struct image_plan *plan, struct problem *why)
{
    const struct image_mapping *mapping = NULL;

    for (uint64_t i = 0; i < plan->fill_count; i++) {
        uint64_t address = plan->fills[i].page << PAGE_SHIFT;

        if (mapping == NULL || address < mapping->record->start || address >= mapping->record->end)
            mapping = process_image_mapping(&job->process, address);
        if (!takes_contents(job, mapping))
            return stray_page(job, plan->fills[i].page, why);
        if (!(mapping->record->prot & PROT_WRITE))
            job->widened[mapping - job->process.mappings] = true;
    }
    return 0;
}

/* The content of a file that is not there as it was, for one mapping of it. */
static int plan_replaced(struct restore_job *job, const struct record_mapping *mapping,
                         struct image_plan *plan, struct problem *why)
{
    const struct image_file *file = &job->process.files[mapping->file];
    uint64_t first = saved_file_page(file, mapping), end;
    int status;

    end = first + ((mapping->end - mapping->start) >> PAGE_SHIFT);
    if (end > file->saved->first_page + FILE_PLACE_PAGES)
        return problem_set(why, STATUS_DAMAGED, "process record: %s is mapped beyond its end",
                           file->path);
    status = image_plan(&job->image, first, end, false, plan, why);
    for (uint64_t i = 0; status == 0 && i < plan->fill_count; i++)
        plan->fills[i].page += (mapping->start >> PAGE_SHIFT) - first;
    return status;
}

static int plan_files(struct restore_job *job, struct problem *why)
{
    int status = 0;

    for (uint32_t i = 0; i < job->process.mapping_count && status == 0; i++) {
        const struct record_mapping *mapping = job->process.mappings[i].record;

        if (process_image_is_replaced(&job->process, mapping))
            status = plan_replaced(job, mapping, &job->plans[job->plan_count++], why);
    }
    return status;
}

/* --- a large slot is planned in two halves at the same time --- */

#define HALVES_PAGES 16384u /* 64 MiB: planned in twice the time that a thread costs */

/* The upper half, with what its thread needs for itself. */
struct upper_half {
    struct restore_job *job;
    struct image image;
    struct image_plan *plan;
    uint64_t first, end;
    pthread_t thread;
    bool in_thread;
    int status;
    struct problem why;
};

/* Where the halves meet: in the middle of the largest mapping that has contents. The end of the
 * slot if there is no need for two, or no processor. */
static uint64_t middle_of_slot(const struct restore_job *job, uint64_t first, uint64_t end)
{
    const struct record_mapping *largest = NULL;

    if (sys_worker_count(job->generation.page_count, HALVES_PAGES, 2) < 2)
        return end;
    for (uint32_t i = 0; i < job->process.mapping_count; i++) {
        const struct record_mapping *one = job->process.mappings[i].record;

        if (one->start >> PAGE_SHIFT >= first && one->end >> PAGE_SHIFT <= end &&
            (one->prot & PROT_WRITE) &&
            (largest == NULL || one->end - one->start > largest->end - largest->start))
            largest = one;
    }
    return largest == NULL ? end
                           : (largest->start + (largest->end - largest->start) / 2) >> PAGE_SHIFT;
}

static void *plan_upper_half(void *argument)
{
    struct upper_half *half = argument;
    struct restore_job *job = half->job;

    half->status = image_open_to_plan(&half->image, &job->pool, &job->generation, &job->half_arena,
                                      &half->why);
    if (half->status == 0) {
        half->image.extents_max = PLAN_EXTENTS_MAX / 2;
        half->status =
            image_plan(&half->image, half->first, half->end, true, half->plan, &half->why);
    }
    return NULL;
}

static void upper_half_begin(struct upper_half *half)
{
    if (half->first == half->end)
        return;
    half->job->image.extents_max = PLAN_EXTENTS_MAX / 2;
    half->in_thread = pthread_create(&half->thread, NULL, plan_upper_half, half) == 0;
}

static int upper_half_end(struct upper_half *half, struct problem *why)
{
    if (half->in_thread)
        (void)pthread_join(half->thread, NULL);
    else if (half->first != half->end)
        (void)plan_upper_half(half);
    if (half->status != 0 && why != NULL && why->status == 0)
        *why = half->why;
    return half->status;
}

static int plan_memory(struct restore_job *job, struct problem *why)
{
    uint64_t slot_first = SLOT_BASE(job->process.process->slot) >> PAGE_SHIFT;
    uint64_t slot_end = slot_first + (SLOT_BYTES >> PAGE_SHIFT);
    uint64_t middle = middle_of_slot(job, slot_first, slot_end);
    struct image_plan *plans = &job->plans[job->plan_count];
    struct upper_half upper = {
        .job = job, .plan = &plans[2], .first = middle, .end = slot_end, .why = {0, ""}};
    int status, upper_status;

    upper_half_begin(&upper);
    status = image_plan(&job->image, 0, slot_first, false, &plans[0], why);
    if (status == 0)
        status = image_plan(&job->image, slot_first, middle, true, &plans[1], why);
    if (status == 0)
        status = image_plan(&job->image, slot_end, PROCESS_ADDRESS_LIMIT >> PAGE_SHIFT, false,
                            &plans[3], why);
    upper_status = upper_half_end(&upper, why);
    job->plan_count += CONTENTS_PLANS;
    return status != 0 ? status : upper_status;
}

int contents_plan(struct restore_job *job, struct problem *why)
{
    uint32_t most = job->process.mapping_count + CONTENTS_PLANS;
    int status;

    job->widened = arena_alloc(&job->plan_arena, most, 1);
    job->plans = arena_alloc(&job->plan_arena, most * sizeof *job->plans, 8);
    if (job->widened == NULL || job->plans == NULL)
        return problem_set(why, -ENOMEM, "no memory for the restore's plan");
    for (uint32_t i = 0; i < job->process.mapping_count; i++) {
        const struct record_mapping *record = job->process.mappings[i].record;

        job->widened[i] =
            (record->attributes & MEMORY_WIPE_ON_FORK) && !(record->prot & PROT_WRITE);
    }
    status = plan_files(job, why);
    if (status == 0)
        status = plan_memory(job, why);
    for (uint32_t i = 0; i < job->plan_count && status == 0; i++)
        status = plan_check(job, &job->plans[i], why);
    return status;
}

size_t contents_calls(const struct restore_job *job)
{
    size_t calls = job->process.mapping_count; /* an extent is cut where a mapping ends */

    for (uint32_t i = 0; i < job->plan_count; i++)
        calls += job->plans[i].extent_count;
    return calls;
}

static uint64_t extent_reserve(const struct record_mapping *mapping)
{
    bool reserves =
        (mapping->attributes & MEMORY_KNOWN) && !(mapping->attributes & MEMORY_NO_RESERVE);

    return reserves ? 0 : MAP_NORESERVE;
}

static int add_extent(struct restore_job *job, struct batch *batch, struct plan_extent extent)
{
    while (extent.pages > 0) {
        uint64_t start = extent.page << PAGE_SHIFT;
        const struct image_mapping *mapping = process_image_mapping(&job->process, start);
        uint64_t pages, prot;

        if (!takes_contents(job, mapping) || mapping->record->file != RECORD_ID_NONE)
            return stray_page(job, extent.page, job->why);
        pages = (mapping->record->end - start) >> PAGE_SHIFT;
        if (pages > extent.pages)
            pages = extent.pages;
        prot = mapping->record->prot |
               (job->widened[mapping - job->process.mappings] ? PROT_WRITE : 0u);
        if (mapping->record->attributes & MEMORY_WIPE_ON_FORK) /* anonymous memory alone can be */
            batch_add(batch, "reading the heap", SYS_pread64,
                      BATCH_ARGS((uint64_t)job->pool_fd, start, pages << PAGE_SHIFT,
                                 extent.frame << FRAME_SHIFT));
        else
            batch_add(batch, "mapping the heap", SYS_mmap,
                      BATCH_ARGS(start, pages << PAGE_SHIFT, prot,
                                 MAP_PRIVATE | MAP_FIXED | extent_reserve(mapping->record),
                                 (uint64_t)job->pool_fd, extent.frame << FRAME_SHIFT));
        batch_expect(batch, (int64_t)(mapping->record->attributes & MEMORY_WIPE_ON_FORK
                                          ? pages << PAGE_SHIFT
                                          : start));
        extent.page += pages;
        extent.frame += pages;
        extent.pages -= pages;
    }
    return 0;
}

int contents_add(struct restore_job *job, struct batch *batch)
{
    for (uint32_t i = 0; i < job->plan_count; i++)
        for (uint64_t k = 0; k < job->plans[i].extent_count; k++) {
            int status = add_extent(job, batch, job->plans[i].extents[k]);

            if (status != 0)
                return status;
        }
    return batch->failed;
}
