/*
 * pool_damage.c - damaged and hostile pools: every flipped bit in use is recognised, what is whole
 * can still be read, and nothing that a file says leads outside it or into a loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "core/pool/superblock.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

static struct pool pool;
static struct oracle oracle;
static struct problem why;

/* A closed pool with a few generations. */
static unsigned fold_every = 1; /* in what follows */

static void make_pool(uint32_t keep, unsigned generations)
{
    scratch_pool(&pool, &oracle, keep);
    oracle.fold_every = fold_every;
    for (unsigned i = 0; i < generations; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, i * 7 % 40, i == 0 ? 40 : 6, 100 * (i + 1)));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 5000, &why));
    }
}

static void flip(int fd, uint64_t offset, unsigned bit)
{
    uint8_t byte;

    CHECK_OK(sys_pread_all(fd, &byte, 1, offset));
    byte ^= (uint8_t)(1u << bit);
    CHECK_OK(sys_pwrite_all(fd, &byte, 1, offset));
}

static bool is_whole(const struct pool *in, uint64_t number, char text[256])
{
    const struct generation_entry *entry = pool_generation(in, number);

    snprintf(text, 256, "generation %lu is not listed", number);
    return entry != NULL && oracle_agrees(&oracle, in, entry, &scratch_arena, text);
}

static void any_flipped_bit_in_a_superblock_is_recognised_and_the_other_one_serves(void)
{
    static struct pool reader;
    unsigned fell_back = 0, newest_lost = 0;
    uint64_t sequence;

    make_pool(3, 4);
    sequence = pool.super.sequence;
    for (unsigned at = 0; at < 2 * FRAME_BYTES * 8; at++) {
        flip(pool.fd, at / 8, at % 8);
        if (CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why))) {
            fell_back += reader.super_fell_back;
            newest_lost += reader.super.sequence == sequence - 1;
            pool_close(&reader);
        }
        flip(pool.fd, at / 8, at % 8);
    }
    CHECK_EQ(fell_back, 2 * FRAME_BYTES * 8);
    CHECK_EQ(newest_lost, FRAME_BYTES * 8);
    pool_close(&pool);
}

/* For N = 1 as well, and also while the next generation is being built or the pool has been opened
 * again for writing: the superblock before the newest leads to a generation that is whole. */
static void the_superblock_before_the_newest_leads_to_a_whole_generation(void)
{
    static struct pool reader;
    char text[256];

    for (unsigned round = 0; round < 6; round++) {
        uint32_t keep = 1 + round % 3;
        uint64_t offset;

        make_pool(keep, 6);
        if (round >= 3)
            CHECK_OK(scratch_reopen(&pool, &oracle, 6, &why));
        CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000)); /* takes what is free */
        CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9100));
        offset = pool.super.sequence % 2 * FRAME_BYTES + 300;
        flip(pool.fd, offset, 3);
        CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why));
        CHECK(reader.super_fell_back);
        if (!is_whole(&reader, 5, text) || (keep > 1 && !is_whole(&reader, keep > 2 ? 4 : 5, text)))
            CHECK_STR(text, "");
        pool_close(&reader);
        pool_close(&pool);
    }
}

static void a_writer_goes_on_from_the_older_superblock(void)
{
    uint64_t sequence;
    char text[256];

    make_pool(2, 5);
    sequence = pool.super.sequence;
    flip(pool.fd, sequence % 2 * FRAME_BYTES + 64, 0);
    CHECK_OK(scratch_reopen(&pool, &oracle, 4, &why));
    CHECK(pool.super_fell_back);
    CHECK_EQ(pool.super.sequence, sequence); /* a copy, over the damaged one */
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 100, &why));
    CHECK(!pool.super_fell_back);
    CHECK_EQ(pool.super.sequence, sequence + 1);
    CHECK_OK(scratch_reopen(&pool, &oracle, 5, &why));
    if (!is_whole(&pool, 5, text) || !is_whole(&pool, 4, text))
        CHECK_STR(text, "");
    pool_close(&pool);
}

