/*
 * find.c - see README.md, 3: generations of a pool without a superblock.
 *
 * A frame is a node if an entry of it proves itself, and a delta if one of those places does where
 * a delta's entries have theirs. Which level a node has is told by the way down: one more than the
 * node that an entry leads to; a leaf leads to no node.
 *
 * A page that a program has filled with words that happen to be frames and checksums could pass for
 * a node. Then there is one image too many, which does no harm.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "recovery/salvage/salvage.h"

#define TREES_MAX 8u

enum role { ROLE_UNKNOWN, ROLE_NODE, ROLE_DELTA };

struct found_frame {
    uint8_t role;
    uint8_t height; /* of a node: 1 for a leaf; 0: not known yet */
    bool is_named;  /* by another node, or delta */
};

struct finding {
    struct salvage *salvage;
    struct found_frame *frames;
};

/* --- what is a node, what a delta --- */

/* How many entries prove themselves that begin at start, start + stride, ... */
static unsigned count_proofs(const struct salvage *salvage, const uint8_t *frame, size_t start,
                             size_t stride)
{
    unsigned proofs = 0;

    for (size_t at = start; at + sizeof(struct index_entry) <= FRAME_BYTES; at += stride) {
        struct index_entry entry;

        memcpy(&entry, frame + at, sizeof entry);
        proofs += salvage_proves(salvage, entry);
    }
    return proofs;
}

/* The first frame of a delta; the others' count would be a part of an entry. */
static bool is_head(const struct salvage *salvage, uint64_t number, const uint8_t *frame)
{
    const struct index_delta *delta = (const struct index_delta *)frame;
    uint64_t room = (salvage->frame_count - number) << FRAME_SHIFT;

    return delta->entry_count > 0 &&
           delta->entry_count <= (room - sizeof *delta) / sizeof delta->entries[0] &&
           delta->before.frame < salvage->frame_count;
}

static enum role role_of(const struct salvage *salvage, uint64_t number, const uint8_t *frame)
{
    const size_t head = sizeof(struct index_delta) + 8, stride = sizeof(struct delta_entry);
    unsigned as_node = count_proofs(salvage, frame, 0, sizeof(struct index_entry));
    unsigned as_delta = 0, as_head = count_proofs(salvage, frame, head, stride);

    for (size_t start = 0; start < stride; start += 8) {
        unsigned proofs = count_proofs(salvage, frame, start, stride);

        as_delta = proofs > as_delta ? proofs : as_delta;
    }
    if (as_node > 0 && as_node >= as_delta)
        return ROLE_NODE;
    return as_head > 0 && as_head >= as_delta && is_head(salvage, number, frame) ? ROLE_DELTA
                                                                                 : ROLE_UNKNOWN;
}

static void classify(struct finding *finding)
{
    uint8_t frame[FRAME_BYTES];

    for (uint64_t f = FRAME_FIRST; f < finding->salvage->frame_count; f++)
        if (salvage_read(finding->salvage, f, frame) == 0)
            finding->frames[f].role = role_of(finding->salvage, f, frame) & 3;
}

/* --- heights --- */

/* One pass: a node whose children's heights are known gets its own. False: nothing has changed. */
static bool raise(struct finding *finding, uint8_t height)
{
    struct index_node node;
    bool changed = false;

    for (uint64_t f = FRAME_FIRST; f < finding->salvage->frame_count; f++) {
        bool leads_to_node = false, leads_below = false;

        if (finding->frames[f].role != ROLE_NODE || finding->frames[f].height ||
            salvage_read(finding->salvage, f, &node) < 0)
            continue;
        for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++) {
            struct found_frame *child;

            if (!salvage_proves(finding->salvage, node.entries[i]))
                continue;
            child = &finding->frames[node.entries[i].frame];
            leads_to_node = leads_to_node || child->role == ROLE_NODE;
            leads_below = leads_below || (child->role == ROLE_NODE && child->height == height - 1);
        }
        if (height == 1 ? !leads_to_node : leads_below) {
            finding->frames[f].height = height;
            changed = true;
        }
    }
    return changed;
}

