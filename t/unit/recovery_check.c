/*
 * recovery_check.c - the checker of pool files: what is whole is called fine, every flipped bit of
 * what is in use is found, and no file, however it lies, makes it crash or hang. What it calls fine
 * can be opened, walked and committed to.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/pool/pool.h"
#include "recovery/check/check.h"
#include "t/lib/pool_oracle.h"
#include "t/lib/pool_scratch.h"
#include "t/lib/tap.h"

#define HANG_NS    2000000000ull /* of processor time */
#define FRAMES_MAX 4096

static struct pool pool;
static struct oracle oracle;
static struct problem why;
static struct check_result result;
static struct finding last;
static uint64_t longest_ns;

static void keep_last(void *context, const struct finding *finding)
{
    (void)context;
    last = *finding;
}

/* The worst that is found in the scratch pool. */
static enum severity check_now(void)
{
    const struct check_request request = {
        .path = scratch_path("pool"), .heaps = HEAPS_OF_ALL, .found = keep_last};
    uint64_t begin_ns = sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID), ns;
    int status;

    memset(&last, 0, sizeof last);
    status = check_pool(&request, &result, &why);
    ns = sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns;
    longest_ns = ns > longest_ns ? ns : longest_ns;
    if (status == STATUS_NOT_A_POOL || status == STATUS_NEWER_FORMAT)
        return SEVERITY_DAMAGE;
    CHECK_OK(status);
    return result.worst;
}

static bool found(enum finding_kind kind)
{
    return result.counts[kind] > 0;
}

/* A closed pool with a few generations; fold_every 0: their indexes are deltas. */
static void make_pool(unsigned fold_every, unsigned generations)
{
    scratch_pool(&pool, &oracle, 3);
    oracle.fold_every = fold_every;
    for (unsigned i = 0; i < generations; i++) {
        CHECK_OK(oracle_write(&oracle, &pool, i * 7 % 40, i == 0 ? 40 : 6, 100 * (i + 1)));
        CHECK_OK(oracle_zero(&oracle, &pool, i));
        CHECK_OK(oracle_clear(&oracle, &pool, i + 10));
        CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 5000, &why));
    }
    pool_close(&pool);
}

static void read_at(void *buffer, size_t bytes, uint64_t offset)
{
    int fd = open(scratch_path("pool"), O_RDONLY);

    CHECK_OK(sys_pread_all(fd, buffer, bytes, offset));
    close(fd);
}

static void write_at(const void *buffer, size_t bytes, uint64_t offset)
{
    int fd = open(scratch_path("pool"), O_RDWR);

    CHECK_OK(sys_pwrite_all(fd, buffer, bytes, offset));
    close(fd);
}

static void flip(uint64_t bit)
{
    uint8_t byte;

    read_at(&byte, 1, bit / 8);
    byte ^= (uint8_t)(1u << bit % 8);
    write_at(&byte, 1, bit / 8);
}

/* --- what is whole --- */

static void a_pool_without_generations_is_fine(void)
{
    make_pool(1, 0);
    CHECK_EQ(check_now(), SEVERITY_NONE);
    CHECK_EQ(result.generation_count, 0);
}

static void whole_pools_are_fine(void)
{
    for (unsigned fold_every = 0; fold_every < 4; fold_every++)
        for (unsigned generations = 1; generations < 12; generations++) {
            make_pool(fold_every, generations);
            if (!CHECK_EQ(check_now(), SEVERITY_NONE))
                tap_note("%s: %s, found %s", finding_id(last.kind), last.expected, last.found);
            CHECK_EQ(result.generation_count, generations < 3 ? generations : 3);
        }
}

static void a_pool_that_is_being_written_is_checked_on_its_newest_generation(void)
{
    make_pool(1, 4);
    CHECK_OK(scratch_reopen(&pool, &oracle, 4, &why));
    CHECK_OK(oracle_write(&oracle, &pool, 0, 48, 9000));
    CHECK_EQ(check_now(), SEVERITY_NONE);
    CHECK(result.is_in_use);
    CHECK_EQ(result.generation_count, 1);
    CHECK_OK(oracle_commit(&oracle, &pool, GENERATION_HEAP, 0, 100, &why));
    CHECK_EQ(check_now(), SEVERITY_NONE);
    pool_close(&pool);
    CHECK_EQ(check_now(), SEVERITY_NONE);
    CHECK(!result.is_in_use);
}

/* --- flipped bits --- */

static struct live {
    uint64_t offset, bytes;
} live[FRAMES_MAX];
static unsigned live_count;