/* A superblock of which all but the first sector had been written when the machine went down: if
 * the next one written there were torn too, its first sector could complete it. By the time
 * anything it leads to may be overwritten, nothing is left of it. */
static void a_torn_superblock_cannot_come_to_life_later(void)
{
    static struct pool reader;
    uint8_t before[512], after[512];
    uint64_t offset;

    make_pool(3, 4);
    offset = (pool.super.sequence + 1) % 2 * FRAME_BYTES;
    CHECK_OK(sys_pread_all(pool.fd, before, sizeof before, offset));
    CHECK_OK(oracle_write(&oracle, &pool, 0, 10, 9000));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 100, &why));
    CHECK_OK(sys_pread_all(pool.fd, after, sizeof after, offset));
    CHECK_OK(sys_pwrite_all(pool.fd, before, sizeof before, offset));
    CHECK_OK(scratch_reopen(&pool, &oracle, 4, &why));
    CHECK(pool.super_fell_back);
    CHECK_OK(sys_pwrite_all(pool.fd, after, sizeof after, offset));
    CHECK_OK(pool_open(&reader, pool.path, POOL_READ, &why));
    CHECK_EQ(pool_generation(&reader, 0)->number, 4);
    pool_close(&reader);
    pool_close(&pool);
}

/* --- frames --- */

#define FRAMES_MAX 4096

static uint64_t used[FRAMES_MAX];
static unsigned used_count;

static int note_used(void *context, uint64_t frame, int level)
{
    (void)context, (void)level;
    for (unsigned i = 0; i < used_count; i++)
        if (used[i] == frame)
            return 1;
    if (used_count == FRAMES_MAX)
        return -E2BIG;
    used[used_count++] = frame;
    return 0;
}

static void list_used_frames(void)
{
    used_count = 0;
    for (uint32_t i = 0; i < pool.super.generation_count; i++) {
        struct index_tree *tree;

        CHECK_OK(index_open(&tree, &scratch_arena, pool.fd,
                            generation_index(&pool.super.generations[i])));
        CHECK_OK(index_walk_frames(tree, note_used, NULL));
    }
}

static unsigned damaged_generations(void)
{
    unsigned damaged = 0;
    char text[256];

    for (uint32_t i = 0; i < pool.super.generation_count; i++)
        damaged += !oracle_agrees(&oracle, &pool, &pool.super.generations[i], &scratch_arena, text);
    return damaged;
}

static void flip_bits_everywhere(void)
{
    unsigned flips = 0, found = 0;

    make_pool(3, 5);
    list_used_frames();
    srand(3);
    for (unsigned i = 0; i < used_count; i++)
        for (unsigned k = 0; k < 8; k++) {
            uint64_t offset = (used[i] << FRAME_SHIFT) + (unsigned)rand() % FRAME_BYTES;
            unsigned bit = (unsigned)rand() % 8;

            flip(pool.fd, offset, bit);
            found += damaged_generations() > 0;
            flips++;
            flip(pool.fd, offset, bit);
        }
    CHECK_EQ(found, flips);
    CHECK_EQ(damaged_generations(), 0);
    tap_note("%u of %u bit flips in %u frames in use recognised", found, flips, used_count);
    pool_close(&pool);
}

static void a_flipped_bit_in_any_frame_in_use_is_recognised(void)
{
    flip_bits_everywhere();
    fold_every = 0;
    flip_bits_everywhere();
    fold_every = 1;
}

static void a_flipped_bit_in_a_record_is_recognised_and_told_by_place(void)
{
    static uint8_t record[ORACLE_RECORD_MAX];
    const struct generation_entry *entry;
    char place[64];

    make_pool(3, 3);
    entry = pool_generation(&pool, 2);
    for (unsigned at = 0; at < entry->record_bytes; at += 101) {
        flip(pool.fd, (entry->record_frame << FRAME_SHIFT) + at, at % 8);
        CHECK_EQ(pool_read_record(&pool, entry, record, &why), STATUS_DAMAGED);
        flip(pool.fd, (entry->record_frame << FRAME_SHIFT) + at, at % 8);
    }
    snprintf(place, sizeof place, "at offset %lu", entry->record_frame << FRAME_SHIFT);
    CHECK(strstr(why.text, place) && strstr(why.text, pool.path));
    CHECK_OK(pool_read_record(&pool, entry, record, &why));
    pool_close(&pool);
}

