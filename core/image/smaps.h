/*
 * smaps.h - the classic pagemap's slow case: a mapping of GIANT_BYTES or more costs half a second
 * a terabyte to read there even if it holds nothing. /proc/self/smaps walks page tables and skips
 * what is not there.
 */
#ifndef PHEAP_IMAGE_SMAPS_H
#define PHEAP_IMAGE_SMAPS_H

#include "core/base/status.h"

#define GIANT_BYTES (1ull << 30)

struct pagemap;

/* Fills in pagemap->empty[]. */
MUST_CHECK int smaps_find_empty(struct pagemap *pagemap);

#endif
