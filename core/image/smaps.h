/*
 * smaps.h - the classic pagemap's slow case: a mapping of GIANT_BYTES or more costs half a second
 * a terabyte to read there even if it holds nothing. /proc/self/smaps walks page tables and skips
 * what is not there.
 */
#ifndef PHEAP_IMAGE_SMAPS_H
#define PHEAP_IMAGE_SMAPS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

#define GIANT_BYTES (1ull << 30)

struct pagemap;

/* Calls `take` with each line of /proc/self/smaps, cut off where it is long. 0 or -errno. */
typedef void smaps_line(void *context, const char *line);
MUST_CHECK int smaps_each_line(smaps_line *take, void *context);
/* Is this the first line of a mapping? Which one? */
bool smaps_begins_mapping(const char *line, uint64_t *start, uint64_t *end);

/* Fills in pagemap->empty[]. */
MUST_CHECK int smaps_find_empty(struct pagemap *pagemap);

#endif
