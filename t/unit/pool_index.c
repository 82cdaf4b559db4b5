/*
 * pool_index.c - the index: what is set is found, in memory and after it was written and read
 * again; empty subtrees vanish; damage is recognised; a failed write is made up for.
 */
#include "core/pool/index.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/frame.h"
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

static struct index_root node_root(uint64_t frame, uint64_t checksum)
{
    return (struct index_root){.node = {frame, checksum}};
}

/* An empty file, all its frames free, an empty index. */
static void begin(void)
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
static struct index_entry new_entry(void)
{
    struct index_entry entry = {0, (uint64_t)rand()};
    uint64_t got;

    CHECK_OK(frames_take(frames, 1, false, &entry.frame, &got));
    return entry;
}

static void set(uint64_t page, struct index_entry entry)
{
    CHECK_OK(index_set(tree, frames, page, entry));
}

static int try_write(struct index_root *root, uint64_t *bytes)
{
    if (!by_deltas)
        index_fold(tree);
    return index_write(tree, frames, &persist, root, bytes);
}

static struct index_root write_out(uint64_t number)
{
    struct index_root root = no_root;
    uint64_t bytes = 0;

    CHECK_OK(try_write(&root, &bytes));
    frames_committed(frames, number);
    index_committed(tree);
    CHECK(frames_are_valid(frames));
    return root;
}

static void check_entry(struct index_tree *in, uint64_t page, struct index_entry expected)
{
    struct index_entry found;

    CHECK_OK(index_lookup(in, page, &found));
    CHECK_EQ(found.frame, expected.frame);
    CHECK_EQ(found.checksum, expected.checksum);
}

static void an_empty_index_finds_nothing(void)
{
    struct index_entry entry;
    uint64_t found;

    begin();
    check_entry(tree, 5, none);
    CHECK_EQ(index_next(tree, 0, INDEX_PAGE_LIMIT, &found, &entry), 0);
    CHECK_OK(index_clear(tree, frames, 0, INDEX_PAGE_LIMIT));
    CHECK_EQ(write_out(1).node.frame, FRAME_NONE);
    CHECK_EQ(index_page_count(tree), 0);
    CHECK_EQ(index_lookup(tree, INDEX_PAGE_LIMIT, &entry), -EINVAL);
}

/* The example in index.h and index.c. */
static void one_page_through_three_generations(void)
{
    struct index_entry page = {0, 0}, again = {0, 0};
    struct index_root roots[4];
    struct index_tree *reader;
    uint64_t free_before;

    begin();
    page = new_entry();
    set(0x200000000, page);
    roots[1] = write_out(1);
    set(0x200000001, new_entry());
    roots[2] = write_out(2);
    again = new_entry();
    set(0x200000000, again);
    free_before = frames_free_count(frames);
    roots[3] = write_out(3);
    CHECK_EQ(frames_free_count(frames), free_before - 5); /* five new nodes, none freed yet */
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_OK(index_open(&reader, &arena, persist.fd, roots[i]));
        check_entry(reader, 0x200000000, i < 3 ? page : again);
        CHECK_EQ(index_page_count(reader), i == 1 ? 1 : 2);
    }
    /* Generations 1 and 2 dropped: their ten nodes and the page's first frame are free. */
    free_before = frames_free_count(frames);
    frames_keep(frames, &(uint64_t){3}, 1);
    CHECK_EQ(frames_free_count(frames), free_before + 11);
}

static void setting_what_is_there_already_changes_nothing(void)
{
    struct index_entry entry;
    struct index_root root, again;
    uint64_t bytes = 0;

    begin();
    entry = new_entry();
    set(77, entry);
    root = write_out(1);
    set(77, entry);
    CHECK_OK(index_clear(tree, frames, 78, 1000000)); /* the same leaf, but nothing is there */
    CHECK_OK(try_write(&again, &bytes));
    CHECK_EQ(bytes, 0);
    CHECK_EQ(again.node.frame, root.node.frame);
}

