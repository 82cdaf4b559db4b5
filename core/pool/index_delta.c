/*
 * index_delta.c - the deltas of an index: read over the tree when it is opened, written instead of
 * nodes when few entries have changed.
 *
 * Worked example, one page through three generations, as in index.h but with deltas: page
 * 0x200000000 is written in generation 1 into frame 70; the tree is new, so its nodes are written,
 * root entry {84, c}. In generation 2 the page's neighbour is written, into frame 90: one delta,
 * frame 91, of one entry; the root entry stays {84, c}. In generation 3 our page is written into
 * frame 92: frame 70 is dead(2), a second delta in frame 93 names 91 as the one before. A reader of
 * generation 3 loads the leaf of generation 1, changes the neighbour's entry as 91 says and ours as
 * 93 says. A reader of generation 2 does not know of 93 and finds {70, ..}.
 *
 * What must always be true:
 *   1. memory holds what tree and chain say together, and what has changed since;
 *   2. an entry that was changed since the last committed generation has its bit set, so a delta
 *      that is written again after a failure says at least what the first one said;
 *   3. nodes and deltas of the file are never changed: both are written to free frames.
 */
#include <errno.h>
#include <string.h>

#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/frame.h"
#include "core/pool/index.h"
#include "core/pool/index_chain.h"
#include "core/pool/index_node.h"
#include "core/pool/persist.h"

#define READ_TOGETHER 32u /* entries of a delta that make reading all leaves around worth it */

/* --- reading --- */

static int apply_piece(struct index_tree *tree, const struct delta_piece *piece)
{
    return piece->entry.frame == FRAME_NONE ? index_clear(tree, NULL, piece->page, piece->end)
                                            : index_set(tree, NULL, piece->page, piece->entry);
}

/* The pages below one node of level 1. */
#define NEIGHBOURHOOD_PAGES (1ull << (2 * INDEX_LEVEL_BITS))

/* Reads all leaves of a neighbourhood together. */
static int load_neighbourhood(struct index_tree *tree, uint64_t page)
{
    struct tree_node *node;
    int status = index_load_root(tree, &node);

    for (int level = INDEX_LEVELS - 1; status == 0 && node != NULL && level > 1; level--)
        status = index_load_child(tree, node, index_slot(page, level), &node);
    return status < 0 || node == NULL ? status : index_load_leaves(tree, node);
}

/* The first page that any of the deltas still has something to say of. */
static uint64_t first_page(const struct delta_cursor *cursors, unsigned count)
{
    uint64_t first = INDEX_PAGE_LIMIT;

    for (unsigned i = 0; i < count; i++)
        if (delta_cursor_page(&cursors[i]) < first)
            first = delta_cursor_page(&cursors[i]);
    return first;
}

/* One neighbourhood, oldest delta first. */
static int apply_neighbourhood(struct index_tree *tree, struct delta_cursor *cursors,
                               unsigned count, uint64_t page)
{
    uint64_t limit = (page | (NEIGHBOURHOOD_PAGES - 1)) + 1;
    struct delta_piece piece;
    unsigned entries = 0;
    int status = 0;

    for (unsigned i = 0; i < count; i++)
        entries += delta_cursor_count(&cursors[i], limit, READ_TOGETHER);
    if (entries >= READ_TOGETHER)
        status = load_neighbourhood(tree, page);
    for (unsigned i = 0; status == 0 && i < count; i++)
        while (status == 0 && delta_cursor_take(&cursors[i], limit, &piece))
            status = apply_piece(tree, &piece);
    return status;
}

/*
 * Neighbourhood by neighbourhood, not delta by delta: the leaves of one stay in the processor's
 * cache while all deltas are applied to it. A chain over a large heap has a quarter of a million
 * entries, far from each other.
 */
int index_apply_deltas(struct index_tree *tree, struct delta_place newest)
{
    struct delta_cursor cursors[DELTAS_MAX];
    struct delta_chain chain;
    uint64_t page;
    int status = delta_chain_read(&chain, tree->arena, tree->fd, newest);

    if (status < 0) {
        tree->damaged_frame = chain.damaged_frame;
        return status;
    }
    memcpy(tree->deltas, chain.places, chain.count * sizeof chain.places[0]);
    tree->delta_count = chain.count;
    tree->delta_entries = delta_chain_entries(&chain);
    for (unsigned i = 0; i < chain.count; i++)
        cursors[i] = delta_cursor_at(chain.deltas[i], 0);
    tree->applies_deltas = true;
    while (status == 0 && (page = first_page(cursors, chain.count)) < INDEX_PAGE_LIMIT)
        status = apply_neighbourhood(tree, cursors, chain.count, page);
    tree->applies_deltas = false;
    return status;
}

