/*
 * index_write.c - writes what has changed of an index: as a delta, or, when that is no smaller or
 * the chain has become long, as the tree's nodes ("folding": the deltas end there).
 *
 * Leaves first: a node is copied to the staging buffer only when all its entries are final, since
 * its parent's entry holds the checksum of that copy. Nodes get consecutive frames as far as the
 * pool has them, and one write takes as many as lie side by side.
 *
 * What must always be true, also when a step fails: a node that is not in its frame in the file
 * is dirty, and so is all above it; its entry names a frame that belongs to it alone, so that the
 * next attempt releases that frame and takes another. Nothing that is durable is overwritten:
 * new nodes go to free frames.
 */
#include "core/pool/index.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/pool/frame.h"
#include "core/pool/index_node.h"
#include "core/pool/persist.h"

#define STAGING_NODES 64u /* 256 KiB a write */

/* The chain is read and applied whenever the index is opened, 0.1 us an entry and less. A fold
 * writes 16 bytes a page at most, so one entry for 12 pages keeps its share of each generation
 * below 192 bytes an entry; a changed page makes two, its own and that of one brought home: a tenth
 * of the page, at most. */
#define DELTA_ENTRIES_MIN 4096u
#define PAGES_PER_ENTRY   12u

struct node_writer {
    struct index_tree *tree;
    struct frames *frames;
    struct persist *persist;
    uint64_t bytes_written;
    uint64_t run_next, run_end; /* frames taken and not yet given to a node */
    uint64_t batch_frame;       /* of the first staged node */
    unsigned batch_count;       /* staged, not yet written */
    struct tree_node *batch[STAGING_NODES];
};

static int flush(struct node_writer *writer)
{
    size_t bytes = (size_t)writer->batch_count * FRAME_BYTES;
    int status;

    if (writer->batch_count == 0)
        return 0;
    status = persist_write(writer->persist, writer->batch_frame << FRAME_SHIFT,
                           writer->tree->staging, bytes);
    if (status < 0)
        for (unsigned i = 0; i < writer->batch_count; i++)
            index_node_dirty(writer->tree, writer->batch[i]);
    else
        writer->bytes_written += bytes;
    writer->batch_count = 0;
    return status;
}

/* Makes sure that the next staged node has a frame that continues the batch. */
static int reserve_frame(struct node_writer *writer)
{
    uint64_t first, got;
    int status;

    if (writer->batch_count == STAGING_NODES || writer->run_next == writer->run_end) {
        status = flush(writer);
        if (status < 0)
            return status;
    }
    if (writer->run_next < writer->run_end)
        return 0;
    status = frames_take(writer->frames, writer->tree->dirty_nodes, false, &first, &got);
    if (status < 0)
        return status;
    writer->run_next = first;
    writer->run_end = first + got;
    return 0;
}

static int stage(struct node_writer *writer, struct tree_node *node, struct index_entry *entry)
{
    struct index_tree *tree = writer->tree;
    int status = reserve_frame(writer);

    if (status == 0 && entry->frame >= FRAME_FIRST)
        status = frames_release(writer->frames, entry->frame);
    if (status < 0)
        return status;
    if (writer->batch_count == 0)
        writer->batch_frame = writer->run_next;
    memcpy(tree->staging + (size_t)writer->batch_count * FRAME_BYTES, &node->disk, FRAME_BYTES);
    writer->batch[writer->batch_count++] = node;
    entry->frame = writer->run_next++;
    entry->checksum = checksum64(&node->disk, FRAME_BYTES);
    node->dirty = false;
    tree->dirty_nodes--;
    return 0;
}

static int write_node(struct node_writer *writer, struct tree_node *node,
                      struct index_entry *entry);

static int write_children(struct node_writer *writer, struct tree_node *node)
{
    for (unsigned slot = 0; slot < INDEX_NODE_ENTRIES; slot++) {
        struct tree_node *child = node->children[slot];
        int status;

        if (child == NULL || !child->dirty)
            continue;
        status = write_node(writer, child, &node->disk.entries[slot]);
        if (status < 0)
            return status;
        if (child->entries_used == 0) {
            node->children[slot] = NULL;
            node->entries_used--;
            index_node_recycle(writer->tree, child);
        }
    }
    return 0;
}

/* A node that has become empty loses its frame and stays unwritten; the caller takes it out. */
static int write_node(struct node_writer *writer, struct tree_node *node, struct index_entry *entry)
{
    int status = node->level > 0 ? write_children(writer, node) : 0;

    if (status < 0)
        return status;
    if (node->entries_used > 0)
        return stage(writer, node, entry);
    if (entry->frame >= FRAME_FIRST)
        status = frames_release(writer->frames, entry->frame);
    if (status == 0)
        *entry = (struct index_entry){FRAME_NONE, 0};
    return status;
}

