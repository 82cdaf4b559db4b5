/*
 * view.h - one generation of a pool, opened to be looked at: its record, its memory, its heap.
 *
 * Calling sequence: view_open(), then any of the calls here and of the other headers of this
 * folder, then view_close() (after a failed view_open() too, and on a struct that is all zero).
 * struct view is large: not for a stack.
 *
 * The generation is locked from view_open() to view_close(), so that the agent of a living program
 * does not reuse its frames. Nothing is ever written to the pool.
 *
 * Memory is what the process would have read: the image's page; where the image has none, the
 * mapped file if it is still the one that the program had (STATUS_CHANGED otherwise), or zero.
 *
 * Errors: a negative status, with *why filled in. Everything in the pool is hostile: damage is
 * STATUS_DAMAGED, or counted where a scan goes on without a page (damaged_pages).
 */
#ifndef PHEAP_RECOVERY_VIEW_VIEW_H
#define PHEAP_RECOVERY_VIEW_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "core/image/image_reader.h"
#include "core/pool/pool.h"
#include "core/process/process_image.h"

struct view_backing { /* of a mapped file */
    int state;        /* 0: not looked at yet; 1: open; or why it cannot be read */
    int fd;
};

struct view {
    struct pool pool;
    struct generation_entry generation;
    int lock_fd;
    struct arena arena;
    struct image image;
    /* Of a crash image files and mappings alone, all else is null or 0. Of a heap opened through
     * the API nothing. */
    struct process_image process;
    struct view_backing *backings; /* one a file */
    const uint8_t *frames;         /* the pool file, mapped; NULL: not yet */
    uint64_t frame_count;
    uint64_t damaged_pages;      /* that scans left out so far */
    uint64_t damaged_heap_pages; /* of the heap, as it is mapped */
    bool heap_is_mapped;
    bool is_opened;      /* what is mapped is a heap that programs open by path (core/tx) */
    bool log_is_damaged; /* its log breaks off, and whole records follow */
    uint64_t log_records, log_bytes; /* that were applied to it */
    uint64_t log_in_doubt;           /* records that wait for another pool's decision, left out */
    uint64_t cached_address;         /* of the page in `cached`; 1: none */
    uint8_t cached[PAGE_BYTES];
};

/* generation 0: the newest that is no crash image, or else the newest. */
MUST_CHECK int view_open(struct view *view, const char *path, uint64_t generation,
                         struct problem *why);
void view_close(struct view *view);

/* 0, or STATUS_NO_GENERATION: it has no threads and descriptors. */
MUST_CHECK int view_needs_process(const struct view *view, struct problem *why);

/* The mapping that holds address, or NULL. */
const struct image_mapping *view_mapping(const struct view *view, uint64_t address);
/* What it is called: a path, "[stack]", "[slot]" for the heap's, or "". */
const char *view_mapping_name(const struct view *view, const struct image_mapping *mapping);

/* It is the file that the program had mapped, and a regular one: opening a device that a record
 * names could do anything. */
bool view_may_read_file(const struct image_file *file);

/* Copies memory. STATUS_REFUSED: nothing was mapped there. */
MUST_CHECK int view_read(struct view *view, uint64_t address, void *buffer, size_t bytes,
                         struct problem *why);

/*
 * All pages that the image holds in [start, end), ascending, checked; those that do not agree with
 * their checksum are counted and left out. visit returns 0, or a negative status to stop. Of an
 * opened heap that is mapped, what the log has changed is among them.
 */
typedef int view_page_visit(void *context, uint64_t address, const uint8_t *page);
MUST_CHECK int view_each_page(struct view *view, uint64_t start, uint64_t end,
                              view_page_visit *visit, void *context, struct problem *why);

/* How many pages of [start, end) the image holds, pages of zeroes included. */
MUST_CHECK int view_count_pages(struct view *view, uint64_t start, uint64_t end, uint64_t *count,
                                struct problem *why);

/* Maps the slot at its own address, if it is not yet, and applies the log if there is one that
 * belongs to the generation. Pages that do not agree with their checksum are counted. What lies in
 * the slot is not looked at: heap_census() and blocks.h do. */
MUST_CHECK int view_map_heap(struct view *view, struct problem *why);
void view_unmap_heap(struct view *view);

static inline uint64_t view_slot_base(const struct view *view)
{
    return SLOT_BASE(view->generation.slot);
}

#endif