static void empty_subtrees_vanish(void)
{
    struct index_root root;
    uint64_t free_at_first, bytes = 0;

    begin();
    free_at_first = frames_free_count(frames);
    for (uint64_t i = 0; i < 300; i++)
        set(i * 1000, new_entry());
    CHECK_OK(try_write(&root, &bytes));
    CHECK_OK(index_clear(tree, frames, 1, INDEX_PAGE_LIMIT));
    CHECK_EQ(index_page_count(tree), 1);
    CHECK_OK(try_write(&root, &bytes));
    CHECK_EQ(frames_free_count(frames), free_at_first + (frames_count(frames) - 64) - 6);
    CHECK_OK(index_clear(tree, frames, 0, 1));
    CHECK_OK(try_write(&root, &bytes));
    CHECK_EQ(root.node.frame, FRAME_NONE);
    CHECK_EQ(frames_free_count(frames), free_at_first + (frames_count(frames) - 64));
}

static void many_nodes_go_out_with_few_writes(void)
{
    unsigned writes = 0;

    begin();
    for (uint64_t i = 0; i < 500; i++)
        set(i * 256, new_entry());
    recording_free(&recording);
    persist.ops = recording.inner;
    persist_open_file(&persist, persist.fd, persist.file_bytes);
    recording_attach(&recording, &persist);
    write_out(1);
    for (size_t i = 0; i < recording.count; i++)
        writes += recording.trace[i].kind == RECORDED_WRITE;
    CHECK(writes <= 10); /* 505 nodes, 64 a write */
    tap_note("505 nodes in %u writes", writes);
}

/* --- a model --- */

#define MODEL_PAGES 4096

static uint64_t model_page(unsigned i)
{
    static const uint64_t group[8] = {0,           0x3f0,       0x10000,      0x1fffff0,
                                      0x200000000, 0x2000ff000, 0xfeffffff00, 0xfffffffe00};

    return group[i / 512] + i % 512;
}

static void agree(struct index_tree *in, const struct index_entry *model, unsigned from)
{
    uint64_t page = model_page(from), found = 0;
    struct index_entry entry;

    for (unsigned i = 0; i < MODEL_PAGES; i += 7)
        check_entry(in, model_page(i), model[i]);
    for (unsigned i = from; i < MODEL_PAGES; i++) {
        if (model[i].frame == FRAME_NONE)
            continue;
        if (!CHECK_EQ(index_next(in, page, INDEX_PAGE_LIMIT, &found, &entry), 1))
            return;
        CHECK_EQ(found, model_page(i));
        CHECK_EQ(entry.frame, model[i].frame);
        page = found + 1;
    }
    CHECK_EQ(index_next(in, page, INDEX_PAGE_LIMIT, &found, &entry), 0);
}

struct counted {
    uint64_t next_page, entries, sum;
};