static void add_live(uint64_t offset, uint64_t bytes)
{
    for (unsigned i = 0; i < live_count; i++)
        if (live[i].offset == offset)
            return;
    if (CHECK(live_count < FRAMES_MAX))
        live[live_count++] = (struct live){offset, bytes};
}

static int note_live(void *context, uint64_t frame, int level)
{
    (void)context, (void)level;
    add_live(frame << FRAME_SHIFT, FRAME_BYTES);
    return 0;
}

/* Everything that the generations need, as the library reads them. */
static void list_live(void)
{
    live_count = 0;
    add_live(0, FRAME_BYTES);
    add_live(FRAME_BYTES, FRAME_BYTES);
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    arena_rewind(&scratch_arena, scratch_arena.base);
    for (uint32_t i = 0; i < pool.super.generation_count; i++) {
        const struct generation_entry *entry = &pool.super.generations[i];
        struct index_tree *tree;

        CHECK_OK(index_open(&tree, &scratch_arena, pool.fd, generation_index(entry)));
        CHECK_OK(index_walk_frames(tree, note_live, NULL));
        add_live(entry->record_frame << FRAME_SHIFT, entry->record_bytes);
    }
    pool_close(&pool);
}

/* Flips `count` bits of each piece, at random, or all of them with a count of 0. */
static void flip_everywhere(unsigned fold_every, unsigned count)
{
    uint64_t flips = 0, seen = 0;

    make_pool(fold_every, 5);
    list_live();
    for (unsigned i = 0; i < live_count; i++)
        for (uint64_t k = 0; k < (count ? count : live[i].bytes * 8); k++) {
            uint64_t bit = count ? (uint64_t)rand() % (live[i].bytes * 8) : k;

            flip(live[i].offset * 8 + bit);
            flips++;
            seen += check_now() != SEVERITY_NONE;
            flip(live[i].offset * 8 + bit);
        }
    CHECK_EQ(seen, flips);
    CHECK_EQ(check_now(), SEVERITY_NONE);
    tap_note("%lu of %lu flipped bits in %u live frames and records found", seen, flips,
             live_count);
}

static void every_flipped_bit_in_use_is_found(void)
{
    unsigned count = getenv("PHEAP_TEST_LONG") ? 2000 : 40;

    srand(7);
    flip_everywhere(1, count);
    flip_everywhere(0, count);
}

static void a_finding_says_where(void)
{
    const struct generation_entry *entry;

    make_pool(1, 3);
    CHECK_OK(pool_open(&pool, scratch_path("pool"), POOL_READ, &why));
    entry = pool_generation(&pool, 2);
    flip((entry->record_frame * FRAME_BYTES + 17) * 8);
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(last.kind, RC_CHECKSUM);
    CHECK_EQ(last.place.generation, 2);
    CHECK_EQ(last.place.offset, entry->record_frame * FRAME_BYTES);
    CHECK_EQ(result.damaged, 2);
    flip((entry->record_frame * FRAME_BYTES + 17) * 8);
    flip((entry->index_root.frame * FRAME_BYTES + 4000) * 8);
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(last.kind, IX_NODE);
    CHECK_EQ(result.damaged, 2);
    pool_close(&pool);
}

static void a_torn_superblock_is_harmless_and_two_are_damage(void)
{
    make_pool(1, 3);
    flip(300 * 8);
    CHECK_EQ(check_now(), SEVERITY_HARMLESS);
    CHECK(result.super_fell_back && found(SB_CHECKSUM));
    flip(FRAME_BYTES * 8 + 300 * 8);
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK_EQ(result.counts[SB_CHECKSUM], 2);
}

/* --- cut short --- */

static void a_file_cut_short_is_never_called_whole(void)
{
    uint64_t end = 0;

    make_pool(1, 4);
    list_live();
    for (unsigned i = 0; i < live_count; i++)
        if (live[i].offset + live[i].bytes > end)
            end = live[i].offset + live[i].bytes;
    for (uint64_t bytes = end + 3 * FRAME_BYTES; bytes > 0; bytes -= bytes % 4096 ? 1904 : 2192) {
        enum severity worst;

        CHECK_EQ(truncate(scratch_path("pool"), (off_t)bytes), 0);
        worst = check_now();
        CHECK(worst ==
              (bytes / FRAME_BYTES * FRAME_BYTES >= end ? SEVERITY_HARMLESS : SEVERITY_DAMAGE));
        if (bytes < 2192)
            break;
    }
}

/* --- hostile: the checksums are right --- */

static struct superblock newest;

static void read_newest(void)
{
    struct superblock pair[2];

    read_at(pair, sizeof pair, 0);
    newest = pair[pair[1].sequence > pair[0].sequence];
}