static void a_generation_with_a_damaged_index_is_given_up_and_the_others_stay(void)
{
    uint64_t root;
    char text[256];

    make_pool(3, 4);
    root = pool_generation(&pool, 3)->index_root.frame;
    flip(pool.fd, (root << FRAME_SHIFT) + 5, 5);
    CHECK_OK(scratch_reopen(&pool, &oracle, 4, &why));
    CHECK_EQ(why.status, STATUS_DAMAGED);
    CHECK(strstr(why.text, "generation 3") && strstr(why.text, pool.path));
    CHECK_EQ(pool.super.generation_count, 2);
    CHECK(frames_are_valid(pool.frames));
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 100, &why));
    if (!is_whole(&pool, 2, text) || !is_whole(&pool, 4, text) || !is_whole(&pool, 5, text))
        CHECK_STR(text, "");
    pool_close(&pool);
}

static void a_damaged_base_is_refused(void)
{
    make_pool(3, 4);
    flip(pool.fd, (pool_generation(&pool, 4)->index_root.frame << FRAME_SHIFT) + 9, 1);
    CHECK_EQ(scratch_reopen(&pool, &oracle, 4, &why), STATUS_DAMAGED);
    CHECK(strstr(why.text, "generation 4") != NULL);
    CHECK(pool.frames == NULL && pool.index == NULL);
    CHECK_OK(pool_load(&pool, &scratch_arena, 3, &why)); /* the one before it can be */
    pool_close(&pool);
}

static void a_generation_with_a_damaged_delta_is_given_up_and_the_one_before_stays(void)
{
    char text[256];

    fold_every = 0;
    make_pool(3, 4);
    fold_every = 1;
    CHECK_EQ(pool_generation(&pool, 4)->index_root.frame,
             pool_generation(&pool, 2)->index_root.frame);
    flip(pool.fd, (pool_generation(&pool, 4)->index_delta.frame << FRAME_SHIFT) + 4000, 1);
    CHECK_EQ(scratch_reopen(&pool, &oracle, 4, &why), STATUS_DAMAGED);
    CHECK_OK(scratch_reopen(&pool, &oracle, 3, &why));
    CHECK(strstr(why.text, "generation 4") != NULL);
    CHECK_EQ(pool.super.generation_count, 2);
    CHECK(frames_are_valid(pool.frames));
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000));
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 100, &why));
    if (!is_whole(&pool, 2, text) || !is_whole(&pool, 3, text) || !is_whole(&pool, 5, text))
        CHECK_STR(text, "");
    pool_close(&pool);
}

/* --- cut short --- */

static void a_file_cut_short_at_any_frame_is_opened_or_refused_and_never_believed(void)
{
    static struct pool reader;
    uint64_t frames;
    unsigned whole = 0;

    make_pool(3, 4);
    frames = pool.super.frame_count;
    pool_close(&pool);
    for (uint64_t bytes = 150 * FRAME_BYTES; bytes < 151 * FRAME_BYTES * 2; bytes -= 2048) {
        int fd = open(scratch_path("pool"), O_RDWR);
        int status;

        CHECK_EQ(ftruncate(fd, (off_t)bytes), 0);
        close(fd);
        status = pool_open(&reader, scratch_path("pool"), POOL_READ, &why);
        if (bytes < FRAME_BYTES) {
            CHECK(status == STATUS_NOT_A_POOL || status == STATUS_DAMAGED);
            continue;
        }
        if (!CHECK_OK(status))
            continue;
        CHECK(reader.file_frames < frames);
        CHECK_EQ(reader.super_fell_back, bytes < 2 * FRAME_BYTES || reader.super_fell_back);
        pool = reader;
        whole += damaged_generations() == 0;
        pool_close(&reader);
        if (pool_open(&pool, scratch_path("pool"), POOL_WRITE, &why) == 0) {
            CHECK_OK(pool_load(&pool, &scratch_arena, 0, &why));
            CHECK(frames_are_valid(pool.frames));
            pool_close(&pool);
        }
    }
    tap_note("%u of the cuts left all generations whole", whole);
}