static int count_leaf(void *context, uint64_t first_page,
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

/* Leaves read together say what entries looked up one by one say. */
static void leaves_agree(struct index_tree *in, const struct index_entry *model)
{
    struct counted counted = {0};
    uint64_t entries = 0, sum = 0;

    CHECK_OK(index_each_leaf(in, 0, INDEX_PAGE_LIMIT, count_leaf, &counted));
    for (unsigned i = 0; i < MODEL_PAGES; i++) {
        entries += model[i].frame != FRAME_NONE;
        sum += model[i].frame;
    }
    CHECK_EQ(counted.entries, entries);
    CHECK_EQ(counted.sum, sum);
}

struct compared {
    struct index_tree *with;
    uint64_t next_page, first, end, entries, wrong;
};

static int compare_leaf(void *context, uint64_t first_page,
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
static uint64_t count_entries(struct index_tree *in, uint64_t first, uint64_t end)
{
    struct counted counted = {0};

    first -= first % INDEX_NODE_ENTRIES;
    end = (end + INDEX_NODE_ENTRIES - 1) / INDEX_NODE_ENTRIES * INDEX_NODE_ENTRIES;
    CHECK_OK(index_each_leaf(in, first, end, count_leaf, &counted));
    return counted.entries;
}

/* An index that passes by says what the same one in memory says. */
static void scan_agrees(struct index_root root, uint64_t first, uint64_t end)
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

/* All of it, and a part that begins and ends anywhere. */
static void scans_agree(struct index_root root)
{
    uint64_t first = model_page((unsigned)rand() % MODEL_PAGES);
    uint64_t end = model_page((unsigned)rand() % MODEL_PAGES);

    scan_agrees(root, 0, INDEX_PAGE_LIMIT);
    if (first < end)
        scan_agrees(root, first, end);
}

static void random_change(struct index_entry *model)
{
    unsigned at = (unsigned)rand() % MODEL_PAGES, length = (unsigned)rand() % 100;

    if (at + length > MODEL_PAGES)
        length = MODEL_PAGES - at;
    if (at / 512 != (at + length) / 512)
        length = 512 - at % 512; /* a range of model pages is one of pages within a group only */
    if (rand() % 4 == 0) {
        CHECK_OK(index_clear(tree, frames, model_page(at), model_page(at) + length));
        memset(model + at, 0, length * sizeof *model);
        return;
    }
    for (unsigned i = at; i < at + length; i++) {
        model[i] = rand() % 9 == 0 ? (struct index_entry){FRAME_ZERO, 0} : new_entry();
        set(model_page(i), model[i]);
    }
}

static void a_random_history_agrees_with_a_model(void)
{
    static struct index_entry model[MODEL_PAGES];
    struct index_tree *reader;
    struct index_root root;
    uint64_t pages = 0;

    begin();
    memset(model, 0, sizeof model);
    srand(11);
    for (uint64_t number = 1; number < 30; number++) {
        for (int i = 0; i < 8; i++)
            random_change(model);
        root = write_out(number);
        frames_keep(frames, &number, 1);
        agree(tree, model, (unsigned)rand() % MODEL_PAGES / 512 * 512);
        scans_agree(root);
    }
    CHECK_OK(index_open(&reader, &arena, persist.fd, root));
    leaves_agree(reader, model);
    CHECK_OK(index_open(&reader, &arena, persist.fd, root));
    agree(reader, model, 0);
    leaves_agree(reader, model);
    for (unsigned i = 0; i < MODEL_PAGES; i++)
        pages += model[i].frame >= FRAME_FIRST;
    CHECK_EQ(index_page_count(tree), pages);
    CHECK_EQ(index_page_count(reader), pages);
}

static void a_random_history_by_deltas_agrees_with_a_model(void)
{
    by_deltas = true;
    a_random_history_agrees_with_a_model();
    by_deltas = false;
}

/* The example in index_delta.c. */
static void one_page_through_three_generations_by_deltas(void)
{
    struct index_entry page = {0, 0}, again = {0, 0};
    struct index_root roots[4];
    struct index_tree *reader;
    uint64_t free_before;

    begin();
    by_deltas = true;
    page = new_entry();
    set(0x200000000, page);
    roots[1] = write_out(1);
    CHECK_EQ(roots[1].delta.frames, 0); /* a new tree is written as nodes */
    set(0x200000001, new_entry());
    roots[2] = write_out(2);
    again = new_entry();
    set(0x200000000, again);
    free_before = frames_free_count(frames);
    roots[3] = write_out(3);
    CHECK_EQ(frames_free_count(frames), free_before - 1); /* the delta */
    CHECK_EQ(roots[3].node.frame, roots[1].node.frame);
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_OK(index_open(&reader, &arena, persist.fd, roots[i]));
        check_entry(reader, 0x200000000, i < 3 ? page : again);
        CHECK_EQ(index_page_count(reader), i == 1 ? 1 : 2);
    }
    /* Folded, and the others dropped: five new nodes, of the old ones and the deltas nothing. */
    by_deltas = false;
    set(0x200000002, new_entry());
    roots[0] = write_out(4);
    CHECK_EQ(roots[0].delta.frames, 0);
    frames_keep(frames, &(uint64_t){4}, 1);
    CHECK_EQ(frames_free_count(frames), frames_count(frames) - FRAME_FIRST - 3 - 5);
}

/* Deltas are applied a neighbourhood (65,536 pages) at a time: what one clears beyond its end must
 * not come before what an older one sets there, nor after what a newer one does. */
static void a_range_cleared_across_neighbourhoods_keeps_its_place_in_the_chain(void)
{
    const uint64_t first = 0x30000 - 40, end = 0x30000 + 40;
    struct index_entry newest;
    struct index_tree *reader;
    struct index_root root;

    begin();
    by_deltas = true;
    for (uint64_t page = first - 3000; page < end + 3000; page++)
        set(page, new_entry());
    (void)write_out(1);
    set(0x30000 + 5, new_entry()); /* older than the range */
    set(0x30000 + 6, new_entry());
    (void)write_out(2);
    CHECK_OK(index_clear(tree, frames, first, end));
    (void)write_out(3);
    newest = new_entry();
    set(0x30000 + 6, newest);
    root = write_out(4);
    CHECK(root.delta.frames > 0);
    CHECK_OK(index_open(&reader, &arena, persist.fd, root));
    for (uint64_t page = first; page < end; page++)
        check_entry(reader, page, page == 0x30000 + 6 ? newest : none);
    CHECK_EQ(index_page_count(reader), index_page_count(tree));
    scan_agrees(root, 0, INDEX_PAGE_LIMIT);
    by_deltas = false;
}

/* Far from all that the tree has, where clearing something is worth nothing unless an older delta
 * has set it, and hides nothing that a newer one sets. */
static void deltas_set_and_clear_where_the_tree_has_nothing(void)
{
    const uint64_t far = 0x7654321000;
    struct index_root root;

    begin();
    by_deltas = true;
    for (uint64_t i = 0; i < 100; i++)
        set(i * 256, new_entry());
    (void)write_out(1);
    set(far, new_entry());
    set(far + 1, new_entry());
    set(far + 0x1000000, new_entry());
    (void)write_out(2);
    CHECK_OK(index_clear(tree, frames, far, far + 0x2000000));
    root = write_out(3);
    CHECK_EQ(index_page_count(tree), 100);
    scan_agrees(root, 0, INDEX_PAGE_LIMIT);
    set(far + 1, new_entry());
    root = write_out(4);
    CHECK(root.delta.frames > 0);
    scan_agrees(root, 0, INDEX_PAGE_LIMIT);
    scan_agrees(root, far + 1, far + 2);
    scan_agrees(root, far + 256, far + 0x3000000);
    by_deltas = false;
}

/* A chain as long as it may be, then nodes again: nothing is lost on the way, nothing leaks. */
static void a_chain_that_has_become_long_is_folded(void)
{
    struct index_tree *reader;
    struct index_root root = no_root;
    unsigned folds = 0;

    begin();
    by_deltas = true;
    for (uint64_t i = 0; i < 100; i++)
        set(i * 256, new_entry());
    root = write_out(1);
    for (uint64_t number = 2; number < 200; number++) {
        set(number % 100 * 256, new_entry());
        CHECK_OK(index_clear(tree, frames, (number + 7) % 100 * 256, (number + 7) % 100 * 256 + 1));
        root = write_out(number);
        folds += root.delta.frames == 0;
        frames_keep(frames, &number, 1);
        CHECK_OK(index_open(&reader, &arena, persist.fd, root));
        CHECK_EQ(index_page_count(reader), index_page_count(tree));
    }
    CHECK_EQ(folds, 198 / (DELTAS_MAX + 1));
    by_deltas = false;
    (void)write_out(200);
    frames_keep(frames, &(uint64_t){200}, 1);
    CHECK_EQ(frames_free_count(frames),
             frames_count(frames) - FRAME_FIRST - 2 * index_page_count(tree) - 4);
}

/* --- failures --- */

static void a_failed_write_is_made_up_for_by_the_next(void)
{
    struct index_entry entries[40];
    struct index_root root = no_root;
    struct index_tree *reader;
    uint64_t bytes = 0;
    unsigned failed = 0;
    int status;

    begin();
    for (unsigned n = 1; n <= 6; n++) {
        for (unsigned i = 0; i < 40; i++) {
            entries[i] = new_entry();
            set(i * 256, entries[i]);
        }
        recording.fail_at = recording.operations + 1 + n % 2; /* it may grow first */
        recording.fail_status = -EIO;
        status = try_write(&root, &bytes);
        failed += status < 0;
        CHECK(frames_are_valid(frames));
        recording.fail_at = 0;
        root = write_out(n);
        CHECK_OK(index_open(&reader, &arena, persist.fd, root));
        for (unsigned i = 0; i < 40; i++)
            check_entry(reader, i * 256, entries[i]);
    }
    CHECK(failed > 0);
}

/* A delta that could not be written, or whose generation was not committed, leaves nothing behind
 * and is contained in the next one. */
static void a_failed_delta_is_made_up_for_by_the_next(void)
{
    struct index_root root = no_root;
    struct index_entry entries[3];
    struct index_tree *reader;
    uint64_t bytes = 0, used;

    begin();
    by_deltas = true;
    for (uint64_t i = 0; i < 40; i++)
        set(i * 256, new_entry());
    (void)write_out(1);
    used = frames_count(frames) - frames_free_count(frames);
    for (unsigned i = 0; i < 3; i++) {
        entries[i] = new_entry();
        set(i * 512, entries[i]);
        recording.fail_at = i == 0 ? recording.operations + 1 : 0;
        recording.fail_status = -EIO;
        CHECK_EQ(try_write(&root, &bytes), i == 0 ? -EIO : 0);
        CHECK_OK(index_uncommitted(tree, frames));
        CHECK_EQ(frames_count(frames) - frames_free_count(frames), used + i + 1);
    }
    root = write_out(2);
    CHECK_EQ(root.delta.frames, 1);
    CHECK_OK(index_open(&reader, &arena, persist.fd, root));
    for (unsigned i = 0; i < 3; i++)
        check_entry(reader, i * 512, entries[i]);
    by_deltas = false;
}

/* A tree of 600 nodes needs some ten writes: each of them fails once. */
static void a_large_write_that_fails_at_any_operation_is_made_up_for(void)
{
    struct index_entry entry = none;
    struct index_root root = no_root;
    struct index_tree *reader;
    uint64_t bytes = 0;
    unsigned n = 0;
    int status;

    begin();
    do {
        n++;
        for (uint64_t i = 0; i < 600; i++) {
            entry = new_entry();
            set(i * 256, entry);
        }
        recording.fail_at = recording.operations + n;
        recording.fail_status = -EIO;
        status = try_write(&root, &bytes);
        recording.fail_at = 0;
        root = write_out(n);
        frames_keep(frames, &(uint64_t){n}, 1);
        CHECK_OK(index_open(&reader, &arena, persist.fd, root));
        check_entry(reader, 599 * 256, entry);
        CHECK_EQ(index_page_count(reader), 600);
    } while (status < 0 && n < 100);
    CHECK(n > 8 && n < 100);
    CHECK_EQ(frames_free_count(frames), frames_count(frames) - FRAME_FIRST - 600 - 606);
}

static void flip_bit(uint64_t offset, unsigned bit)
{
    uint8_t byte;

    CHECK_OK(sys_pread_all(persist.fd, &byte, 1, offset));
    byte ^= (uint8_t)(1u << bit);
    CHECK_OK(sys_pwrite_all(persist.fd, &byte, 1, offset));
}

static int ignore_frame(void *context, uint64_t frame, int level)
{
    (void)frame, (void)level;
    ++*(unsigned *)context;
    return 0;
}

static int ignore_leaf(void *context, uint64_t first_page,
                       const struct index_entry entries[INDEX_NODE_ENTRIES])
{
    (void)context, (void)first_page, (void)entries;
    return 0;
}

static void a_flipped_bit_in_a_node_is_recognised(void)
{
    struct index_entry entry;
    struct index_root root;
    struct index_tree *reader;
    struct index_scan *scan;
    uintptr_t mark;

    begin();
    set(42, new_entry());
    root = write_out(1); /* five nodes, the leaf first */
    mark = arena_mark(&arena);
    for (unsigned i = 0; i < 5 * FRAME_BYTES; i += 37) {
        uint64_t offset = ((root.node.frame - 4) << FRAME_SHIFT) + i;
        unsigned visited = 0;

        flip_bit(offset, i % 8);
        CHECK_OK(index_open(&reader, &arena, persist.fd, root));
        CHECK_EQ(index_lookup(reader, 42, &entry), STATUS_DAMAGED);
        CHECK_EQ(index_damaged_frame(reader), offset >> FRAME_SHIFT);
        CHECK_EQ(index_walk_frames(reader, ignore_frame, &visited), STATUS_DAMAGED);
        CHECK_OK(index_open(&reader, &arena, persist.fd, root));
        CHECK_EQ(index_each_leaf(reader, 0, 100, ignore_leaf, NULL), STATUS_DAMAGED);
        CHECK_EQ(index_damaged_frame(reader), offset >> FRAME_SHIFT);
        CHECK_OK(index_scan_open(&scan, &arena, persist.fd, root));
        CHECK_EQ(index_scan_leaves(scan, 0, 100, ignore_leaf, NULL), STATUS_DAMAGED);
        CHECK_EQ(index_scan_damaged_frame(scan), offset >> FRAME_SHIFT);
        flip_bit(offset, i % 8);
        arena_rewind(&arena, mark);
    }
}

static void a_flipped_bit_in_a_delta_is_recognised(void)
{
    struct index_root root;
    struct index_tree *reader;
    struct index_scan *scan;
    uintptr_t mark;

    begin();
    by_deltas = true;
    set(42, new_entry());
    set(0x7000000, new_entry());
    (void)write_out(1);
    set(42, new_entry());
    root = write_out(2);
    by_deltas = false;
    mark = arena_mark(&arena);
    for (unsigned i = 0; i < FRAME_BYTES; i += 37) {
        uint64_t offset = (root.delta.frame << FRAME_SHIFT) + i;

        flip_bit(offset, i % 8);
        CHECK_EQ(index_open(&reader, &arena, persist.fd, root), STATUS_DAMAGED);
        CHECK_EQ(index_damaged_frame(reader), root.delta.frame);
        CHECK_EQ(index_scan_open(&scan, &arena, persist.fd, root), STATUS_DAMAGED);
        CHECK_EQ(index_scan_damaged_frame(scan), root.delta.frame);
        flip_bit(offset, i % 8);
        arena_rewind(&arena, mark);
    }
    scan_agrees(root, 0, INDEX_PAGE_LIMIT);
}

/* A tree that names itself has 256^4 leaves: there are no more nodes than the file has frames. */
static void a_tree_that_names_one_leaf_for_ever_is_damaged(void)
{
    struct index_node node;
    struct index_entry below;
    struct index_scan *scan;

    begin();
    set(0, new_entry());
    below = write_out(1).node;
    CHECK_OK(sys_pread_all(persist.fd, &node, sizeof node, (below.frame - 4) << FRAME_SHIFT));
    for (uint64_t level = 0, frame = below.frame - 4; level < INDEX_LEVELS; level++, frame++) {
        below = (struct index_entry){frame, checksum64(&node, sizeof node)};
        CHECK_OK(sys_pwrite_all(persist.fd, &node, sizeof node, frame << FRAME_SHIFT));
        for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++)
            node.entries[i] = below;
    }
    CHECK_OK(index_scan_open(&scan, &arena, persist.fd, node_root(below.frame, below.checksum)));
    CHECK_EQ(index_scan_leaves(scan, 0, INDEX_PAGE_LIMIT, ignore_leaf, NULL), STATUS_DAMAGED);
}