static void write_newest(struct superblock super)
{
    super.checksum = checksum64(&super, __builtin_offsetof(struct superblock, checksum));
    write_at(&super, sizeof super, newest.sequence % 2 * FRAME_BYTES);
}

/* Opens, loads, walks and commits. */
static bool pool_works(void)
{
    uint64_t number =
        newest.generation_count ? newest.generations[newest.generation_count - 1].number : 0;
    struct generation_entry entry = {.kind = GENERATION_HEAP, .slot = 7};
    int status = pool_open(&pool, scratch_path("pool"), POOL_WRITE, &why);
    uint8_t page[FRAME_BYTES] = {1};
    uint64_t page_number = 0x207000000, sum = checksum64(page, sizeof page), bytes = 0;

    if (status < 0)
        return false;
    arena_rewind(&scratch_arena, scratch_arena.base);
    if (pool_generation(&pool, number) == NULL)
        number = 0;
    status = pool_load(&pool, &scratch_arena, number, &why);
    if (status == 0)
        status = pool_write_pages(&pool, &page_number, &sum, page, 1, &bytes);
    if (status == 0)
        status = pool_commit(&pool, &entry, NULL, 0, &why);
    pool_close(&pool);
    return status == 0 && why.status == 0;
}

static unsigned tried, called_fine;

/* Whatever it finds; but if it finds nothing the pool must work. */
static void check_claim(const char *what, uint64_t at, uint64_t value)
{
    uint8_t before[2 * FRAME_BYTES];
    enum severity worst = check_now();

    tried++;
    if (worst != SEVERITY_NONE)
        return;
    called_fine++;
    read_at(before, sizeof before, 0);
    why = (struct problem){0};
    if (!CHECK(pool_works()))
        tap_note("%s %lu = %lx: %s", what, at, value, why.text);
    write_at(before, sizeof before, 0);
}

#define VALUES 10

static uint64_t lie(unsigned i, uint64_t value, uint64_t neighbour, uint64_t self)
{
    const uint64_t lies[VALUES] = {0,         1,          UINT64_MAX, value + 1, value - 1,
                                   INT64_MAX, 1ull << 32, neighbour,  self,      value << 1};

    return lies[i];
}

static void report_lies(const char *what)
{
    CHECK(longest_ns < HANG_NS);
    tap_note("%s: %u lies, %u of them called fine, and the pool worked; the longest check took "
             "%lu us",
             what, tried, called_fine, longest_ns / 1000);
    tried = called_fine = 0;
}

static void a_superblock_may_say_anything(void)
{
    make_pool(0, 5);
    read_newest();
    for (unsigned at = 8; at < 4088; at += at < 800 ? 4 : 256)
        for (unsigned i = 0; i < VALUES; i++) {
            struct superblock super = newest;
            uint64_t words[2];

            memcpy(words, (uint8_t *)&super + at, sizeof words);
            words[0] = lie(i, words[0], words[1], newest.sequence % 2);
            memcpy((uint8_t *)&super + at, words, sizeof words[0]);
            write_newest(super);
            check_claim("superblock", at, words[0]);
            write_newest(newest);
        }
    report_lies("superblock");
}

/* The checker and the library agree on which superblock is in force. */
static void the_checker_chooses_the_superblock_that_is_opened(void)
{
    make_pool(1, 4);
    read_newest();
    for (unsigned at = 8; at < 900; at += 4)
        for (unsigned i = 0; i < VALUES; i++) {
            struct superblock super = newest;
            uint64_t word;

            memcpy(&word, (uint8_t *)&super + at, sizeof word);
            word = lie(i, word, 3, 2);
            memcpy((uint8_t *)&super + at, &word, sizeof word);
            write_newest(super);
            if (pool_open(&pool, scratch_path("pool"), POOL_READ, &why) < 0)
                continue;
            (void)check_now();
            if (!CHECK_EQ(result.super_fell_back, pool.super_fell_back) ||
                !CHECK_EQ(result.super.sequence, pool.super.sequence))
                tap_note("offset %u = %lx", at, word);
            pool_close(&pool);
        }
    write_newest(newest);
}

/* The nodes on the way to the newest generation's first stored page, the leaf last. */
static uint64_t path[INDEX_LEVELS];
static struct index_node nodes[INDEX_LEVELS];

static void find_path(void)
{
    uint64_t frame = newest.generations[newest.generation_count - 1].index_root.frame;

    for (unsigned depth = 0; depth < INDEX_LEVELS; depth++) {
        unsigned i = 0;

        path[depth] = frame;
        read_at(&nodes[depth], FRAME_BYTES, frame << FRAME_SHIFT);
        while (i < INDEX_NODE_ENTRIES - 1 && nodes[depth].entries[i].frame < FRAME_FIRST)
            i++;
        frame = nodes[depth].entries[i].frame;
    }
}