/* --- writing --- */

static void add_entry(struct index_delta *delta, uint64_t page, struct index_entry entry)
{
    struct delta_entry *last = &delta->entries[delta->entry_count];
    uint64_t more;

    if (delta->entry_count > 0 && entry.frame == FRAME_NONE) {
        more = last[-1].page_and_more >> DELTA_PAGE_BITS;
        if (last[-1].entry.frame == FRAME_NONE && more < DELTA_MORE_MAX &&
            (last[-1].page_and_more & (INDEX_PAGE_LIMIT - 1)) + more + 1 == page) {
            last[-1].page_and_more += 1ull << DELTA_PAGE_BITS;
            return;
        }
    }
    *last = (struct delta_entry){page, entry};
    delta->entry_count++;
}

/* Calls are as deep as the tree has levels. */
static void collect(struct index_delta *delta, struct tree_node *node, uint64_t node_page)
{
    for (unsigned slot = 0; slot < INDEX_NODE_ENTRIES; slot++) {
        uint64_t page = node_page + slot * index_span(node->level);

        if (node->level > 0) {
            if (node->children[slot] != NULL && node->children[slot]->changed)
                collect(delta, node->children[slot], page);
        } else if (index_changed_bits(node)[slot / 64] >> slot % 64 & 1) {
            add_entry(delta, page, node->disk.entries[slot]);
        }
    }
}

/* In whole frames. */
static uint64_t delta_bytes(uint64_t entries)
{
    uint64_t bytes = sizeof(struct index_delta) + entries * sizeof(struct delta_entry);

    return (bytes + FRAME_BYTES - 1) & ~(uint64_t)(FRAME_BYTES - 1);
}

/* Room for one entry a changed page. */
static struct index_delta *delta_buffer(struct index_tree *tree)
{
    uint64_t bytes = delta_bytes(tree->changed_pages);

    if (bytes > tree->delta_buffer_bytes) {
        tree->delta_buffer = arena_alloc(tree->arena, bytes + bytes / 2, FRAME_BYTES);
        tree->delta_buffer_bytes = tree->delta_buffer != NULL ? bytes + bytes / 2 : 0;
    }
    return (struct index_delta *)tree->delta_buffer;
}

int index_release_delta(struct frames *frames, struct delta_place delta)
{
    int status = 0;

    for (uint64_t i = 0; status == 0 && i < delta.frames; i++)
        status = frames_release(frames, delta.frame + i);
    return status;
}

static int write_out(struct index_delta *delta, struct delta_place *place, struct frames *frames,
                     struct persist *persist)
{
    uint64_t bytes = delta_bytes(delta->entry_count);
    uint8_t *end = (uint8_t *)&delta->entries[delta->entry_count];
    int status = frames_take(frames, bytes >> FRAME_SHIFT, true, &place->frame, &place->frames);

    if (status < 0)
        return status;
    memset(end, 0, (size_t)((uint8_t *)delta + bytes - end));
    place->checksum = checksum64(delta, bytes);
    status = persist_write(persist, place->frame << FRAME_SHIFT, delta, bytes);
    if (status < 0 && index_release_delta(frames, *place) < 0)
        return STATUS_DAMAGED;
    return status;
}

int index_write_delta(struct index_tree *tree, struct frames *frames, struct persist *persist,
                      uint64_t *bytes_written)
{
    struct index_delta *delta = delta_buffer(tree);
    struct delta_place place = {FRAME_NONE, 0, 0};
    int status;

    if (delta == NULL)
        return -ENOMEM;
    *delta = (struct index_delta){.entry_count = 0};
    if (tree->delta_count > 0)
        delta->before = tree->deltas[tree->delta_count - 1];
    collect(delta, tree->root, 0);
    status = write_out(delta, &place, frames, persist);
    if (status < 0)
        return status;
    tree->written = place;
    tree->written_entries = delta->entry_count;
    *bytes_written += place.frames << FRAME_SHIFT;
    return 0;
}