/* --- hostile: checksums are right, contents are not --- */

/* Writes a node whose entries are all `entry` from slot `from` on, gives it its own entry. */
static struct index_entry put_node(uint64_t frame, struct index_entry entry, unsigned from)
{
    static struct index_node node;

    memset(&node, 0, sizeof node);
    for (unsigned i = from; i < INDEX_NODE_ENTRIES; i++)
        node.entries[i] = entry;
    CHECK_OK(sys_pwrite_all(pool.fd, &node, sizeof node, frame << FRAME_SHIFT));
    return (struct index_entry){frame, checksum64(&node, sizeof node)};
}

static struct index_entry hostile_root;

static void plant_root(struct superblock *super, void *context)
{
    (void)context;
    super->generations[super->generation_count - 1].index_root = hostile_root;
    super->generations[super->generation_count - 1].record_frame = 10;
    super->generations[super->generation_count - 1].record_bytes = 6 * FRAME_BYTES;
}

/* Opens, walks, changes and commits on the planted index: any status will do, no crash, no hang,
 * and the other generation stays whole. */
static void survive_planted_root(int expected_load)
{
    struct index_tree *tree;
    struct index_entry entry = {FRAME_ZERO, 0};
    uint64_t page = 0, steps = 0;
    char text[256];
    int status;

    CHECK_OK(pool_update(&pool, plant_root, NULL, &why));
    status = scratch_reopen(&pool, &oracle, 2, &why);
    CHECK_EQ(status, expected_load);
    if (status == 0) {
        CHECK(frames_are_valid(pool.frames));
        CHECK_OK(index_open(&tree, &scratch_arena, pool.fd,
                            generation_index(pool_generation(&pool, 2))));
        while (steps++ < 1000 && index_next(tree, page, INDEX_PAGE_LIMIT, &page, &entry) == 1)
            page += 1 + steps * 12345;
        (void)(index_set(pool.index, pool.frames, 0x200000000, entry) < 0);
        (void)(index_clear(pool.index, pool.frames, 0, 100000) < 0);
        (void)(oracle_write(&oracle, &pool, 0, 20, 5000) < 0);
        (void)(oracle_commit(&oracle, &pool, GENERATION_PROCESS, 0, 100, &why) < 0);
        CHECK(frames_are_valid(pool.frames));
    }
    if (!is_whole(&pool, 1, text))
        CHECK_STR(text, "");
    pool_close(&pool);
}

/* Frames 4000 and up are free in a pool of make_pool(3, 2). */
static void an_index_that_shares_one_node_everywhere_is_walked_once(void)
{
    struct index_entry entry = {4000, 1};

    make_pool(3, 2);
    for (unsigned level = 0; level < INDEX_LEVELS; level++)
        entry = put_node(4001 + level, entry, 0); /* 256^5 pages, all in frame 4000 */
    hostile_root = entry;
    survive_planted_root(0);
}

static void an_index_that_shares_one_node_everywhere_is_not_read_for_ever(void)
{
    struct index_entry entry = {4000, 1};
    struct index_tree *tree;
    uint64_t page = 0, pages = 0, limit;
    int status;

    make_pool(3, 2);
    limit = pool_frames_present(&pool) * INDEX_NODE_ENTRIES;
    for (unsigned level = 0; level < INDEX_LEVELS; level++)
        entry = put_node(4001 + level, entry, 0);
    CHECK_OK(index_open(&tree, &scratch_arena, pool.fd, (struct index_root){.node = entry}));
    while ((status = index_next(tree, page, INDEX_PAGE_LIMIT, &page, &entry)) == 1 &&
           pages++ < limit)
        page++;
    CHECK_EQ(status, STATUS_DAMAGED);
    CHECK(pages <= limit);
    pool_close(&pool);
}

