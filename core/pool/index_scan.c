/*
 * index_scan.c - see index_scan.h. The tree is walked down to the nodes of level 1. What lies below
 * those passes by in groups of 64 leaves, in one buffer that is used again for the next: memory
 * that is touched for the first time costs more than what is done with it.
 *
 * What must always be true: an entry that is shown was checked all the way from the root, and the
 * deltas have been applied to it oldest first; the cursors stand at or behind the first page that
 * was not shown yet.
 */
#include "core/pool/index_scan.h"

#include <errno.h>
#include <string.h>

#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/index_chain.h"
#include "core/pool/index_node.h"

#define GROUP_LEAVES 64u /* 256 KiB */

struct index_scan {
    int fd;
    struct index_entry root;
    struct delta_chain chain;
    uint64_t damaged_frame;
    uint64_t file_frames;
    struct index_node inner[INDEX_LEVELS - 1]; /* the ones on the way, of levels 1 and up */
    struct index_node leaves[GROUP_LEAVES];

    /* of the call under way */
    uint64_t page, end; /* whole leaves */
    struct delta_cursor cursors[DELTAS_MAX];
    uint64_t nodes_left; /* a tree has no more nodes than the file has frames: see index_node.c */
    index_leaf_visit *visit;
    void *context;
};

int index_scan_open(struct index_scan **out, struct arena *arena, int fd, struct index_root root)
{
    struct index_scan *scan = arena_alloc(arena, sizeof *scan, FRAME_BYTES);
    int status;

    if (scan == NULL)
        return -ENOMEM;
    scan->fd = fd;
    scan->root = root.node;
    *out = scan;
    status = delta_chain_read(&scan->chain, arena, fd, root.delta);
    if (status < 0)
        scan->damaged_frame = scan->chain.damaged_frame;
    return status;
}

uint64_t index_scan_damaged_frame(const struct index_scan *scan)
{
    return scan->damaged_frame;
}

/* --- nodes --- */

static int damaged(struct index_scan *scan, uint64_t frame)
{
    scan->damaged_frame = frame;
    return STATUS_DAMAGED;
}

/* Reads `count` nodes that lie side by side in the file and are what the entries say. */
static int read_nodes(struct index_scan *scan, const struct index_entry *entries, unsigned count,
                      struct index_node *out)
{
    uint64_t first = entries[0].frame;
    int status = 0;

    if (first < FRAME_FIRST || first >= scan->file_frames || count > scan->file_frames - first)
        return damaged(scan, first);
    if (count > scan->nodes_left)
        return damaged(scan, first);
    scan->nodes_left -= count;
    status = sys_pread_all(scan->fd, out, count * sizeof *out, first << FRAME_SHIFT);
    if (status < 0) {
        scan->damaged_frame = first;
        return status;
    }
    for (unsigned i = 0; i < count; i++)
        if (checksum64(&out[i], sizeof out[i]) != entries[i].checksum)
            return damaged(scan, entries[i].frame);
    return 0;
}

/* Of a node that is not there all entries are empty. */
static int read_inner(struct index_scan *scan, struct index_entry entry, struct index_node *out)
{
    if (entry.frame != FRAME_NONE)
        return read_nodes(scan, &entry, 1, out);
    memset(out, 0, sizeof *out);
    return 0;
}

/* --- one group of leaves --- */

struct group {
    const struct index_entry *entries; /* of the leaves, in the node above them */
    uint64_t first_page, end_page;
    unsigned count;
    bool shown[GROUP_LEAVES]; /* leaf i is there */
};

static int read_leaves(struct index_scan *scan, struct group *group)
{
    int status = 0;

    for (unsigned i = 0, count; status == 0 && i < group->count; i += count) {
        uint64_t frame = group->entries[i].frame;

        count = 1;
        if (frame == FRAME_NONE)
            continue;
        while (i + count < group->count && group->entries[i + count].frame == frame + count)
            count++;
        status = read_nodes(scan, &group->entries[i], count, &scan->leaves[i]);
        memset(&group->shown[i], true, count);
    }
    return status;
}

/* Changes one leaf as the piece says. */
static void apply_to_leaf(struct index_scan *scan, struct group *group, unsigned i,
                          const struct delta_piece *piece)
{
    uint64_t leaf_page = group->first_page + i * INDEX_NODE_ENTRIES;
    uint64_t leaf_end = leaf_page + INDEX_NODE_ENTRIES;
    uint64_t page = piece->page > leaf_page ? piece->page : leaf_page;
    uint64_t end = piece->end < leaf_end ? piece->end : leaf_end;
    struct index_node *leaf = &scan->leaves[i];

    if (!group->shown[i]) {
        if (piece->entry.frame == FRAME_NONE)
            return;
        memset(leaf, 0, sizeof *leaf);
        group->shown[i] = true;
    }
    for (; page < end; page++)
        leaf->entries[page - leaf_page] = piece->entry;
}

