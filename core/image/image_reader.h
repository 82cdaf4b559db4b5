/*
 * image_reader.h - a committed generation as memory: read any page of it, or plan how to map it.
 *
 * Calling sequence: image_open() with a pool (POOL_READ is enough) and a generation entry, then
 * image_read() or image_plan(). The generation should be locked (pool_lock_generation) by whoever
 * maps its frames or reads beside a living writer.
 *
 * A plan has two lists. Extents are mapped from the pool file, MAP_PRIVATE; fills are read in
 * over them afterwards (or over anonymous memory). An extent may run across pages whose newest
 * content lies elsewhere: those pages are in the fill list. It never runs across a page that has
 * no frame (such a page must read as zero). Budget: at most PLAN_EXTENTS_MAX extents; short runs
 * become fills: mapping costs 6.5 us an extent, a fill 1.8 us a page (docs/internals.md).
 * Fills are ordered by frame, so that contiguous frames can be read with one preadv into
 * scattered pages.
 */
#ifndef PHEAP_IMAGE_IMAGE_READER_H
#define PHEAP_IMAGE_IMAGE_READER_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/pool.h"

struct image {
    const struct pool *pool;
    struct generation_entry generation;
    struct index_scan *scan;  /* a plan goes through all of the index once */
    struct index_tree *index; /* pages are looked up in it; NULL: not loaded yet */
    struct arena *arena;
    uint32_t extents_max; /* of one plan: PLAN_EXTENTS_MAX, or what its caller then says */
};

MUST_CHECK int image_open(struct image *image, const struct pool *pool,
                          const struct generation_entry *generation, struct arena *arena,
                          struct problem *why);

/* The same for who plans and reads little: image->index is loaded at the first image_read(), which
 * takes time by the number of pages that deltas name. */
MUST_CHECK int image_open_to_plan(struct image *image, const struct pool *pool,
                                  const struct generation_entry *generation, struct arena *arena,
                                  struct problem *why);

/* Copies memory [address, address + bytes) as the generation shows it; pages without a frame
 * read as zero. Checks each page's checksum. */
MUST_CHECK int image_read(struct image *image, uintptr_t address, void *buffer, size_t bytes,
                          struct problem *why);

#define PLAN_EXTENTS_MAX 8000

struct plan_extent { /* map `pages` pages at page from frame on */
    uint64_t page, frame, pages;
};

struct plan_fill { /* read one page in; frame FRAME_ZERO: it is zero */
    uint64_t page;
    struct index_entry entry;
};

struct image_plan {
    struct plan_extent *extents; /* ordered by page */
    uint64_t extent_count;
    struct plan_fill *fills; /* ordered by frame */
    uint64_t fill_count;
};

/* Plans [first_page, end_page). may_map false: all fills (memory outside the slot). */
MUST_CHECK int image_plan(struct image *image, uint64_t first_page, uint64_t end_page, bool may_map,
                          struct image_plan *plan, struct problem *why);

/*
 * Maps [first_page, end_page) of the generation into this process, at its own addresses, private
 * and readable (and writable, copy-on-write): reserves the whole range as anonymous memory, maps
 * the extents, reads the fills. For inspect and recover. -EEXIST when the range is taken.
 */
MUST_CHECK int image_map(struct image *image, uint64_t first_page, uint64_t end_page,
                         struct problem *why);

/* The same, and no page is compared with its checksum: for who compares all of them, and goes on
 * with what is damaged. */
MUST_CHECK int image_map_as_is(struct image *image, uint64_t first_page, uint64_t end_page,
                               struct problem *why);

#endif
