/*
 * index.c - looking up and changing the index of a generation in memory (index.h). Writing it is
 * index_write.c.
 *
 * Worked example, the reader's side of the one in index.h: page 0x200000000 is looked up in
 * generation 2. Its bytes, from the top: 02 00 00 00 00. Root frame 94, entry 0x02 -> frame 93,
 * entry 0x00 -> 92, 0x00 -> 91, 0x00 -> leaf 90, entry 0x00 -> {70, checksum}: the page is in
 * frame 70, written in generation 1. Each of the five nodes was checked against the entry before.
 *
 * What must always be true:
 *   1. nothing is changed before everything that the change needs has been loaded;
 *   2. a node that differs from its frame is dirty, and so are all nodes above it;
 *   3. an empty node may stay in memory until index_write() takes it out.
 */
#include "core/pool/index.h"

#include <errno.h>
#include "core/base/sys.h"
#include "core/pool/frame.h"
#include "core/pool/index_node.h"

static bool has_frame(struct index_entry entry)
{
    return entry.frame >= FRAME_FIRST;
}

static bool same_entry(struct index_entry a, struct index_entry b)
{
    return a.frame == b.frame && a.checksum == b.checksum;
}

int index_open(struct index_tree **out, struct arena *arena, int fd, struct index_root root)
{
    struct index_tree *tree = arena_alloc(arena, sizeof(*tree), 64);

    if (tree == NULL)
        return -ENOMEM;
    tree->arena = arena;
    tree->fd = fd;
    tree->root_entry = root.node;
    tree->page_count_known = root.node.frame == FRAME_NONE;
    *out = tree;
    return root.delta.frames > 0 ? index_apply_deltas(tree, root.delta) : 0;
}

/* --- reading --- */

/* The leaf that page belongs to; *out NULL: there is none. */
static int find_leaf(struct index_tree *tree, uint64_t page, struct tree_node **out)
{
    struct tree_node *node;
    int status;

    *out = tree->leaf;
    if (tree->leaf != NULL && page / INDEX_NODE_ENTRIES == tree->leaf_page / INDEX_NODE_ENTRIES)
        return 0;
    status = index_load_root(tree, &node);
    for (int level = INDEX_LEVELS - 1; status == 0 && node != NULL && level > 0; level--)
        status = index_load_child(tree, node, index_slot(page, level), &node);
    *out = node;
    if (status == 0 && node != NULL) {
        tree->leaf = node;
        tree->leaf_page = page - page % INDEX_NODE_ENTRIES;
    }
    return status;
}

int index_lookup(struct index_tree *tree, uint64_t page, struct index_entry *out)
{
    struct tree_node *leaf;
    int status;

    *out = (struct index_entry){FRAME_NONE, 0};
    if (page >= INDEX_PAGE_LIMIT)
        return -EINVAL;
    status = find_leaf(tree, page, &leaf);
    if (status == 0 && leaf != NULL)
        *out = leaf->disk.entries[index_slot(page, 0)];
    return status;
}

/* index_next() below node, whose first page is node_page. */
static int next_below(struct index_tree *tree, struct tree_node *node, uint64_t node_page,
                      uint64_t page, uint64_t end, uint64_t *found)
{
    uint64_t span = index_span(node->level);
    unsigned slot = page > node_page ? (unsigned)((page - node_page) / span) : 0;

    for (; slot < INDEX_NODE_ENTRIES && node_page + slot * span < end; slot++) {
        struct tree_node *child;
        int status;

        if (node->level == 0) {
            if (node->disk.entries[slot].frame == FRAME_NONE)
                continue;
            *found = node_page + slot;
            tree->leaf = node;
            tree->leaf_page = node_page;
            return 1;
        }
        status = index_load_child(tree, node, slot, &child);
        if (status == 0 && child != NULL)
            status = next_below(tree, child, node_page + slot * span, page, end, found);
        if (status != 0)
            return status;
    }
    return 0;
}

