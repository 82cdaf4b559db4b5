/*
 * file_area.h - content of files in a generation's index: page numbers that no address has.
 *
 * A process has pages below 2^35. From FILE_AREA_FIRST on the index holds content of files, page by
 * page, as it holds memory: with a checksum each, written when it differs, shared by the
 * generations that do not change it. Each file has a place of FILE_PLACE_PAGES of its own, which
 * its owner (core/process/saved_files) chooses; page n of the file is page n of the place. A page
 * of zeroes has FRAME_ZERO, what was never saved has FRAME_NONE.
 *
 * The cut of an image leaves the area alone. Thread safety: the writer's user.
 */
#ifndef PHEAP_IMAGE_FILE_AREA_H
#define PHEAP_IMAGE_FILE_AREA_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/format.h"

struct image_writer;

#define FILE_AREA_FIRST  (1ull << 36)
#define FILE_PLACE_PAGES (1ull << 24) /* 64 GiB: a larger file is not saved */
#define FILE_PLACES      ((INDEX_PAGE_LIMIT - FILE_AREA_FIRST) / FILE_PLACE_PAGES)

static inline uint64_t file_place_page(uint64_t place)
{
    return FILE_AREA_FIRST + place * FILE_PLACE_PAGES;
}

/*
 * Pages [page, end) of the area become what fd's file has from its page file_page on; behind its
 * end zeroes. frozen: the program stands still meanwhile, and what differs waits for the commit as
 * far as there is room. After a failure any of these pages may have any of the two contents, or
 * none.
 */
MUST_CHECK int file_area_save(struct image_writer *writer, int fd, uint64_t file_page,
                              uint64_t page, uint64_t end, bool frozen, struct problem *why);

/* Pages [page, end) have no content any more. */
MUST_CHECK int file_area_clear(struct image_writer *writer, uint64_t page, uint64_t end,
                               struct problem *why);

/* Changes when pages may have been lost that were saved before: an attempt has failed. */
uint64_t file_area_losses(const struct image_writer *writer);

#endif