static void a_root_beyond_the_file_is_an_error(void)
{
    static const uint64_t frames_named[] = {FRAME_ZERO, 1000000, 1ull << 52, UINT64_MAX};
    struct index_scan *scan;
    struct index_tree *reader;
    struct index_entry entry;

    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(index_open(&reader, &arena, persist.fd, node_root(frames_named[i], 1)));
        CHECK(index_lookup(reader, 1, &entry) < 0);
        CHECK_OK(index_scan_open(&scan, &arena, persist.fd, node_root(frames_named[i], 1)));
        CHECK(index_scan_leaves(scan, 0, 9, ignore_leaf, NULL) < 0);
    }
}

static void a_full_arena_is_an_error_and_no_harm(void)
{
    struct arena small;
    struct index_entry entry;
    struct index_root root;
    uint64_t page = 0, bytes = 0;
    int status = 0;

    begin();
    CHECK_OK(arena_create(&small, 1 << 20));
    CHECK_OK(index_open(&tree, &small, persist.fd, no_root));
    CHECK_OK(try_write(&root, &bytes));
    while (status == 0 && page < 1000) {
        entry = new_entry();
        status = index_set(tree, frames, ++page * 256, entry);
        if (page == 3) /* the staging buffer is there before memory runs out */
            CHECK_OK(try_write(&root, &bytes));
    }
    CHECK_EQ(status, -ENOMEM);
    CHECK_EQ(index_page_count(tree), page - 1);
    CHECK_OK(try_write(&root, &bytes));
    CHECK_OK(index_open(&tree, &arena, persist.fd, root));
    CHECK_EQ(index_page_count(tree), page - 1);
    arena_destroy(&small);
}