int index_next(struct index_tree *tree, uint64_t page, uint64_t end, uint64_t *found,
               struct index_entry *entry)
{
    struct tree_node *root;
    int status = 0;

    if (end > INDEX_PAGE_LIMIT)
        end = INDEX_PAGE_LIMIT;
    if (page >= end)
        return 0;
    if (tree->leaf != NULL && page / INDEX_NODE_ENTRIES == tree->leaf_page / INDEX_NODE_ENTRIES)
        status = next_below(tree, tree->leaf, tree->leaf_page, page, end, found);
    if (status == 0) {
        status = index_load_root(tree, &root);
        if (status == 0 && root != NULL)
            status = next_below(tree, root, 0, page, end, found);
    }
    if (status == 1)
        *entry = tree->leaf->disk.entries[index_slot(*found, 0)];
    return status;
}

struct leaf_walk {
    struct index_tree *tree;
    uint64_t page, end;
    index_leaf_visit *visit;
    void *context;
};

/* Calls are as deep as the tree has levels. */
static int each_leaf_below(const struct leaf_walk *walk, struct tree_node *node, uint64_t node_page)
{
    uint64_t span = index_span(node->level);
    unsigned slot = walk->page > node_page ? (unsigned)((walk->page - node_page) / span) : 0;
    int status = node->level == 1 ? index_load_leaves(walk->tree, node) : 0;

    for (; slot < INDEX_NODE_ENTRIES && node_page + slot * span < walk->end; slot++) {
        struct tree_node *child = NULL;

        if (status == 0)
            status = index_load_child(walk->tree, node, slot, &child);
        if (status < 0)
            return status;
        if (child == NULL)
            continue;
        status = child->level == 0
                     ? walk->visit(walk->context, node_page + slot * span, child->disk.entries)
                     : each_leaf_below(walk, child, node_page + slot * span);
    }
    return status;
}

int index_each_leaf(struct index_tree *tree, uint64_t page, uint64_t end, index_leaf_visit *visit,
                    void *context)
{
    const struct leaf_walk walk = {tree, page, end, visit, context};
    struct tree_node *root;
    int status = index_load_root(tree, &root);

    return status < 0 || root == NULL ? status : each_leaf_below(&walk, root, 0);
}

/* --- changing --- */

static int make_root(struct index_tree *tree, struct tree_node **out)
{
    int status = index_load_root(tree, out);

    if (status < 0 || *out != NULL)
        return status;
    tree->root = index_node_new(tree, INDEX_LEVELS - 1);
    *out = tree->root;
    return tree->root != NULL ? 0 : -ENOMEM;
}

/* On the way down to an entry that is about to be changed. */
static void touch(struct index_tree *tree, struct tree_node *node)
{
    index_node_dirty(tree, node);
    node->changed |= !tree->applies_deltas;
}

static bool is_touched(const struct index_tree *tree, const struct tree_node *node)
{
    return node->dirty && (node->changed || tree->applies_deltas);
}

static void note_change(struct index_tree *tree, struct tree_node *leaf, unsigned slot)
{
    uint64_t *word = &index_changed_bits(leaf)[slot / 64], bit = 1ull << slot % 64;

    if (tree->applies_deltas || (*word & bit) != 0)
        return;
    *word |= bit;
    tree->changed_pages++;
}

static int make_child(struct index_tree *tree, struct tree_node *parent, unsigned slot,
                      struct tree_node **out)
{
    int status = index_load_child(tree, parent, slot, out);

    if (status < 0 || *out != NULL)
        return status;
    *out = index_node_new(tree, parent->level - 1);
    if (*out == NULL)
        return -ENOMEM;
    parent->children[slot] = *out;
    parent->entries_used++;
    return 0;
}

/* The leaf that page belongs to, made if it must be; it and the nodes above it are dirty then. A
 * failure leaves dirty nodes that need not be, no harm. */
