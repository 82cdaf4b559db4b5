/*
 * index.h - the index of a generation: page number -> frame and checksum, in memory, loaded node
 * by node as it is needed, written copy-on-write.
 *
 * Calling sequence of a reader: index_open() on a generation's root, then index_lookup() and
 * index_next(). Of the writer: the same, then index_set() and index_clear() while a generation is
 * built, then index_write(), and index_committed() when the generation is durable; the index stays
 * in memory and is the base of the next generation.
 *
 * Every node read from the file is checked against the checksum its parent holds before it is
 * used: STATUS_DAMAGED otherwise; index_damaged_frame() tells which frame it was.
 *
 * Worked example, one page through three generations (the writer's side; the reader's is in
 * index.c): page 0x200000000 is first written in generation 1 into frame 70; its leaf goes to
 * frame 80, the four nodes above to 81..84, root entry {84, c}. In generation 2 the page is not
 * written but its neighbour is: new leaf 90 (entry of our page still {70, ..}), nodes 91..94.
 * In generation 3 our page is written into frame 100: leaf 110, nodes 111..114; frame 70 and
 * 90..94 are dead(3): free as soon as generations 1 and 2 are dropped.
 *
 * Thread safety: one user at a time.
 */
#ifndef PHEAP_POOL_INDEX_H
#define PHEAP_POOL_INDEX_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/format.h"

struct frames;
struct persist;

struct index_tree; /* defined in index.c; lives in the arena */

/* root may be all zero: an empty index. fd is read with pread: the deltas at once, nodes as they
 * are needed. After STATUS_DAMAGED *out is good for index_damaged_frame() alone. */
MUST_CHECK int index_open(struct index_tree **out, struct arena *arena, int fd,
                          struct index_root root);

/* *out is {FRAME_NONE, 0} where nothing is stored. */
MUST_CHECK int index_lookup(struct index_tree *tree, uint64_t page, struct index_entry *out);

/*
 * The first page in [page, end) that has an entry other than FRAME_NONE. 1 and *found, *entry;
 * 0 when there is none; or a negative status.
 */
MUST_CHECK int index_next(struct index_tree *tree, uint64_t page, uint64_t end, uint64_t *found,
                          struct index_entry *entry);

/*
 * All leaves that hold a page of [page, end), ascending, read many at a time: for who looks at
 * everything. first_page is the page of entries[0]. visit returns 0, or a negative status to stop.
 */
typedef int index_leaf_visit(void *context, uint64_t first_page,
                             const struct index_entry entries[INDEX_NODE_ENTRIES]);
MUST_CHECK int index_each_leaf(struct index_tree *tree, uint64_t page, uint64_t end,
                               index_leaf_visit *visit, void *context);

/* Sets a page's entry; releases the frame it had (frames_release). */
MUST_CHECK int index_set(struct index_tree *tree, struct frames *frames, uint64_t page,
                         struct index_entry entry);

/* All pages in [page, end) become FRAME_NONE; costs what is stored there, not what is spanned. */
MUST_CHECK int index_clear(struct index_tree *tree, struct frames *frames, uint64_t page,
                           uint64_t end);

/*
 * Writes what has changed since the last committed generation into new frames: a delta, or every
 * node that differs from its frame, leaves first, whose old frames are released. *root says where
 * the index begins then. Not durable before the caller's persist_sync(). An index without pages
 * has the root node {FRAME_NONE, 0}. *bytes_written grows by what was written.
 */
MUST_CHECK int index_write(struct index_tree *tree, struct frames *frames, struct persist *persist,
                           struct index_root *root, uint64_t *bytes_written);

/* The next index_write() writes nodes. */
void index_fold(struct index_tree *tree);

/* What was written last is a part of a committed generation; or it never will be, and its frames
 * are released (the next index_write() does that by itself). */
void index_committed(struct index_tree *tree);
MUST_CHECK int index_uncommitted(struct index_tree *tree, struct frames *frames);

/* Entries with a frame >= FRAME_FIRST. Kept up to date from a count that is known: 0 for an empty
 * tree, what index_know_page_count() said, or one walk over the whole tree. */
uint64_t index_page_count(struct index_tree *tree);
void index_know_page_count(struct index_tree *tree, uint64_t count);

uint64_t index_damaged_frame(const struct index_tree *tree); /* 0: none was met so far */

#define INDEX_LEVEL_PAGE  (-1)
#define INDEX_LEVEL_DELTA (-2)

/*
 * Calls visit for every frame (>= FRAME_FIRST) that the index refers to: those of deltas with
 * INDEX_LEVEL_DELTA; then, depth first, nodes with their level, INDEX_LEVELS - 1 for the root to 0
 * for a leaf, and pages, as the deltas have left them, with INDEX_LEVEL_PAGE. visit
 * returns 0 to go on, 1 to skip what is below this node (its frame was seen before), or a
 * negative status to stop. Nodes that are not in memory are read and forgotten again.
 */
typedef int index_visit(void *context, uint64_t frame, int level);
MUST_CHECK int index_walk_frames(struct index_tree *tree, index_visit *visit, void *context);

#endif
