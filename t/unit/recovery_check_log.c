/*
 * recovery_check_log.c - the checker on pools with a log: what is whole is called fine, every
 * flipped bit of a live frame and of the log's records is found, and wherever a log is said to lie
 * the checker and the library agree.
 */
#include "t/lib/tx_dax.h"

#include "core/base/checksum.h"
#include "core/tx/replay.h"
#include "recovery/check/check.h"

#define TYPE     2u
#define LIVE_MAX 4096

static struct check_result result;
static struct finding last;

static void keep_last(void *context, const struct finding *finding)
{
    (void)context;
    last = *finding;
}

static enum severity check_now(void)
{
    const struct check_request request = {
        .path = fixture_path, .heaps = HEAPS_OF_ALL, .found = keep_last};
    int status;

    memset(&last, 0, sizeof last);
    status = check_pool(&request, &result, &why);
    if (status == STATUS_NOT_A_POOL || status == STATUS_NEWER_FORMAT)
        return SEVERITY_DAMAGE;
    CHECK_OK(status);
    return result.worst;
}

static void transact(unsigned i)
{
    struct pheap_tx *tx = NULL;
    void *block;

    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_alloc(tx, 30 + i * 17 % 500, TYPE, &block));
    memset(block, (int)i + 1, 30);
    CHECK_OK(tx_commit(tx));
}

/* Two generations of transactions, then some in the log. */
static void make_heap(unsigned in_log)
{
    fixture_create();
    for (unsigned i = 0; i < 30; i++)
        transact(i);
    CHECK(fixture_checkpoint() > 0);
    for (unsigned i = 0; i < in_log; i++)
        transact(i + 7);
    fixture_close();
}

/* On persistent memory, by two in turns, so that each has a lane; the second one's block replaces
 * the first one's. */
static void make_heap_with_lanes(unsigned turns)
{
    struct pheap_tx *one, *two;
    void *block;

    fixture_create_on_dax();
    for (unsigned i = 0; i < turns; i++) {
        one = two = NULL;
        CHECK_OK(tx_begin(heap, &one));
        CHECK_OK(tx_begin(heap, &two));
        CHECK_OK(tx_alloc(one, 30 + i, TYPE, &block));
        CHECK_OK(tx_commit(one));
        CHECK_OK(tx_free(two, block));
        CHECK_OK(tx_alloc(two, 50 + i, TYPE, &block));
        CHECK_OK(tx_commit(two));
    }
    CHECK_EQ(heap->log.numbers, 2);
    fixture_close();
}

static void access_at(void *buffer, size_t bytes, uint64_t offset, bool write)
{
    int fd = open(fixture_path, O_RDWR);

    CHECK_OK(write ? sys_pwrite_all(fd, buffer, bytes, offset)
                   : sys_pread_all(fd, buffer, bytes, offset));
    close(fd);
}

static void flip(uint64_t bit)
{
    uint8_t byte;

    access_at(&byte, 1, bit / 8, false);
    byte ^= (uint8_t)(1u << bit % 8);
    access_at(&byte, 1, bit / 8, true);
}

static void whole_lanes_are_fine(void)
{
    for (unsigned turns = 12; turns < 60; turns += 17) {
        make_heap_with_lanes(turns);
        if (!CHECK_EQ(check_now(), SEVERITY_NONE))
            tap_note("%s: %s, found %s", finding_id(last.kind), last.expected, last.found);
        CHECK(result.log_records >= 2 * turns);
    }
}

static void whole_logs_are_fine(void)
{
    for (unsigned in_log = 0; in_log < 40; in_log += 13) {
        make_heap(in_log);
        if (!CHECK_EQ(check_now(), SEVERITY_NONE))
            tap_note("%s: %s, found %s", finding_id(last.kind), last.expected, last.found);
    }
}

/* --- flipped bits --- */

static struct live {
    uint64_t offset, bytes;
} live[LIVE_MAX];
static unsigned live_count;

static int note_live(void *context, uint64_t frame, int level)
{
    (void)context, (void)level;
    for (unsigned i = 0; i < live_count; i++)
        if (live[i].offset == frame << FRAME_SHIFT)
            return 0;
    if (CHECK(live_count < LIVE_MAX))
        live[live_count++] = (struct live){frame << FRAME_SHIFT, FRAME_BYTES};
    return 0;
}

/* In the order of the log; it has one extent. */
static unsigned list_records(struct pool *pool, struct arena *arena)
{
    const struct log_record *record;
    unsigned count = 0;
    struct log log;

    CHECK_EQ(pool->super.log.extent_count, 1);
    log_begin(&log, pool);
    for (; log_next(&log, arena, &record) == 1; count++)
        live[live_count++] = (struct live){
            (pool->super.log.extents[0].frame << FRAME_SHIFT) + log.last_at, record->bytes};
    return count;
}

/* Superblocks, every frame of a generation, every record of the log; how many records. */
static unsigned list_live(void)
{
    static struct pool pool;
    struct arena arena;
    unsigned records;

    live_count = 0;
    CHECK_OK(arena_create(&arena, 1ull << 30));
    CHECK_OK(pool_open(&pool, fixture_path, POOL_READ, &why));
    (void)note_live(NULL, 0, 0);
    (void)note_live(NULL, 1, 0);
    for (uint32_t i = 0; i < pool.super.generation_count; i++) {
        struct index_tree *tree;

        CHECK_OK(index_open(&tree, &arena, pool.fd, generation_index(&pool.super.generations[i])));
        CHECK_OK(index_walk_frames(tree, note_live, NULL));
    }
    records = list_records(&pool, &arena);
    pool_close(&pool);
    arena_destroy(&arena);
    return records;
}

