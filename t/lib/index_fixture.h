/*
 * index_fixture.h - an index in a file of the test's own, written with a recorder below it.
 */
#ifndef PHEAP_T_LIB_INDEX_FIXTURE_H
#define PHEAP_T_LIB_INDEX_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/pool/frame.h"
#include "core/pool/index.h"
#include "core/pool/index_scan.h"
#include "t/lib/persist_recorder.h"
#include "t/lib/tap.h"

static struct arena arena;
static struct persist persist;
static struct frames *frames;
static struct index_tree *tree;
static struct recording recording;

static bool by_deltas; /* else every generation's index is written as nodes */

static const struct index_entry none = {FRAME_NONE, 0};
static const struct index_root no_root;

static inline struct index_root node_root(uint64_t frame, uint64_t checksum)
{
    return (struct index_root){.node = {frame, checksum}};
}

/* An empty file, all its frames free, an empty index. */
static inline void begin(void)
{
    recording_free(&recording);
    CHECK_EQ(ftruncate(persist.fd, 0), 0);
    persist_open_file(&persist, persist.fd, 0);
    recording_attach(&recording, &persist);
    CHECK_OK(persist_grow(&persist, 64 * FRAME_BYTES));
    CHECK_OK(frames_create(&frames, &arena, &persist, 0));
    CHECK_OK(index_open(&tree, &arena, persist.fd, no_root));
}

/* A frame of our own for a page; its content does not matter here. */
static inline struct index_entry new_entry(void)
{
    struct index_entry entry = {0, (uint64_t)rand()};
    uint64_t got;

    CHECK_OK(frames_take(frames, 1, false, &entry.frame, &got));
    return entry;
}

static inline void set(uint64_t page, struct index_entry entry)
{
    CHECK_OK(index_set(tree, frames, page, entry));
}

static inline int try_write(struct index_root *root, uint64_t *bytes)
{
    if (!by_deltas)
        index_fold(tree);
    return index_write(tree, frames, &persist, root, bytes);
}

static inline struct index_root write_out(uint64_t number)
{
    struct index_root root = no_root;
    uint64_t bytes = 0;

    CHECK_OK(try_write(&root, &bytes));
    frames_committed(frames, number);
    index_committed(tree);
    CHECK(frames_are_valid(frames));
    return root;
}

static inline void check_entry(struct index_tree *in, uint64_t page, struct index_entry expected)
{
    struct index_entry found;

    CHECK_OK(index_lookup(in, page, &found));
    CHECK_EQ(found.frame, expected.frame);
    CHECK_EQ(found.checksum, expected.checksum);
}

/* A file without a name, and memory; then begin(). False: there is neither. */
static inline bool fixture_open(void)
{
    char path[128];

    snprintf(path, sizeof path, "%.80s/pheap-index-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    persist.fd = mkstemp(path);
    return persist.fd >= 0 && unlink(path) == 0 && arena_create(&arena, 1ull << 30) == 0;
}

/* --- an index that is read whole, by its leaves, and by who passes by --- */

struct counted {
    uint64_t next_page, entries, sum;
};

static inline int count_leaf(void *context, uint64_t first_page,
                             const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct counted *counted = context;

    CHECK(first_page >= counted->next_page && first_page % INDEX_NODE_ENTRIES == 0);
    counted->next_page = first_page + INDEX_NODE_ENTRIES;
    for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++) {
        counted->entries += entries[i].frame != FRAME_NONE;
        counted->sum += entries[i].frame;
    }
    return 0;
}

struct compared {
    struct index_tree *with;
    uint64_t next_page, first, end, entries, wrong;
};

static inline int compare_leaf(void *context, uint64_t first_page,
                               const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    struct compared *compared = context;

    CHECK(first_page >= compared->next_page && first_page % INDEX_NODE_ENTRIES == 0);
    CHECK(first_page + INDEX_NODE_ENTRIES > compared->first && first_page < compared->end);
    compared->next_page = first_page + INDEX_NODE_ENTRIES;
    for (uint64_t i = 0; i < INDEX_NODE_ENTRIES; i++) {
        struct index_entry entry;

        CHECK_OK(index_lookup(compared->with, first_page + i, &entry));
        compared->entries += entry.frame != FRAME_NONE;
        compared->wrong += entry.frame != entries[i].frame || entry.checksum != entries[i].checksum;
    }
    return 0;
}

/* How many entries leaves of [first, end) have. */
static inline uint64_t count_entries(struct index_tree *in, uint64_t first, uint64_t end)
{
    struct counted counted = {0};

    first -= first % INDEX_NODE_ENTRIES;
    end = (end + INDEX_NODE_ENTRIES - 1) / INDEX_NODE_ENTRIES * INDEX_NODE_ENTRIES;
    CHECK_OK(index_each_leaf(in, first, end, count_leaf, &counted));
    return counted.entries;
}

/* An index that passes by says what the same one in memory says. */
static inline void scan_agrees(struct index_root root, uint64_t first, uint64_t end)
{
    struct index_scan *scan;
    struct index_tree *reader;
    struct compared compared = {.first = first, .end = end};

    CHECK_OK(index_open(&reader, &arena, persist.fd, root));
    CHECK_OK(index_scan_open(&scan, &arena, persist.fd, root));
    compared.with = reader;
    CHECK_OK(index_scan_leaves(scan, first, end, compare_leaf, &compared));
    CHECK_EQ(compared.wrong, 0);
    CHECK_EQ(compared.entries, count_entries(reader, first, end));
}

#endif