static void an_index_that_names_frames_beyond_the_file_is_damaged(void)
{
    static const uint64_t frames[] = {1000000, 1ull << 40, 1ull << 52, UINT64_MAX};

    for (unsigned i = 0; i < 4; i++) {
        make_pool(3, 2);
        hostile_root = put_node(4001, (struct index_entry){frames[i], 1}, 3);
        survive_planted_root(STATUS_DAMAGED);
        make_pool(3, 2);
        hostile_root = (struct index_entry){frames[i], 1};
        for (unsigned level = 0; level < INDEX_LEVELS; level++)
            hostile_root = put_node(4001 + level, hostile_root, 250);
        survive_planted_root(STATUS_DAMAGED);
    }
}

static void an_index_whose_inner_nodes_say_zero_is_damaged(void)
{
    make_pool(3, 2);
    hostile_root = put_node(4001, (struct index_entry){FRAME_ZERO, 0}, 200);
    survive_planted_root(STATUS_DAMAGED);
}

/* Frames of another generation, of nodes and of the record named as pages. */
static void an_index_that_names_foreign_frames_does_no_harm_to_others(void)
{
    uint64_t foreign;

    for (unsigned i = 0; i < 3; i++) {
        make_pool(3, 2);
        foreign = i == 0   ? pool_generation(&pool, 1)->index_root.frame
                  : i == 1 ? pool_generation(&pool, 1)->record_frame
                           : 4002;
        hostile_root = (struct index_entry){foreign, 77};
        for (unsigned level = 0; level < INDEX_LEVELS; level++)
            hostile_root = put_node(4001 + level, hostile_root, 255);
        survive_planted_root(0);
    }
}

/* --- hostile deltas --- */

static struct delta_place hostile_delta;

static void plant_delta(struct superblock *super, void *context)
{
    (void)context;
    super->generations[super->generation_count - 1].index_delta = hostile_delta;
}

/* A delta of `count` entries at frame 4000, as entry 0 says; the planted one. */
static void put_delta(struct delta_place before, uint64_t count, struct delta_entry first,
                      struct delta_entry second)
{
    static uint64_t frame[FRAME_BYTES / 8];
    struct index_delta *delta = (struct index_delta *)frame;

    memset(frame, 0, sizeof frame);
    *delta = (struct index_delta){before, count};
    delta->entries[0] = first;
    delta->entries[1] = second;
    CHECK_OK(sys_pwrite_all(pool.fd, frame, sizeof frame, 4000ull << FRAME_SHIFT));
    hostile_delta = (struct delta_place){4000, 1, checksum64(frame, sizeof frame)};
}

static void refuse_planted_delta(void)
{
    char text[256];

    CHECK_OK(pool_update(&pool, plant_delta, NULL, &why));
    CHECK_EQ(scratch_reopen(&pool, &oracle, 2, &why), STATUS_DAMAGED);
    if (!is_whole(&pool, 1, text))
        CHECK_STR(text, "");
    pool_close(&pool);
}

static void a_delta_that_lies_is_damaged(void)
{
    const struct delta_place none = {0, 0, 0};
    const struct delta_entry fine = {7, {4010, 1}}, later = {8, {4011, 1}};
    const struct delta_entry lies[] = {
        {7, {4011, 1}},                           /* the page before again */
        {3, {4011, 1}},                           /* not ascending */
        {8 | 5ull << DELTA_PAGE_BITS, {4011, 1}}, /* one frame for six pages */
        {8 | 5ull << DELTA_PAGE_BITS, {FRAME_ZERO, 0}} /* only "nothing" may be said of many */,
        {INDEX_PAGE_LIMIT - 1 + (1ull << DELTA_PAGE_BITS), {FRAME_NONE, 0}}, /* past the end */
    };

    for (unsigned i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        make_pool(3, 2);
        put_delta(none, 2, fine, lies[i]);
        refuse_planted_delta();
    }
    make_pool(3, 2); /* more entries than a frame holds */
    put_delta(none, 170, fine, later);
    refuse_planted_delta();
    make_pool(3, 2); /* the one before is nowhere */
    put_delta((struct delta_place){1ull << 30, 1, 1}, 2, fine, later);
    refuse_planted_delta();
    make_pool(3, 2); /* as many frames as there are */
    put_delta((struct delta_place){2, UINT64_MAX, 1}, 2, fine, later);
    refuse_planted_delta();
}