/* Writes the path's nodes from depth up with checksums that fit. */
static void seal_path(struct index_node *spoilt, unsigned depth)
{
    struct superblock super = newest;
    struct index_node node = *spoilt;

    for (;; depth--) {
        uint64_t sum = checksum64(&node, sizeof node), frame = path[depth];

        write_at(&node, sizeof node, frame << FRAME_SHIFT);
        if (depth == 0) {
            super.generations[super.generation_count - 1].index_root.checksum = sum;
            break;
        }
        node = nodes[depth - 1];
        for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++)
            if (node.entries[i].frame == frame)
                node.entries[i].checksum = sum;
    }
    write_newest(super);
}

static void lie_in_node(unsigned depth, unsigned word)
{
    for (unsigned i = 0; i < VALUES; i++) {
        struct index_node spoilt = nodes[depth];
        uint64_t *words = (uint64_t *)&spoilt;

        words[word] = lie(i, words[word], words[(word + 2) % 512], path[depth]);
        seal_path(&spoilt, depth);
        check_claim("node", depth, words[word]);
    }
    seal_path(&nodes[depth], depth);
}

static void an_index_may_say_anything(void)
{
    make_pool(1, 5);
    read_newest();
    find_path();
    for (unsigned depth = 0; depth < INDEX_LEVELS; depth++)
        for (unsigned word = 0; word < 512; word++) {
            const uint64_t *words = (const uint64_t *)&nodes[depth];

            if (words[word] != 0 || word % 37 == 0)
                lie_in_node(depth, word);
        }
    CHECK_EQ(check_now(), SEVERITY_NONE);
    report_lies("index");
}

static void a_delta_may_say_anything(void)
{
    struct delta_place place;
    uint64_t words[FRAME_BYTES / 8];

    make_pool(0, 5);
    read_newest();
    place = newest.generations[newest.generation_count - 1].index_delta;
    CHECK_EQ(place.frames, 1);
    read_at(words, sizeof words, place.frame << FRAME_SHIFT);
    for (unsigned at = 0; at < 60; at++)
        for (unsigned i = 0; i < VALUES; i++) {
            struct superblock super = newest;
            uint64_t was = words[at];

            words[at] = lie(i, was, words[at + 3], place.frame);
            write_at(words, sizeof words, place.frame << FRAME_SHIFT);
            super.generations[super.generation_count - 1].index_delta.checksum =
                checksum64(words, sizeof words);
            write_newest(super);
            check_claim("delta", at, words[at]);
            words[at] = was;
        }
    write_at(words, sizeof words, place.frame << FRAME_SHIFT);
    write_newest(newest);
    CHECK_EQ(check_now(), SEVERITY_NONE);
    report_lies("delta");
}

/* Every entry of a node leads to one node below: 256^5 pages, five frames. */
static void a_tree_that_shares_one_node_everywhere_is_walked_once(void)
{
    struct superblock super;
    struct index_entry entry = {4000, 1};
    static struct index_node node;

    make_pool(1, 2);
    read_newest();
    super = newest;
    for (unsigned level = 0; level < INDEX_LEVELS; level++) {
        for (unsigned i = 0; i < INDEX_NODE_ENTRIES; i++)
            node.entries[i] = entry;
        write_at(&node, sizeof node, (4001ull + level) << FRAME_SHIFT);
        entry = (struct index_entry){4001 + level, checksum64(&node, sizeof node)};
    }
    super.generations[1].index_root = entry;
    write_newest(super);
    longest_ns = 0;
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK(found(FR_TWICE));
    CHECK(longest_ns < HANG_NS);
    CHECK_EQ(result.damaged, 2);
}

int main(int argc, char **argv)
{
    scratch_begin();
    tap_arguments(argc, argv);
    RUN(a_pool_without_generations_is_fine);
    RUN(whole_pools_are_fine);
    RUN(a_pool_that_is_being_written_is_checked_on_its_newest_generation);
    RUN(every_flipped_bit_in_use_is_found);
    RUN(a_finding_says_where);
    RUN(a_torn_superblock_is_harmless_and_two_are_damage);
    RUN(a_file_cut_short_is_never_called_whole);
    RUN(a_superblock_may_say_anything);
    RUN(the_checker_chooses_the_superblock_that_is_opened);
    RUN(an_index_may_say_anything);
    RUN(a_delta_may_say_anything);
    RUN(a_tree_that_shares_one_node_everywhere_is_walked_once);
    scratch_end();
    return tap_done();
}
