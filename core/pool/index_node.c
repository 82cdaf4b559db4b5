/*
 * index_node.c - nodes of an index: made, loaded, checked, recycled.
 *
 * Always true: a node that came from the file had the checksum that its parent's entry holds.
 */
#include "core/pool/index_node.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"

/* Beyond this a byte offset would not fit; no real file is that long. */
#define FRAME_OFFSET_LIMIT (1ull << (63 - FRAME_SHIFT))

/* A file that was cut short is damaged; only what is there and cannot be read is an I/O error. */
static bool is_beyond_end(int fd, uint64_t frame)
{
    struct stat info;

    return sys_fstat(fd, &info) == 0 && (uint64_t)info.st_size <= frame << FRAME_SHIFT;
}

int index_read_node(struct index_tree *tree, struct index_entry entry, struct index_node *out)
{
    int status = STATUS_DAMAGED;

    if (entry.frame >= FRAME_FIRST && entry.frame < FRAME_OFFSET_LIMIT)
        status = sys_pread_all(tree->fd, out, sizeof(*out), entry.frame << FRAME_SHIFT);
    if (status == -EIO && is_beyond_end(tree->fd, entry.frame))
        status = STATUS_DAMAGED;
    if (status == 0 && checksum64(out, sizeof(*out)) != entry.checksum)
        status = STATUS_DAMAGED;
    if (status < 0)
        tree->damaged_frame = entry.frame;
    return status;
}

struct tree_node *index_node_new(struct index_tree *tree, int level)
{
    struct tree_node **unused = level == 0 ? &tree->unused_leaves : &tree->unused_inner;
    size_t bytes = sizeof(struct tree_node);
    struct tree_node *node = *unused;

    bytes += level > 0 ? INDEX_NODE_ENTRIES * sizeof(node->children[0])
                       : INDEX_CHANGED_WORDS * sizeof(uint64_t);
    if (node != NULL) {
        *unused = node->next_unused;
        memset(node, 0, bytes);
    } else {
        node = arena_alloc(tree->arena, bytes, 64);
    }
    if (node != NULL)
        node->level = (int8_t)level;
    return node;
}

void index_node_recycle(struct index_tree *tree, struct tree_node *node)
{
    struct tree_node **unused = node->level == 0 ? &tree->unused_leaves : &tree->unused_inner;

    if (tree->leaf == node)
        tree->leaf = NULL;
    if (node->dirty)
        tree->dirty_nodes--;
    node->next_unused = *unused;
    *unused = node;
}

void index_node_dirty(struct index_tree *tree, struct tree_node *node)
{
    if (node->dirty)
        return;
    node->dirty = true;
    tree->dirty_nodes++;
}

static uint16_t count_used(const struct index_node *disk)
{
    uint16_t used = 0;

    for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++)
        used += disk->entries[i].frame != FRAME_NONE;
    return used;
}

/* A tree names each of its nodes once. One that names a frame again and again, as only an enemy
 * makes them, has 256^4 leaves in five frames: there are no more nodes than the file has frames. */
static bool may_load(struct index_tree *tree)
{
    struct stat info;

    if (tree->loaded_nodes >= tree->loadable_nodes && sys_fstat(tree->fd, &info) == 0)
        tree->loadable_nodes = (uint64_t)info.st_size >> FRAME_SHIFT; /* it may have grown */
    return tree->loaded_nodes < tree->loadable_nodes;
}

static int load(struct index_tree *tree, struct index_entry entry, int level,
                struct tree_node **out)
{
    struct tree_node *node;
    int status;

    if (entry.frame == FRAME_NONE)
        return 0;
    if (!may_load(tree)) {
        tree->damaged_frame = entry.frame;
        return STATUS_DAMAGED;
    }
    node = index_node_new(tree, level);
    if (node == NULL)
        return -ENOMEM;
    status = index_read_node(tree, entry, &node->disk);
    if (status < 0) {
        index_node_recycle(tree, node);
        return status;
    }
    tree->loaded_nodes++;
    node->entries_used = count_used(&node->disk);
    *out = node;
    return 0;
}

