/*
 * pool_index_damage.c - the index where something goes wrong: a failed write is made up for, damage
 * is recognised, memory that ends does no harm.
 */
#include <errno.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "t/lib/index_fixture.h"

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
    if (!fixture_open())
        return 1;
    tap_arguments(argc, argv);
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