static void a_chain_without_end_is_damaged(void)
{
    const struct delta_entry nothing = {7, {FRAME_NONE, 0}}, later = {8, {FRAME_NONE, 0}};
    struct delta_place before = {0, 0, 0};
    static uint64_t frame[FRAME_BYTES / 8];

    make_pool(3, 2);
    for (unsigned i = 0; i <= DELTAS_MAX; i++) {
        put_delta(before, 2, nothing, later);
        CHECK_OK(sys_pread_all(pool.fd, frame, sizeof frame, 4000ull << FRAME_SHIFT));
        CHECK_OK(sys_pwrite_all(pool.fd, frame, sizeof frame, (4001ull + i) << FRAME_SHIFT));
        before = (struct delta_place){4001 + i, 1, hostile_delta.checksum};
    }
    hostile_delta = before;
    refuse_planted_delta();
}

static void every_field_of_a_superblock_may_hold_anything(void)
{
    static struct superblock original;
    static const uint64_t values[] = {0, 1, UINT64_MAX, 1ull << 63, 0x7fffffff, 25, 4096};
    unsigned opened = 0, tried = 0;

    make_pool(3, 3);
    original = pool.super;
    pool_close(&pool);
    for (unsigned at = 8; at < 4088; at += at < 700 ? 8 : 128)
        for (unsigned v = 0; v < sizeof values / sizeof values[0]; v++) {
            struct superblock super = original;
            int fd = open(scratch_path("pool"), O_RDWR);

            memcpy((uint8_t *)&super + at, &values[v], sizeof values[v]);
            super.checksum = checksum64(&super, __builtin_offsetof(struct superblock, checksum));
            CHECK_OK(sys_pwrite_all(fd, &super, sizeof super, original.sequence % 2 * FRAME_BYTES));
            close(fd);
            tried++;
            if (pool_open(&pool, scratch_path("pool"), POOL_WRITE, &why) < 0)
                continue;
            opened++;
            arena_rewind(&scratch_arena, scratch_arena.base);
            if (pool_load(&pool, &scratch_arena, 0, &why) == 0) {
                CHECK(frames_are_valid(pool.frames));
                (void)damaged_generations();
            }
            pool_close(&pool);
        }
    tap_note("%u superblocks tried, %u of them opened", tried, opened);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(any_flipped_bit_in_a_superblock_is_recognised_and_the_other_one_serves);
    RUN(the_superblock_before_the_newest_leads_to_a_whole_generation);
    RUN(a_writer_goes_on_from_the_older_superblock);
    RUN(a_torn_superblock_cannot_come_to_life_later);
    RUN(a_flipped_bit_in_any_frame_in_use_is_recognised);
    RUN(a_flipped_bit_in_a_record_is_recognised_and_told_by_place);
    RUN(a_generation_with_a_damaged_index_is_given_up_and_the_others_stay);
    RUN(a_damaged_base_is_refused);
    RUN(a_generation_with_a_damaged_delta_is_given_up_and_the_one_before_stays);
    RUN(a_file_cut_short_at_any_frame_is_opened_or_refused_and_never_believed);
    RUN(an_index_that_shares_one_node_everywhere_is_walked_once);
    RUN(an_index_that_shares_one_node_everywhere_is_not_read_for_ever);
    RUN(an_index_that_names_frames_beyond_the_file_is_damaged);
    RUN(an_index_whose_inner_nodes_say_zero_is_damaged);
    RUN(an_index_that_names_foreign_frames_does_no_harm_to_others);
    RUN(a_delta_that_lies_is_damaged);
    RUN(a_chain_without_end_is_damaged);
    RUN(every_field_of_a_superblock_may_hold_anything);
    scratch_end();
    return tap_done();
}
