/*
 * index_scan.h - everything that a committed index says, passing by once in the order of pages:
 * for who looks at all of it and need not keep it. Nothing is loaded into an index_tree; a leaf is
 * read, checked, brought up to date by the deltas, shown and forgotten, within the processor's
 * cache. A page costs some 3 ns so, where a tree of it in memory costs 45.
 *
 * Calling sequence: index_scan_open(), then index_scan_leaves() as often as you like.
 *
 * Every node and delta is checked against the checksum that vouches for it before it is used, as in
 * index.h: STATUS_DAMAGED otherwise; index_scan_damaged_frame() tells which frame it was.
 *
 * Thread safety: one user at a time.
 */
#ifndef PHEAP_POOL_INDEX_SCAN_H
#define PHEAP_POOL_INDEX_SCAN_H

#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/format.h"
#include "core/pool/index.h"

struct index_scan; /* defined in index_scan.c; lives in the arena */

/* Reads the deltas; nodes are read (pread on fd) whenever they pass by. After STATUS_DAMAGED *out
 * is good for index_scan_damaged_frame() alone. */
MUST_CHECK int index_scan_open(struct index_scan **out, struct arena *arena, int fd,
                               struct index_root root);

/* Shows all leaves that hold a page of [page, end) with an entry, ascending, and perhaps some
 * without any. */
MUST_CHECK int index_scan_leaves(struct index_scan *scan, uint64_t page, uint64_t end,
                                 index_leaf_visit *visit, void *context);

uint64_t index_scan_damaged_frame(const struct index_scan *scan); /* 0: none was met so far */

#endif