/* Frames that were taken for nodes that turned out empty, or that an error left over. */
static int return_frames(struct node_writer *writer)
{
    int status = 0;

    while (status == 0 && writer->run_next < writer->run_end)
        status = frames_release(writer->frames, writer->run_next++);
    return status;
}

static int write_tree(struct node_writer *writer)
{
    struct index_tree *tree = writer->tree;
    int status = write_node(writer, tree->root, &tree->root_entry);
    int flushed = flush(writer); /* after an error too: what is staged must be written or dirty */
    int returned = return_frames(writer);

    if (status == 0)
        status = flushed;
    if (status == 0)
        status = returned;
    if (status == 0 && tree->root->entries_used == 0) {
        index_node_recycle(tree, tree->root);
        tree->root = NULL;
    }
    return status;
}

static bool folds(struct index_tree *tree)
{
    uint64_t pages = index_page_count(tree), entries = tree->delta_entries + tree->changed_pages;
    uint64_t limit = pages / PAGES_PER_ENTRY;

    if (tree->must_fold || tree->root_entry.frame == FRAME_NONE || tree->delta_count == DELTAS_MAX)
        return true;
    return entries > (limit > DELTA_ENTRIES_MIN ? limit : DELTA_ENTRIES_MIN) ||
           tree->changed_pages * sizeof(struct delta_entry) >= tree->dirty_nodes * FRAME_BYTES;
}

/* The old generation needs its chain as long as it is kept; the one in progress does not. */
static int leave_chain(struct index_tree *tree, struct frames *frames)
{
    int status = 0;

    tree->must_fold = true;
    while (status == 0 && tree->delta_count > 0)
        status = index_release_delta(frames, tree->deltas[--tree->delta_count]);
    tree->delta_entries = 0;
    return status;
}

static int fold(struct index_tree *tree, struct frames *frames, struct persist *persist,
                uint64_t *bytes_written)
{
    struct node_writer writer = {.tree = tree, .frames = frames, .persist = persist};
    int status = leave_chain(tree, frames);

    if (status < 0 || tree->root == NULL || !tree->root->dirty)
        return status;
    if (tree->staging == NULL)
        tree->staging = arena_alloc(tree->arena, STAGING_NODES * FRAME_BYTES, 64);
    if (tree->staging == NULL)
        return -ENOMEM;
    status = write_tree(&writer);
    *bytes_written += writer.bytes_written;
    return status;
}

int index_write(struct index_tree *tree, struct frames *frames, struct persist *persist,
                struct index_root *root, uint64_t *bytes_written)
{
    int status = index_uncommitted(tree, frames);

    if (status == 0 && tree->must_fold)
        status = fold(tree, frames, persist, bytes_written);
    else if (status == 0 && tree->changed_pages > 0)
        status = folds(tree) ? fold(tree, frames, persist, bytes_written)
                             : index_write_delta(tree, frames, persist, bytes_written);
    root->node = tree->root_entry;
    root->delta = tree->written;
    if (tree->written.frames == 0 && tree->delta_count > 0)
        root->delta = tree->deltas[tree->delta_count - 1];
    return status;
}

void index_fold(struct index_tree *tree)
{
    tree->must_fold = true;
}

/* --- after a commit --- */

static void forget_changes(struct tree_node *node)
{
    node->changed = false;
    if (node->level == 0) {
        memset(index_changed_bits(node), 0, INDEX_CHANGED_WORDS * sizeof(uint64_t));
        return;
    }
    for (unsigned slot = 0; slot < INDEX_NODE_ENTRIES; slot++)
        if (node->children[slot] != NULL && node->children[slot]->changed)
            forget_changes(node->children[slot]);
}

void index_committed(struct index_tree *tree)
{
    if (tree->written.frames > 0) {
        tree->deltas[tree->delta_count++] = tree->written;
        tree->delta_entries += tree->written_entries;
    }
    tree->written = (struct delta_place){FRAME_NONE, 0, 0};
    tree->must_fold = false;
    tree->changed_pages = 0;
    if (tree->root != NULL && tree->root->changed)
        forget_changes(tree->root);
}

int index_uncommitted(struct index_tree *tree, struct frames *frames)
{
    struct delta_place written = tree->written;

    tree->written = (struct delta_place){FRAME_NONE, 0, 0};
    return index_release_delta(frames, written);
}
