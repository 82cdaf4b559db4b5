/*
 * warm.c - has the kernel read ahead what fill.c is about to touch, when the pool is not in the
 * page cache: after a reboot, or where the kernel takes idle cache away.
 *
 * A page that is read in over a mapped run is touched in two frames: its own, and, since the new
 * process's mapping is private, the one below it, which the kernel copies before it is overwritten.
 * Those lie anywhere in the file, and the threads of fill.c would wait for them one by one.
 *
 * Hints alone: nothing depends on them. A pool that is in the page cache costs a sample of them.
 */
#include "core/base/sys.h"
#include "recovery/restore/job.h"

#define SAMPLES      64u
#define COLD_SAMPLES 4u /* so many of them are read ahead for */
#define WILLNEED     3  /* POSIX_FADV_WILLNEED */

/* The frame that is mapped at page, FRAME_NONE if none is: extents are ordered by page. */
static uint64_t frame_below(const struct image_plan *plan, uint64_t page)
{
    uint64_t low = 0, high = plan->extent_count;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (plan->extents[middle].page + plan->extents[middle].pages <= page)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == plan->extent_count || plan->extents[low].page > page)
        return FRAME_NONE;
    return plan->extents[low].frame + (page - plan->extents[low].page);
}

static bool is_cold(const uint8_t *frames, uint64_t frame_count, uint64_t frame)
{
    unsigned char resident = 1;

    if (frame < FRAME_FIRST || frame >= frame_count)
        return false;
    return sys_call(SYS_mincore, frames + frame * FRAME_BYTES, FRAME_BYTES, &resident) == 0 &&
           !(resident & 1);
}

static bool plan_is_cold(const struct image_plan *plan, const uint8_t *frames, uint64_t frame_count)
{
    unsigned cold = 0;

    for (unsigned i = 0; i < SAMPLES; i++) {
        const struct plan_fill *fill = &plan->fills[i * plan->fill_count / SAMPLES];

        cold += is_cold(frames, frame_count, fill->entry.frame) ||
                is_cold(frames, frame_count, frame_below(plan, fill->page));
    }
    return cold >= COLD_SAMPLES;
}

static void read_ahead(const struct restore_job *job, uint64_t frame, uint64_t count)
{
    (void)sys_call(SYS_fadvise64, job->pool.fd, frame << FRAME_SHIFT, count << FRAME_SHIFT,
                   WILLNEED);
}

/* Frames of the fills, which are ordered by frame, run by run. */
static void read_own_frames(const struct restore_job *job, const struct image_plan *plan)
{
    for (uint64_t i = 0, count; i < plan->fill_count; i += count) {
        for (count = 1; i + count < plan->fill_count &&
                        plan->fills[i + count].entry.frame == plan->fills[i].entry.frame + count;)
            count++;
        if (plan->fills[i].entry.frame >= FRAME_FIRST)
            read_ahead(job, plan->fills[i].entry.frame, count);
    }
}

static void warm(const struct restore_job *job, const struct image_plan *plan)
{
    read_own_frames(job, plan);
    for (uint64_t i = 0; i < plan->fill_count; i++) {
        uint64_t frame = frame_below(plan, plan->fills[i].page);

        if (frame != FRAME_NONE)
            read_ahead(job, frame, 1);
    }
    restore_note(job, "not in the page cache: read ahead");
}

/* The pool is mapped to be asked about; nobody touches it there. */
void contents_warm(const struct restore_job *job, const struct image_plan *plan)
{
    uint64_t frame_count = pool_frames_present(&job->pool);
    void *frames;

    if (plan->fill_count < SAMPLES)
        return;
    frames = sys_mmap(NULL, frame_count << FRAME_SHIFT, PROT_READ, MAP_SHARED, job->pool.fd, 0);
    if (sys_failed((long)frames))
        return;
    if (plan_is_cold(plan, frames, frame_count))
        warm(job, plan);
    (void)sys_munmap(frames, frame_count << FRAME_SHIFT);
}