/* Leaves that lie side by side in the file, on their way into memory. */
struct leaf_batch {
    struct tree_node *leaves[INDEX_NODE_ENTRIES];
    struct iovec pieces[INDEX_NODE_ENTRIES];
    uint8_t slots[INDEX_NODE_ENTRIES];
    unsigned count;
    uint64_t first_frame;
};

static int adopt_leaf(struct index_tree *tree, struct tree_node *parent, unsigned slot,
                      struct tree_node *leaf)
{
    if (checksum64(&leaf->disk, FRAME_BYTES) != parent->disk.entries[slot].checksum) {
        tree->damaged_frame = parent->disk.entries[slot].frame;
        index_node_recycle(tree, leaf);
        return STATUS_DAMAGED;
    }
    tree->loaded_nodes++;
    leaf->entries_used = count_used(&leaf->disk);
    parent->children[slot] = leaf;
    return 0;
}

/* In one call; what that leaves out, one by one. */
static int read_leaves(struct index_tree *tree, const struct leaf_batch *batch)
{
    long got = sys_call(SYS_preadv, tree->fd, batch->pieces, batch->count,
                        batch->first_frame << FRAME_SHIFT, 0);
    int status = got < 0 && got != -EINTR ? (int)got : 0;

    for (unsigned i = got > 0 ? (unsigned)got / FRAME_BYTES : 0; status == 0 && i < batch->count;
         i++)
        status = sys_pread_all(tree->fd, &batch->leaves[i]->disk, FRAME_BYTES,
                               (batch->first_frame + i) << FRAME_SHIFT);
    if (status < 0)
        tree->damaged_frame = batch->first_frame;
    return status == -EIO ? STATUS_DAMAGED : status;
}

static int read_batch(struct index_tree *tree, struct tree_node *parent, struct leaf_batch *batch)
{
    int status;

    if (batch->count == 0)
        return 0;
    status = read_leaves(tree, batch);
    for (unsigned i = 0; i < batch->count; i++) {
        if (status == 0)
            status = adopt_leaf(tree, parent, batch->slots[i], batch->leaves[i]);
        else
            index_node_recycle(tree, batch->leaves[i]);
    }
    batch->count = 0;
    return status;
}

static int add_to_batch(struct index_tree *tree, struct leaf_batch *batch, unsigned slot,
                        uint64_t frame)
{
    struct tree_node *leaf = index_node_new(tree, 0);

    if (leaf == NULL)
        return -ENOMEM;
    if (batch->count == 0)
        batch->first_frame = frame;
    batch->leaves[batch->count] = leaf;
    batch->pieces[batch->count] = (struct iovec){&leaf->disk, FRAME_BYTES};
    batch->slots[batch->count++] = (uint8_t)slot;
    return 0;
}

int index_load_leaves(struct index_tree *tree, struct tree_node *parent)
{
    struct leaf_batch batch = {.count = 0};
    int status = 0, read_status;

    for (unsigned slot = 0; status == 0 && slot < INDEX_NODE_ENTRIES; slot++) {
        uint64_t frame = parent->disk.entries[slot].frame;

        if (parent->children[slot] != NULL || frame == FRAME_NONE)
            continue;
        if (frame < FRAME_FIRST || frame >= FRAME_OFFSET_LIMIT || !may_load(tree)) {
            tree->damaged_frame = frame;
            status = STATUS_DAMAGED;
        }
        if (status == 0 && batch.count > 0 && batch.first_frame + batch.count != frame)
            status = read_batch(tree, parent, &batch);
        if (status == 0)
            status = add_to_batch(tree, &batch, slot, frame);
    }
    read_status = read_batch(tree, parent, &batch);
    return status < 0 ? status : read_status;
}

int index_load_root(struct index_tree *tree, struct tree_node **out)
{
    int status = 0;

    if (tree->root == NULL)
        status = load(tree, tree->root_entry, INDEX_LEVELS - 1, &tree->root);
    *out = tree->root;
    return status;
}

int index_load_child(struct index_tree *tree, struct tree_node *parent, unsigned slot,
                     struct tree_node **out)
{
    int status = 0;

    if (parent->children[slot] == NULL)
        status = load(tree, parent->disk.entries[slot], parent->level - 1, &parent->children[slot]);
    *out = parent->children[slot];
    return status;
}