static void note_named(struct finding *finding)
{
    struct index_node node;

    for (uint64_t f = FRAME_FIRST; f < finding->salvage->frame_count; f++) {
        const struct index_delta *delta = (const struct index_delta *)&node;

        if (finding->frames[f].role == ROLE_UNKNOWN || salvage_read(finding->salvage, f, &node) < 0)
            continue;
        for (unsigned i = 0; finding->frames[f].role == ROLE_NODE && i < INDEX_NODE_ENTRIES; i++)
            if (salvage_proves(finding->salvage, node.entries[i]))
                finding->frames[node.entries[i].frame].is_named = true;
        if (finding->frames[f].role == ROLE_DELTA &&
            delta->before.frame < finding->salvage->frame_count)
            finding->frames[delta->before.frame].is_named = true;
    }
}

/* --- images --- */

static void add_image(struct finding *finding, struct index_entry root, struct delta_place delta)
{
    struct salvage *salvage = finding->salvage;
    struct salvage_image *image = &salvage->images[salvage->image_count];

    for (uint32_t i = 0; i < salvage->image_count; i++)
        if (salvage->images[i].entry.index_root.frame == root.frame &&
            salvage->images[i].entry.index_delta.frame == delta.frame)
            return;
    if (salvage->image_count == SALVAGE_IMAGES_MAX)
        return;
    memset(image, 0, sizeof *image);
    image->source = SALVAGE_FOUND;
    image->entry.index_root = root;
    image->entry.index_delta = delta;
    salvage->image_count++;
}

/* Its length and checksum are known to the next one only: as long as its count says, checksum 0. */
static struct delta_place place_of_delta(const struct salvage *salvage, uint64_t frame)
{
    struct index_node node = {0};
    const struct index_delta *delta = (const struct index_delta *)&node;
    uint64_t most = salvage->frame_count - frame, frames;

    (void)!salvage_read(salvage, frame, &node);
    frames =
        delta->entry_count < most * FRAME_BYTES
            ? (sizeof *delta + delta->entry_count * sizeof delta->entries[0] + FRAME_BYTES - 1) /
                  FRAME_BYTES
            : most;
    return (struct delta_place){frame, frames < most ? frames : most, 0};
}

static uint32_t add_trees(struct finding *finding)
{
    struct salvage *salvage = finding->salvage;
    uint32_t first = salvage->image_count;

    for (uint64_t f = FRAME_FIRST; f < salvage->frame_count; f++) {
        const struct found_frame *found = &finding->frames[f];

        if (found->role == ROLE_NODE && found->height == INDEX_LEVELS && !found->is_named)
            add_image(finding, (struct index_entry){f, salvage->sums[f]},
                      (struct delta_place){0, 0, 0});
    }
    return salvage->image_count - first;
}

/* Nothing says which tree a chain is to be read over: it is shown over each of them, if they are
 * few, and alone. With the right one all pages are whole, as a rule. */
static void add_chain(struct finding *finding, uint64_t frame, uint32_t first_tree, uint32_t trees)
{
    struct delta_place place = place_of_delta(finding->salvage, frame);

    for (uint32_t i = 0; trees <= TREES_MAX && i < trees; i++)
        add_image(finding, finding->salvage->images[first_tree + i].entry.index_root, place);
    if (trees != 1)
        add_image(finding, (struct index_entry){FRAME_NONE, 0}, place);
}

static void add_images(struct finding *finding)
{
    uint32_t first_tree = finding->salvage->image_count, trees = add_trees(finding);

    for (uint64_t f = FRAME_FIRST; f < finding->salvage->frame_count; f++)
        if (finding->frames[f].role == ROLE_DELTA && !finding->frames[f].is_named)
            add_chain(finding, f, first_tree, trees);
}

int salvage_find(struct salvage *salvage)
{
    struct finding finding = {.salvage = salvage};
    uint8_t height = 1;

    finding.frames = calloc(salvage->frame_count + 1, sizeof *finding.frames);
    if (finding.frames == NULL)
        return -ENOMEM;
    classify(&finding);
    while (height <= INDEX_LEVELS && raise(&finding, height))
        height++;
    note_named(&finding);
    add_images(&finding);
    free(finding.frames);
    return 0;
}