static void flip_all(unsigned count, unsigned records)
{
    uint64_t flips = 0, seen = 0;

    srand(11);
    for (unsigned i = 0; i < live_count; i++)
        for (unsigned k = 0; k < count; k++) {
            uint64_t bit = live[i].offset * 8 + (uint64_t)rand() % (live[i].bytes * 8);

            flip(bit);
            flips++;
            if (check_now() != SEVERITY_NONE)
                seen++;
            else
                tap_note("bit %lu is not found", bit);
            flip(bit);
        }
    CHECK_EQ(seen, flips);
    CHECK_EQ(check_now(), SEVERITY_NONE);
    tap_note("%lu of %lu flipped bits in %u live frames and %u records of a log found", seen, flips,
             live_count - records, records);
}

static void every_flipped_bit_in_use_is_found(void)
{
    make_heap(20);
    CHECK_EQ(list_live(), 20);
    flip_all(getenv("PHEAP_TEST_LONG") ? 1000 : 25, 20);
}

static void so_is_every_one_in_lanes(void)
{
    unsigned records;

    make_heap_with_lanes(20);
    records = list_live();
    CHECK(records > 40);
    flip_all(getenv("PHEAP_TEST_LONG") ? 1000 : 12, records);
}

/* The last one alone may be what a power cut has torn. */
static void a_flip_in_a_record_is_damage_but_for_the_last(void)
{
    unsigned records;

    make_heap(6);
    records = list_live();
    for (unsigned i = 0; i < records; i++) {
        const struct live *record = &live[live_count - records + i];

        for (unsigned at = 0; at < record->bytes; at += 7) {
            bool is_last = i == records - 1;

            flip((record->offset + at) * 8 + at % 8);
            if (!CHECK_EQ(check_now(), is_last ? SEVERITY_HARMLESS : SEVERITY_DAMAGE) ||
                !CHECK(result.counts[is_last ? LG_TORN : LG_BREAKS] > 0))
                tap_note("record %u of %u, byte %u", i, records, at);
            flip((record->offset + at) * 8 + at % 8);
        }
    }
}

/* --- lies about its place --- */

static void check_lie(const struct superblock *super, unsigned at, uint64_t value)
{
    static struct pool pool;
    bool opens = pool_open(&pool, fixture_path, POOL_READ, &why) == 0;
    enum severity worst = check_now();

    if (opens) {
        if (!CHECK_EQ(result.super_fell_back, pool.super_fell_back) ||
            !CHECK_EQ(result.super.sequence, pool.super.sequence))
            tap_note("offset %u = %lx", at, value);
        pool_close(&pool);
    }
    if (worst == SEVERITY_NONE && result.super.sequence == super->sequence) {
        if (!CHECK_OK(fixture_open_path(&heap, fixture_path, true)))
            tap_note("called fine, but: offset %u = %lx: %s", at, value, why.text);
        else
            CHECK_EQ(opened_close(heap), 0);
    }
}

static void a_superblock_may_say_anything_of_the_log(void)
{
    const unsigned first = __builtin_offsetof(struct superblock, log);
    struct superblock pair[2], newest;

    make_heap(5);
    access_at(pair, sizeof pair, 0, false);
    newest = pair[pair[1].sequence > pair[0].sequence];
    for (unsigned at = first; at < first + sizeof newest.log; at += 4) {
        uint64_t was, values[] = {0, 1, 2, UINT64_MAX, 3, 1ull << 32, INT64_MAX, 0, 0};

        memcpy(&was, (uint8_t *)&newest + at, sizeof was);
        values[7] = was + 1;
        values[8] = was - 1;
        for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++) {
            struct superblock super = newest;

            memcpy((uint8_t *)&super + at, &values[i], sizeof values[i]);
            super.checksum = checksum64(&super, __builtin_offsetof(struct superblock, checksum));
            access_at(&super, sizeof super, newest.sequence % 2 * FRAME_BYTES, true);
            check_lie(&newest, at, values[i]);
        }
    }
    access_at(&newest, sizeof newest, newest.sequence % 2 * FRAME_BYTES, true);
    CHECK_EQ(check_now(), SEVERITY_NONE);
}

static void a_frame_of_the_log_that_a_generation_shows_is_damage(void)
{
    struct superblock pair[2], *newest;

    make_heap(3);
    access_at(pair, sizeof pair, 0, false);
    newest = &pair[pair[1].sequence > pair[0].sequence];
    newest->log.extents[0].frame =
        newest->generations[newest->generation_count - 1].index_root.frame;
    newest->log.extents[0].frames = 1;
    newest->log.start = 0;
    newest->checksum = checksum64(newest, __builtin_offsetof(struct superblock, checksum));
    access_at(newest, sizeof *newest, newest->sequence % 2 * FRAME_BYTES, true);
    CHECK_EQ(check_now(), SEVERITY_DAMAGE);
    CHECK(result.counts[FR_TWICE] > 0);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(whole_logs_are_fine);
    RUN(whole_lanes_are_fine);
    RUN(every_flipped_bit_in_use_is_found);
    RUN(so_is_every_one_in_lanes);
    RUN(a_flip_in_a_record_is_damage_but_for_the_last);
    RUN(a_superblock_may_say_anything_of_the_log);
    RUN(a_frame_of_the_log_that_a_generation_shows_is_damage);
    fixture_end();
    return tap_done();
}
