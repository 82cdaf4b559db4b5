/*
 * index_node.h - the nodes of an index in memory. Internal to index.c and index_write.c.
 */
#ifndef PHEAP_POOL_INDEX_NODE_H
#define PHEAP_POOL_INDEX_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/format.h"
#include "core/pool/index.h"

/*
 * entries_used == entries that are not empty. An entry of a leaf is empty when its frame is
 * FRAME_NONE; one of an inner node when, besides, there is no child in memory. While a child is
 * dirty its entry holds the old frame (to be released), the new one is put in by index_write().
 * dirty child => dirty parent.
 *
 * changed: below this node an entry differs from the last committed generation's. In a leaf one
 * bit an entry says which (index_changed_bits()); changed child => changed parent. What is changed
 * is dirty, but not the other way round: what deltas say is not in the tree's nodes in the file.
 */
struct tree_node {
    struct index_node disk;
    uint16_t entries_used;
    int8_t level;
    bool dirty, changed;
    struct tree_node *next_unused; /* in index_tree.unused_* */
    struct tree_node *children[];  /* INDEX_NODE_ENTRIES of them; in a leaf the changed bits */
};

#define INDEX_CHANGED_WORDS (INDEX_NODE_ENTRIES / 64)

static inline uint64_t *index_changed_bits(struct tree_node *leaf)
{
    return (uint64_t *)leaf->children;
}

struct index_tree {
    struct arena *arena;
    int fd;
    struct index_entry root_entry;
    struct delta_place deltas[DELTAS_MAX]; /* oldest first, of the last committed generation */
    unsigned delta_count;
    uint64_t delta_entries;     /* in them */
    struct delta_place written; /* by index_write(), for a generation that is not committed yet */
    uint64_t written_entries;
    uint64_t changed_pages; /* bits set */
    bool applies_deltas;    /* while the index is opened: nothing counts as changed */
    bool must_fold; /* the tree's nodes are being written: no delta goes with the old ones */
    uint8_t *delta_buffer;
    uint64_t delta_buffer_bytes;
    struct tree_node *root; /* NULL: not loaded, or the index is empty */
    struct tree_node *leaf; /* the one used last, for pages [leaf_page, leaf_page + 256) */
    uint64_t leaf_page;
    uint64_t dirty_nodes;
    uint64_t loaded_nodes, loadable_nodes; /* the file's frames: each is one node at most */
    uint64_t page_count;                   /* while page_count_known */
    bool page_count_known;
    uint64_t damaged_frame;
    struct tree_node *unused_leaves, *unused_inner; /* an arena takes nothing back */
    struct index_node *walk_nodes;                  /* one a level, for index_walk_frames() */
    uint8_t *staging;                               /* for index_write() */
};

/* Which entry of a node of that level leads to page, and how many pages an entry spans. */
static inline unsigned index_slot(uint64_t page, int level)
{
    return (unsigned)(page >> (level * INDEX_LEVEL_BITS)) & (INDEX_NODE_ENTRIES - 1);
}

static inline uint64_t index_span(int level)
{
    return 1ull << (level * INDEX_LEVEL_BITS);
}

/* Reads a node and checks it: -EIO and the like, or STATUS_DAMAGED. */
MUST_CHECK int index_read_node(struct index_tree *tree, struct index_entry entry,
                               struct index_node *out);

/* NULL when the arena is full. The new node is empty and clean. */
struct tree_node *index_node_new(struct index_tree *tree, int level);
void index_node_recycle(struct index_tree *tree, struct tree_node *node);
void index_node_dirty(struct index_tree *tree, struct tree_node *node);

/* Loads all leaves below a node of level 1, as many in one read as lie side by side. */
MUST_CHECK int index_load_leaves(struct index_tree *tree, struct tree_node *parent);

/* index_delta.c: reads the chain that ends with newest, and makes the changes it lists. */
MUST_CHECK int index_apply_deltas(struct index_tree *tree, struct delta_place newest);

/* index_delta.c: writes what has changed since the last committed generation; or takes back what
 * was written so and not committed. */
MUST_CHECK int index_write_delta(struct index_tree *tree, struct frames *frames,
                                 struct persist *persist, uint64_t *bytes_written);
MUST_CHECK int index_release_delta(struct frames *frames, struct delta_place delta);

/* The root, or child number slot, loaded if it must be. *out NULL: there is none. */
MUST_CHECK int index_load_root(struct index_tree *tree, struct tree_node **out);
MUST_CHECK int index_load_child(struct index_tree *tree, struct tree_node *parent, unsigned slot,
                                struct tree_node **out);

#endif
