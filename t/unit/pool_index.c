/*
 * pool_index.c - the index: what is set is found, in memory and after it was written and read
 * again, by nodes and by deltas; empty subtrees vanish. pool_index_damage.c has what goes wrong.
 */
#include <errno.h>
#include <string.h>
#include "t/lib/index_fixture.h"

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

int main(int argc, char **argv)
{
    if (!fixture_open())
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
    recording_free(&recording);
    return tap_done();
}
