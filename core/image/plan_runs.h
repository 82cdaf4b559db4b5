/*
 * plan_runs.h - what image_plan.c chooses from: the runs of a generation's pages, collected from
 * its index, and the checksums of those that may have to be read in. Internal to image_plan.c.
 */
#ifndef PHEAP_IMAGE_PLAN_RUNS_H
#define PHEAP_IMAGE_PLAN_RUNS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/image/image_reader.h"

#define PLAN_NONE UINT32_MAX

struct run {
    uint64_t page, frame, pages; /* frame FRAME_ZERO: zeroes, never mapped */
    uint64_t mapped, best;       /* prices */
    uint32_t previous;           /* run before of the same delta in this segment, or PLAN_NONE */
    uint32_t next_in_bucket;
    uint32_t first_checksum; /* of its pages, in planner.checksums; PLAN_NONE: they are not kept */
    bool starts_segment;
    bool continues; /* mapped: prolongs the extent that ends with `previous` */
    bool is_mapped; /* best: this run is the end of an extent */
};

struct planner {
    struct image *image;
    struct run *runs;
    uint32_t count, limit;
    uint64_t *checksums; /* of the pages of short runs; of all if nothing is mapped */
    uint32_t checksum_count, checksum_limit;
    uint64_t kept_pages; /* a run so long is a short one */
    uint32_t *buckets;   /* last run of each delta's hash, chained by next_in_bucket */
    uint32_t bucket_mask;
    uint64_t page_count;
};

/* Collects the runs of [first_page, end_page); planner->image and kept_pages are set, all else is
 * zero. */
MUST_CHECK int planner_collect(struct planner *planner, uint64_t first_page, uint64_t end_page,
                               struct problem *why);

/* The fills of a run's pages, one a page. */
MUST_CHECK int planner_fill(const struct planner *planner, const struct run *run,
                            struct plan_fill *fills);

#endif