static void apply_deltas(struct index_scan *scan, struct group *group)
{
    struct delta_piece piece;

    for (unsigned k = 0; k < scan->chain.count; k++)
        while (delta_cursor_take(&scan->cursors[k], group->end_page, &piece))
            for (uint64_t i = (piece.page - group->first_page) / INDEX_NODE_ENTRIES;
                 i <= (piece.end - 1 - group->first_page) / INDEX_NODE_ENTRIES; i++)
                apply_to_leaf(scan, group, (unsigned)i, &piece);
}

static int pass_group(struct index_scan *scan, struct group *group)
{
    int status = read_leaves(scan, group);

    if (status == 0)
        apply_deltas(scan, group);
    for (unsigned i = 0; status == 0 && i < group->count; i++)
        if (group->shown[i])
            status = scan->visit(scan->context, group->first_page + i * INDEX_NODE_ENTRIES,
                                 scan->leaves[i].entries);
    return status;
}

/* The leaves below a node of level 1 that belong to the call. */
static int pass_leaves(struct index_scan *scan, const struct index_node *parent,
                       uint64_t parent_page)
{
    uint64_t end = parent_page + index_span(2);
    uint64_t page = scan->page > parent_page ? scan->page : parent_page;
    int status = 0;

    end = scan->end < end ? scan->end : end;
    while (status == 0 && page < end) {
        uint64_t left = (end - page) / INDEX_NODE_ENTRIES;
        struct group group = {.entries = &parent->entries[index_slot(page, 1)],
                              .first_page = page,
                              .count = left < GROUP_LEAVES ? (unsigned)left : GROUP_LEAVES};

        group.end_page = page + group.count * INDEX_NODE_ENTRIES;
        status = pass_group(scan, &group);
        page = group.end_page;
    }
    return status;
}

/* --- all of them --- */

/* Has a delta something to say of pages below end that were not shown yet? */
static bool deltas_reach(const struct index_scan *scan, uint64_t end)
{
    for (unsigned i = 0; i < scan->chain.count; i++)
        if (delta_cursor_page(&scan->cursors[i]) < end)
            return true;
    return false;
}

/* Where the tree has nothing, what deltas clear is nothing: a range of sixteen million pages takes
 * no time. Up to the first delta that sets something there, which a newer one may clear again. */
static void skip_clearings(struct index_scan *scan, uint64_t end)
{
    struct delta_piece piece;

    for (unsigned i = 0; i < scan->chain.count; i++) {
        struct delta_cursor *cursor = &scan->cursors[i];

        while (delta_cursor_page(cursor) < end &&
               cursor->delta->entries[cursor->at].entry.frame == FRAME_NONE)
            (void)delta_cursor_take(cursor, end, &piece);
        if (delta_cursor_page(cursor) < end)
            return;
    }
}

static bool has_something(struct index_scan *scan, struct index_entry entry, uint64_t end)
{
    if (entry.frame != FRAME_NONE)
        return true;
    skip_clearings(scan, end);
    return deltas_reach(scan, end);
}

/* Calls are as deep as the tree has levels. */
static int pass_node(struct index_scan *scan, struct index_entry entry, int level,
                     uint64_t node_page)
{
    struct index_node *node = &scan->inner[level - 1];
    uint64_t span = index_span(level);
    unsigned slot = scan->page > node_page ? (unsigned)((scan->page - node_page) / span) : 0;
    int status = read_inner(scan, entry, node);

    if (status == 0 && level == 1)
        return pass_leaves(scan, node, node_page);
    for (; status == 0 && slot < INDEX_NODE_ENTRIES; slot++) {
        uint64_t slot_page = node_page + slot * span;

        if (slot_page >= scan->end)
            break;
        if (has_something(scan, node->entries[slot],
                          slot_page + span < scan->end ? slot_page + span : scan->end))
            status = pass_node(scan, node->entries[slot], level - 1, slot_page);
    }
    return status;
}

int index_scan_leaves(struct index_scan *scan, uint64_t page, uint64_t end, index_leaf_visit *visit,
                      void *context)
{
    struct stat info;
    int status = sys_fstat(scan->fd, &info);

    if (status < 0)
        return status;
    scan->file_frames = scan->nodes_left = (uint64_t)info.st_size >> FRAME_SHIFT;
    if (end > INDEX_PAGE_LIMIT)
        end = INDEX_PAGE_LIMIT;
    if (page >= end)
        return 0;
    scan->page = page & ~(uint64_t)(INDEX_NODE_ENTRIES - 1);
    scan->end = (end + INDEX_NODE_ENTRIES - 1) & ~(uint64_t)(INDEX_NODE_ENTRIES - 1);
    scan->visit = visit;
    scan->context = context;
    for (unsigned i = 0; i < scan->chain.count; i++)
        scan->cursors[i] = delta_cursor_at(scan->chain.deltas[i], scan->page);
    return has_something(scan, scan->root, scan->end)
               ? pass_node(scan, scan->root, INDEX_LEVELS - 1, 0)
               : 0;
}