int main(int argc, char **argv)
{
    char path[128];

    snprintf(path, sizeof path, "%.80s/pheap-index-XXXXXX",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    persist.fd = mkstemp(path);
    if (persist.fd < 0 || unlink(path) < 0 || arena_create(&arena, 1ull << 30) < 0)
        return 1;
    tap_arguments(argc, argv);
    RUN(an_empty_index_finds_nothing);
    RUN(one_page_through_three_generations);
    RUN(setting_what_is_there_already_changes_nothing);
    RUN(empty_subtrees_vanish);
    RUN(many_nodes_go_out_with_few_writes);
    RUN(a_random_history_agrees_with_a_model);
    RUN(a_random_history_by_deltas_agrees_with_a_model);
    RUN(one_page_through_three_generations_by_deltas);
    RUN(a_range_cleared_across_neighbourhoods_keeps_its_place_in_the_chain);
    RUN(deltas_set_and_clear_where_the_tree_has_nothing);
    RUN(a_chain_that_has_become_long_is_folded);
    RUN(a_failed_delta_is_made_up_for_by_the_next);
    RUN(a_failed_write_is_made_up_for_by_the_next);
    RUN(a_large_write_that_fails_at_any_operation_is_made_up_for);
    RUN(a_flipped_bit_in_a_node_is_recognised);
    RUN(a_flipped_bit_in_a_delta_is_recognised);
    RUN(a_tree_that_names_one_leaf_for_ever_is_damaged);
    RUN(a_root_beyond_the_file_is_an_error);
    RUN(a_full_arena_is_an_error_and_no_harm);
    recording_free(&recording);
    return tap_done();
}
