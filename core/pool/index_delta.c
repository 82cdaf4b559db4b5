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
#include "core/pool/index_node.h"
#include "core/pool/persist.h"

#define READ_TOGETHER 32u /* entries of a delta that make reading all leaves around worth it */

/* --- reading --- */

static int read_delta(struct index_tree *tree, const struct delta_place *place,
                      struct index_delta **out)
{
    uint64_t file_frames, bytes;
    struct index_delta *delta;
    struct stat info;
    int status = sys_fstat(tree->fd, &info);

    tree->damaged_frame = place->frame;
    if (status < 0)
        return status;
    file_frames = (uint64_t)info.st_size >> FRAME_SHIFT;
    if (place->frame < FRAME_FIRST || place->frame >= file_frames ||
        place->frames > file_frames - place->frame)
        return STATUS_DAMAGED;
    bytes = place->frames << FRAME_SHIFT;
    delta = arena_alloc(tree->arena, bytes, 64);
    if (delta == NULL)
        return -ENOMEM;
    status = sys_pread_all(tree->fd, delta, bytes, place->frame << FRAME_SHIFT);
    if (status < 0)
        return status;
    if (checksum64(delta, bytes) != place->checksum ||
        delta->entry_count > (bytes - sizeof *delta) / sizeof delta->entries[0])
        return STATUS_DAMAGED;
    tree->damaged_frame = 0;
    *out = delta;
    return 0;
}

/* How far a delta of the chain has been applied. */
struct delta_cursor {
    const struct index_delta *delta;
    uint64_t at;   /* the next entry */
    uint64_t page; /* the first one that it is still to be applied to */
    uint64_t end;  /* of its pages */
};

/* Reads entry `at`; cursor->end is the end of the one before. */
static int cursor_read(struct delta_cursor *cursor)
{
    uint64_t passed = cursor->end, page, end;
    const struct delta_entry *entry;

    if (cursor->at == cursor->delta->entry_count)
        return 0;
    entry = &cursor->delta->entries[cursor->at];
    page = entry->page_and_more & (INDEX_PAGE_LIMIT - 1);
    end = page + (entry->page_and_more >> DELTA_PAGE_BITS) + 1;
    if (page < passed || end > INDEX_PAGE_LIMIT ||
        (entry->entry.frame != FRAME_NONE && end > page + 1))
        return STATUS_DAMAGED;
    cursor->page = page;
    cursor->end = end;
    return 0;
}

static bool is_at_end(const struct delta_cursor *cursor)
{
    return cursor->at == cursor->delta->entry_count;
}

/* Applies what the delta says of pages below `limit`. */
static int cursor_apply(struct index_tree *tree, struct delta_cursor *cursor, uint64_t limit)
{
    int status = 0;

    while (status == 0 && !is_at_end(cursor) && cursor->page < limit) {
        const struct index_entry entry = cursor->delta->entries[cursor->at].entry;
        uint64_t end = cursor->end < limit ? cursor->end : limit;

        status = entry.frame == FRAME_NONE ? index_clear(tree, NULL, cursor->page, end)
                                           : index_set(tree, NULL, cursor->page, entry);
        cursor->page = end;
        if (status == 0 && end == cursor->end) {
            cursor->at++;
            status = cursor_read(cursor);
        }
    }
    return status;
}

/* The pages below one node of level 1. */
#define NEIGHBOURHOOD_PAGES (1ull << (2 * INDEX_LEVEL_BITS))

/* Entries from the cursor on that begin below limit, counted up to READ_TOGETHER. */
static unsigned count_below(const struct delta_cursor *cursor, uint64_t limit)
{
    unsigned count = 0;

    while (count < READ_TOGETHER && cursor->at + count < cursor->delta->entry_count &&
           (cursor->delta->entries[cursor->at + count].page_and_more & (INDEX_PAGE_LIMIT - 1)) <
               limit)
        count++;
    return count;
}

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
        if (!is_at_end(&cursors[i]) && cursors[i].page < first)
            first = cursors[i].page;
    return first;
}

/* One neighbourhood, oldest delta first. *damaged - 1 is the one at fault, if any is. */
static int apply_neighbourhood(struct index_tree *tree, struct delta_cursor *cursors,
                               unsigned count, uint64_t page, unsigned *damaged)
{
    uint64_t limit = (page | (NEIGHBOURHOOD_PAGES - 1)) + 1;
    unsigned entries = 0;
    int status = 0;

    for (unsigned i = 0; i < count; i++)
        entries += count_below(&cursors[i], limit);
    if (entries >= READ_TOGETHER)
        status = load_neighbourhood(tree, page);
    for (*damaged = 0; status == 0 && *damaged < count; ++*damaged)
        status = cursor_apply(tree, &cursors[*damaged], limit);
    return status;
}

/* The chain is told newest first and applied oldest first. */
static int read_chain(struct index_tree *tree, struct delta_place newest,
                      struct index_delta *chain[DELTAS_MAX])
{
    struct delta_place places[DELTAS_MAX];
    unsigned count = 0;
    int status = 0;

    for (struct delta_place place = newest; status == 0 && place.frames > 0;
         place = chain[count - 1]->before) {
        if (count == DELTAS_MAX) {
            tree->damaged_frame = place.frame;
            return STATUS_DAMAGED;
        }
        places[count] = place;
        status = read_delta(tree, &place, &chain[count++]);
        if (status < 0)
            return status;
    }
    for (unsigned i = 0; i < count; i++)
        tree->deltas[i] = places[count - 1 - i];
    tree->delta_count = count;
    return 0;
}

/*
 * Neighbourhood by neighbourhood, not delta by delta: the leaves of one stay in the processor's
 * cache while all deltas are applied to it. A chain over a large heap has a quarter of a million
 * entries, far from each other.
 */
int index_apply_deltas(struct index_tree *tree, struct delta_place newest)
{
    struct index_delta *chain[DELTAS_MAX];
    struct delta_cursor cursors[DELTAS_MAX];
    unsigned damaged = 0;
    uint64_t page;
    int status = read_chain(tree, newest, chain);

    tree->applies_deltas = true;
    for (unsigned i = 0; status == 0 && i < tree->delta_count; i++) {
        damaged = i + 1;
        cursors[i] = (struct delta_cursor){.delta = chain[tree->delta_count - 1 - i]};
        tree->delta_entries += cursors[i].delta->entry_count;
        status = cursor_read(&cursors[i]);
    }
    while (status == 0 && (page = first_page(cursors, tree->delta_count)) < INDEX_PAGE_LIMIT)
        status = apply_neighbourhood(tree, cursors, tree->delta_count, page, &damaged);
    if (status == STATUS_DAMAGED && tree->damaged_frame == 0 && damaged > 0)
        tree->damaged_frame = tree->deltas[damaged - 1].frame;
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
