/*
 * recovery_lanes.c - a heap whose log has lanes (core/tx/log.h) is copied, cloned and repaired: the
 * new log has none, and says the same.
 */
#include <unistd.h>

#include "recovery/check/check.h"
#include "recovery/copy/copy.h"
#include "recovery/repair/repair.h"
#include "t/lib/tx_dax.h"

#define TURNS 40u
#define TYPE  3u

static char copy_path[200], backup_path[200];

static void ignore(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

static struct check_result check_now(const char *path)
{
    const struct check_request request = {.path = path, .heaps = HEAPS_OF_ALL, .found = ignore};
    struct check_result result;

    CHECK_OK(check_pool(&request, &result, &why));
    return result;
}

static uint64_t *word;

static bool put(struct pheap_tx *tx, uint64_t value)
{
    bool fine = tx_add(tx, word, sizeof value) == 0;

    *word = value;
    return tx_commit(tx) == 0 && fine;
}

/* One word, by two transaction objects in turns: 1, 2, 3 ... */
static void make_heap(void)
{
    struct pheap_tx *one, *two = NULL;
    void *block = NULL;

    fixture_create_on_dax();
    CHECK_OK(tx_begin(heap, &two));
    CHECK_OK(tx_alloc(two, sizeof *word, TYPE, &block));
    CHECK_OK(root_set(two, "word", block, TYPE));
    CHECK_OK(tx_commit(two));
    word = block;
    for (unsigned i = 1; i < 2 * TURNS; i += 2) {
        one = two = NULL;
        CHECK_OK(tx_begin(heap, &one));
        CHECK_OK(tx_begin(heap, &two));
        CHECK(put(one, i) && put(two, i + 1));
    }
    CHECK_EQ(heap->log.numbers, 2);
    fixture_close();
}

/* The heap at path goes on from this value; its log has lanes, or not. */
static void goes_on(const char *path, uint64_t value)
{
    struct pheap_tx *tx = NULL;

    CHECK_EQ(check_now(path).worst, SEVERITY_NONE);
    CHECK_OK(fixture_open_path(&heap, path, false));
    word = root_find(heap, "word", NULL);
    CHECK(word != NULL && *word == value);
    CHECK(!heap->log.lanes.any);
    CHECK_OK(tx_begin(heap, &tx));
    CHECK(put(tx, 7777));
    fixture_close();
    CHECK_OK(fixture_open_path(&heap, path, true));
    CHECK_EQ(*word, 7777);
    CHECK_EQ(opened_close(heap), 0);
    CHECK_EQ(check_now(path).worst, SEVERITY_NONE);
}

static void copy(bool new_identity)
{
    struct pool pool;
    uint64_t bytes;

    unlink(copy_path);
    CHECK_OK(pool_open(&pool, fixture_path, POOL_READ, &why));
    CHECK_OK(pool_copy(
        &(struct copy_request){.pool = &pool, .to = copy_path, .new_identity = new_identity},
        &bytes, &why));
    pool_close(&pool);
}

/* What another pool compares with the sequence that it was told in a promise. */
static uint64_t last_sequence(const char *path)
{
    const struct log_record *record;
    struct arena arena;
    struct pool pool;
    struct log log;

    CHECK_OK(arena_create(&arena, 64 << 20));
    CHECK_OK(pool_open(&pool, path, POOL_READ, &why));
    log_begin(&log, &pool);
    while (log_next(&log, &arena, &record) == 1)
        ;
    pool_close(&pool);
    arena_destroy(&arena);
    return log.sequence;
}

/* As old as the pool was: an old copy is known as one, and a new one is not taken for it. */
static void copies_say_the_same_without_lanes(void)
{
    make_heap();
    for (int new_identity = 0; new_identity < 2; new_identity++) {
        copy(new_identity);
        CHECK_EQ(last_sequence(copy_path), last_sequence(fixture_path));
        goes_on(copy_path, 2 * TURNS);
    }
    unlink(copy_path);
}

/* Where the record lies in the file whose value is this. *before: the value of the record before it
 * in its lane. */
static uint64_t offset_of(uint64_t value, uint64_t *before)
{
    uint64_t values[LOG_LANES] = {0}, sessions[LOG_LANES] = {0};
    const struct log_record *record;
    struct arena arena;
    struct pool pool;
    struct log log;
    uint64_t offset = 0;

    CHECK_OK(arena_create(&arena, 64 << 20));
    CHECK_OK(pool_open(&pool, fixture_path, POOL_READ, &why));
    log_begin(&log, &pool);
    while (offset == 0 && log_next(&log, &arena, &record) == 1) {
        unsigned lane = 0;

        if (record->magic != LOG_LANE_MAGIC)
            continue;
        while (sessions[lane] != 0 && sessions[lane] != record->session)
            lane++;
        *before = values[lane];
        sessions[lane] = record->session;
        values[lane] = ((const uint64_t *)record)[12];
        if (values[lane] == value)
            offset = (pool.super.log.extents[log.last_extent].frame << FRAME_SHIFT) + log.last_at;
    }
    pool_close(&pool);
    arena_destroy(&arena);
    return offset;
}

/* A record of a lane is damaged: what stands before it is kept, and nothing that may build on it.
 */
static void a_damaged_lane_is_repaired(void)
{
    struct check_result result;
    struct repair_plan plan;
    uint64_t offset, before = 0, sequence;
    int fd;

    make_heap();
    sequence = last_sequence(fixture_path);
    offset = offset_of(2 * TURNS - 8, &before);
    CHECK(offset != 0 && before > TURNS);
    fd = open(fixture_path, O_RDWR);
    CHECK_OK(sys_pwrite_all(fd, "damage", 6, offset + 80));
    close(fd);
    result = check_now(fixture_path);
    CHECK_EQ(result.worst, SEVERITY_DAMAGE);
    CHECK_EQ(fixture_open_path(&heap, fixture_path, true), STATUS_DAMAGED);
    CHECK_OK(repair_plan(&plan, fixture_path, &result, &why));
    CHECK_OK(repair_apply(&plan, fixture_path, &why));
    CHECK(last_sequence(fixture_path) <= sequence);
    goes_on(fixture_path, before);
    unlink(backup_path);
}

int main(int argc, char **argv)
{
    fixture_begin();
    snprintf(copy_path, sizeof copy_path, "%.140s/copy", fixture_dir);
    snprintf(backup_path, sizeof backup_path, "%.160s.backup", fixture_path);
    tap_arguments(argc, argv);
    RUN(copies_say_the_same_without_lanes);
    RUN(a_damaged_lane_is_repaired);
    fixture_end();
    return tap_done();
}