static int make_leaf(struct index_tree *tree, uint64_t page, struct tree_node **out)
{
    struct tree_node *node;
    int status;

    if (tree->leaf != NULL && is_touched(tree, tree->leaf) &&
        page / INDEX_NODE_ENTRIES == tree->leaf_page / INDEX_NODE_ENTRIES) {
        *out = tree->leaf;
        return 0;
    }
    status = make_root(tree, &node);
    for (int level = INDEX_LEVELS - 1; status == 0 && level > 0; level--) {
        touch(tree, node);
        status = make_child(tree, node, index_slot(page, level), &node);
    }
    if (status < 0)
        return status;
    touch(tree, node);
    tree->leaf = node;
    tree->leaf_page = page - page % INDEX_NODE_ENTRIES;
    *out = node;
    return 0;
}

static int replace_entry(struct index_tree *tree, struct frames *frames, struct tree_node *leaf,
                         unsigned slot, struct index_entry entry)
{
    struct index_entry *place = &leaf->disk.entries[slot];
    int status = 0;

    if (frames != NULL && has_frame(*place) && place->frame != entry.frame)
        status = frames_release(frames, place->frame);
    if (status < 0)
        return status;
    tree->page_count += (uint64_t)has_frame(entry) - (uint64_t)has_frame(*place);
    leaf->entries_used =
        (uint16_t)(leaf->entries_used + (entry.frame != FRAME_NONE) - (place->frame != FRAME_NONE));
    *place = entry;
    note_change(tree, leaf, slot);
    return 0;
}

int index_set(struct index_tree *tree, struct frames *frames, uint64_t page,
              struct index_entry entry)
{
    struct index_entry present;
    struct tree_node *leaf;
    int status = index_lookup(tree, page, &present);

    if (status < 0 || same_entry(present, entry))
        return status;
    status = make_leaf(tree, page, &leaf);
    if (status == 0)
        status = replace_entry(tree, frames, leaf, index_slot(page, 0), entry);
    return status;
}

struct clear_range {
    uint64_t page, end;
    struct frames *frames;
};

static int clear_below(struct index_tree *tree, struct tree_node *node, uint64_t node_page,
                       const struct clear_range *range, bool *changed);

static int clear_slot(struct index_tree *tree, struct tree_node *node, unsigned slot,
                      uint64_t slot_page, const struct clear_range *range, bool *changed)
{
    struct tree_node *child;
    int status;

    if (node->level > 0) {
        status = index_load_child(tree, node, slot, &child);
        if (status == 0 && child != NULL)
            status = clear_below(tree, child, slot_page, range, changed);
        return status;
    }
    if (node->disk.entries[slot].frame == FRAME_NONE)
        return 0;
    status = replace_entry(tree, range->frames, node, slot, (struct index_entry){FRAME_NONE, 0});
    if (status == 0)
        *changed = true;
    return status;
}

/* Clears what of the range lies below node. A node becomes dirty only when something was there
 * to be cleared, but then also when an error ends it half-way. */
static int clear_below(struct index_tree *tree, struct tree_node *node, uint64_t node_page,
                       const struct clear_range *range, bool *changed)
{
    uint64_t span = index_span(node->level);
    unsigned slot = range->page > node_page ? (unsigned)((range->page - node_page) / span) : 0;
    bool changed_here = false;
    int status = 0;

    for (; status == 0 && slot < INDEX_NODE_ENTRIES && node_page + slot * span < range->end; slot++)
        status = clear_slot(tree, node, slot, node_page + slot * span, range, &changed_here);
    if (changed_here) {
        touch(tree, node);
        *changed = true;
    }
    return status;
}

int index_clear(struct index_tree *tree, struct frames *frames, uint64_t page, uint64_t end)
{
    struct clear_range range = {page, end < INDEX_PAGE_LIMIT ? end : INDEX_PAGE_LIMIT, frames};
    bool changed = false;
    struct tree_node *root;
    int status;

    if (range.page >= range.end)
        return 0;
    status = index_load_root(tree, &root);
    if (status == 0 && root != NULL)
        status = clear_below(tree, root, 0, &range, &changed);
    return status;
}

