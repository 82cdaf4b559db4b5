/*
 * walk_index.c - the index of a generation, walked: tree and deltas, as docs/pool-format.md says
 * they are to be read.
 *
 * What must always be true: a node is gone down from only at the place in the tree that it was
 * first met at; so a walk takes each frame once, however often a hostile tree names it. What a leaf
 * says of a page that a delta names is not looked at: its frame may be in use for something else.
 */
#include <errno.h>
#include <stdlib.h>
#include "core/base/checksum.h"
#include "recovery/check/checking.h"

struct walking {
    struct checking *checking;
    uint32_t index;
    bool claims;
    struct overlay overlay;
    uint64_t next; /* range of the overlay: none before it covers a page still to come */
    check_visit_page *visit;
    void *context;
};

static uint64_t number_of(const struct walking *walking)
{
    return check_entry(walking->checking, walking->index)->number;
}

static bool is_covered(struct walking *walking, uint64_t page)
{
    const struct overlay *overlay = &walking->overlay;

    while (walking->next < overlay->count && overlay->ranges[walking->next].end <= page)
        walking->next++;
    return walking->next < overlay->count && overlay->ranges[walking->next].page <= page;
}

static void tell_empty(struct walking *walking, uint64_t offset, uint64_t page,
                       const struct index_entry *entry)
{
    check_tell(walking->checking, IX_EMPTY, SEVERITY_HARMLESS,
               place_of(number_of(walking), offset, page << FRAME_SHIFT), "checksum 0", "%016lx",
               entry->checksum);
}

/* 1: node is read and to be gone through. */
static int read_node(struct walking *walking, struct index_entry entry, bool is_new, uint64_t page,
                     struct index_node *node)
{
    struct checking *checking = walking->checking;
    uint64_t offset = entry.frame << FRAME_SHIFT, found = 0;
    int status = check_read(checking, node, sizeof *node, offset);

    if (status == 0)
        found = checksum64(node, sizeof *node);
    if (status == 0 && found == entry.checksum) {
        checking->result->checked_bytes += is_new ? FRAME_BYTES : 0;
        return 1;
    }
    frame_is_bad(checking, entry.frame);
    if (is_new)
        check_tell(checking, IX_NODE, SEVERITY_DAMAGE,
                   place_of(number_of(walking), offset, page << FRAME_SHIFT),
                   "the checksum that its parent has for it", "%s%016lx",
                   status < 0 ? "unreadable, " : "checksum ", found);
    return 0;
}

/* 1: to be gone through. */
static int enter_node(struct walking *walking, struct index_entry entry, int level, uint64_t page,
                      struct index_node *node, bool *is_new)
{
    unsigned role = ROLE_NODE + (unsigned)level;
    const struct frame_use *use;
    int claim = CLAIM_KNOWN;

    if (walking->claims)
        claim =
            frame_claim(walking->checking, walking->index, entry.frame, role, page, entry.checksum);
    if (claim < 0 || claim == CLAIM_REFUSED)
        return claim;
    *is_new = claim == CLAIM_NEW;
    use = frame_use_of(walking->checking, entry.frame);
    if (use == NULL || use->is_bad || use->role != role || use->position != page)
        return 0;
    return read_node(walking, entry, *is_new, page, node);
}

static int walk_leaf(struct walking *walking, const struct index_node *node, uint64_t first_page,
                     uint64_t offset, bool is_new)
{
    int status = 0;

    for (unsigned i = 0; status == 0 && i < INDEX_NODE_ENTRIES; i++) {
        const struct index_entry *entry = &node->entries[i];

        if (is_covered(walking, first_page + i))
            continue;
        if (is_new && entry->frame < FRAME_FIRST && entry->checksum != 0)
            tell_empty(walking, offset + i * sizeof *entry, first_page + i, entry);
        if (entry->frame != FRAME_NONE)
            status = walking->visit(walking->context, first_page + i, *entry);
    }
    return status;
}

/* As deep as the tree has levels. */
static int walk_node(struct walking *walking, struct index_entry node_entry, int level,
                     uint64_t page)
{
    uint64_t offset = node_entry.frame << FRAME_SHIFT;
    uint64_t span = 1ull << (level * INDEX_LEVEL_BITS);
    struct index_node node;
    bool is_new = false;
    int status = enter_node(walking, node_entry, level, page, &node, &is_new);

    if (status <= 0)
        return status;
    if (level == 0)
        return walk_leaf(walking, &node, page, offset, is_new);
    status = 0;
    for (unsigned i = 0; status == 0 && i < INDEX_NODE_ENTRIES; i++) {
        const struct index_entry *entry = &node.entries[i];
        uint64_t at = offset + i * sizeof *entry;

        if (entry->frame >= FRAME_FIRST) {
            status = walk_node(walking, *entry, level - 1, page + i * span);
        } else if (entry->frame == FRAME_ZERO) {
            frame_is_bad(walking->checking, node_entry.frame);
            if (is_new)
                check_tell(walking->checking, IX_INNER, SEVERITY_DAMAGE,
                           place_of(number_of(walking), at, (page + i * span) << FRAME_SHIFT),
                           "0 or the frame of a node", "%lu", entry->frame);
        } else if (is_new && entry->checksum != 0) {
            tell_empty(walking, at, page + i * span, entry);
        }
    }
    return status;
}

/* A frame stands for one page, never for a range (deltas.c). */
static int walk_overlay(struct walking *walking)
{
    int status = 0;

    for (uint64_t i = 0; status == 0 && i < walking->overlay.count; i++) {
        const struct overlay_range *range = &walking->overlay.ranges[i];

        if (range->entry.frame != FRAME_NONE)
            status = walking->visit(walking->context, range->page, range->entry);
    }
    return status;
}

int walk_index(struct checking *checking, uint32_t index, bool claims, check_visit_page *visit,
               void *context)
{
    struct walking walking = {
        .checking = checking, .index = index, .claims = claims, .visit = visit, .context = context};
    struct index_entry root = check_entry(checking, index)->index_root;
    int status = overlay_read(checking, index, claims, &walking.overlay);

    if (status == 0 && root.frame != FRAME_NONE)
        status = walk_node(&walking, root, INDEX_LEVELS - 1, 0);
    if (status == 0)
        status = walk_overlay(&walking);
    free(walking.overlay.ranges);
    return status;
}
