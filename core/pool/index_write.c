/*
 * index_write.c - writes the changed nodes of an index into new frames.
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

int index_write(struct index_tree *tree, struct frames *frames, struct persist *persist,
                struct index_entry *root, uint64_t *bytes_written)
{
    struct node_writer writer = {.tree = tree, .frames = frames, .persist = persist};
    int status = 0;

    if (tree->root != NULL && tree->root->dirty) {
        if (tree->staging == NULL)
            tree->staging = arena_alloc(tree->arena, STAGING_NODES * FRAME_BYTES, 64);
        if (tree->staging == NULL)
            return -ENOMEM;
        status = write_tree(&writer);
        *bytes_written += writer.bytes_written;
    }
    *root = tree->root_entry;
    return status;
}