/* --- counting and walking --- */

static int count_page(void *context, uint64_t frame, int level)
{
    (void)frame;
    *(uint64_t *)context += level == INDEX_LEVEL_PAGE;
    return 0;
}

uint64_t index_page_count(struct index_tree *tree)
{
    uint64_t count = 0;

    if (!tree->page_count_known && index_walk_frames(tree, count_page, &count) == 0)
        index_know_page_count(tree, count);
    return tree->page_count_known ? tree->page_count : count;
}

void index_know_page_count(struct index_tree *tree, uint64_t count)
{
    tree->page_count = count;
    tree->page_count_known = true;
}

uint64_t index_damaged_frame(const struct index_tree *tree)
{
    return tree->damaged_frame;
}

struct walk {
    struct index_tree *tree;
    index_visit *visit;
    void *context;
    uint64_t nodes_left; /* to be read: a tree has no more nodes than the file has frames */
};

static int walk_node(struct walk *walk, const struct tree_node *node, struct index_entry entry,
                     int level);

static int walk_entries(struct walk *walk, const struct tree_node *node,
                        const struct index_node *disk, int level)
{
    int status = 0;

    for (unsigned slot = 0; status == 0 && slot < INDEX_NODE_ENTRIES; slot++) {
        struct index_entry entry = disk->entries[slot];

        if (level > 0)
            status = walk_node(walk, node != NULL ? node->children[slot] : NULL, entry, level - 1);
        else if (has_frame(entry))
            status = walk->visit(walk->context, entry.frame, INDEX_LEVEL_PAGE);
        if (status == 1) /* "skip what is below" a page: there is nothing */
            status = 0;
    }
    return status;
}

/* node NULL: it is not in memory, read it (entry FRAME_NONE: there is none). */
static int walk_node(struct walk *walk, const struct tree_node *node, struct index_entry entry,
                     int level)
{
    const struct index_node *disk;
    int status = 0;

    if (node == NULL && entry.frame == FRAME_NONE)
        return 0;
    if (has_frame(entry))
        status = walk->visit(walk->context, entry.frame, level);
    if (status != 0)
        return status < 0 ? status : 0;
    if (node != NULL) {
        disk = &node->disk;
    } else if (walk->nodes_left-- == 0) {
        walk->tree->damaged_frame = entry.frame;
        return STATUS_DAMAGED;
    } else {
        status = index_read_node(walk->tree, entry, &walk->tree->walk_nodes[level]);
        disk = &walk->tree->walk_nodes[level];
    }
    return status < 0 ? status : walk_entries(walk, node, disk, level);
}

static int walk_deltas(const struct walk *walk)
{
    int status = 0;

    for (unsigned i = 0; status >= 0 && i < walk->tree->delta_count; i++) {
        const struct delta_place *delta = &walk->tree->deltas[i];

        for (uint64_t k = 0; status >= 0 && k < delta->frames; k++)
            status = walk->visit(walk->context, delta->frame + k, INDEX_LEVEL_DELTA);
    }
    return status < 0 ? status : 0;
}

int index_walk_frames(struct index_tree *tree, index_visit *visit, void *context)
{
    struct walk walk = {tree, visit, context, 0};
    struct stat info;
    int status = sys_fstat(tree->fd, &info);

    if (status < 0)
        return status;
    walk.nodes_left = (uint64_t)info.st_size >> FRAME_SHIFT;
    if (tree->walk_nodes == NULL)
        tree->walk_nodes = arena_alloc(tree->arena, INDEX_LEVELS * FRAME_BYTES, 64);
    if (tree->walk_nodes == NULL)
        return -ENOMEM;
    status = walk_deltas(&walk);
    return status < 0 ? status : walk_node(&walk, tree->root, tree->root_entry, INDEX_LEVELS - 1);
}
