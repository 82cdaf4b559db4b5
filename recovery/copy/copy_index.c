/*
 * copy_index.c - the index of a generation as a new tree, leaves first, each node written once for
 * all generations that have the same one at the same place.
 *
 * Worked example: generation 1 has pages below leaves A and B, generation 2 changed a page below
 * B. Leaf A comes out the same: its checksum is that of the one placed at A, which is named again.
 * B and the nodes above differ and are written anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/checksum.h"
#include "recovery/copy/copying.h"

/* One node of each level is being filled: the one on the way to the newest leaf. */
struct building {
    struct copying *copying;
    struct index_node nodes[INDEX_LEVELS];
    uint64_t first_pages[INDEX_LEVELS];
    bool is_open[INDEX_LEVELS];
    struct index_entry *root;
};

/* --- nodes that are there --- */

static struct placed_node *find_placed(const struct placed_nodes *placed, uint64_t key)
{
    uint64_t i = key * 0x9e3779b97f4a7c15ull >> 20;

    while (placed->nodes[i & (placed->room - 1)].key != 0 &&
           placed->nodes[i & (placed->room - 1)].key != key)
        i++;
    return &placed->nodes[i & (placed->room - 1)];
}

/* At most half full. */
static int make_room(struct placed_nodes *placed)
{
    struct placed_nodes larger = {NULL, placed->room ? placed->room * 2 : 1024, placed->count};

    if (placed->count * 2 < placed->room)
        return 0;
    larger.nodes = calloc(larger.room, sizeof *larger.nodes);
    if (larger.nodes == NULL)
        return -ENOMEM;
    for (uint64_t i = 0; i < placed->room; i++)
        if (placed->nodes[i].key != 0)
            *find_placed(&larger, placed->nodes[i].key) = placed->nodes[i];
    free(placed->nodes);
    *placed = larger;
    return 0;
}

/* The entry that leads to this node at this place: of the one that is there, or of a new one. */
static int place_node(struct copying *copying, const struct index_node *node, int level,
                      uint64_t first_page, struct index_entry *out)
{
    uint64_t sum = checksum64(node, sizeof *node);
    struct placed_node *there;
    int status = make_room(&copying->placed);

    if (status < 0)
        return status;
    there = find_placed(&copying->placed, first_page << 4 | (unsigned)(level + 1));
    if (there->key == 0 || there->entry.checksum != sum) {
        copying->placed.count += there->key == 0;
        there->key = first_page << 4 | (unsigned)(level + 1);
        there->entry.checksum = sum;
        status = output_append(&copying->output, node, &there->entry.frame);
    }
    *out = there->entry;
    return status;
}

/* --- the tree --- */

static uint64_t first_page_of_node(uint64_t page, int level)
{
    return page & ~((1ull << ((level + 1) * INDEX_LEVEL_BITS)) - 1);
}

static int add_entry(struct building *building, int level, uint64_t page, struct index_entry entry);

/* The node is complete. As deep as the tree has levels. */
static int close_node(struct building *building, int level)
{
    struct index_entry entry;
    int status = place_node(building->copying, &building->nodes[level], level,
                            building->first_pages[level], &entry);

    building->is_open[level] = false;
    if (status < 0)
        return status;
    if (level < INDEX_LEVELS - 1)
        return add_entry(building, level + 1, building->first_pages[level], entry);
    *building->root = entry;
    return 0;
}

static int add_entry(struct building *building, int level, uint64_t page, struct index_entry entry)
{
    uint64_t first_page = first_page_of_node(page, level);
    unsigned slot = page >> (level * INDEX_LEVEL_BITS) & (INDEX_NODE_ENTRIES - 1);
    int status = 0;

    if (building->is_open[level] && building->first_pages[level] != first_page)
        status = close_node(building, level);
    if (!building->is_open[level]) {
        memset(&building->nodes[level], 0, sizeof building->nodes[level]);
        building->first_pages[level] = first_page;
        building->is_open[level] = true;
    }
    building->nodes[level].entries[slot] = entry;
    return status;
}

static int add_leaf(void *context, uint64_t first_page,
                    const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct building *building = context;
    int status = 0;

    for (unsigned i = 0; status == 0 && i < INDEX_NODE_ENTRIES; i++) {
        struct index_entry entry = entries[i];

        if (entry.frame == FRAME_NONE)
            continue;
        if (entry.frame >= FRAME_FIRST)
            entry.frame = building->copying->moved[entry.frame];
        status = add_entry(building, 0, first_page + i, entry);
    }
    return status;
}

int copy_index(struct copying *copying, struct index_tree *tree, struct index_entry *root)
{
    struct building *building = calloc(1, sizeof *building);
    int status;

    if (building == NULL)
        return -ENOMEM;
    building->copying = copying;
    building->root = root;
    *root = (struct index_entry){FRAME_NONE, 0};
    status = index_each_leaf(tree, 0, INDEX_PAGE_LIMIT, add_leaf, building);
    for (int level = 0; status == 0 && level < INDEX_LEVELS; level++)
        if (building->is_open[level])
            status = close_node(building, level);
    free(building);
    return status;
}
