/*
 * tx_lanes.c - threads that meet in the log on persistent memory have lanes of their own
 * (core/tx/log.h): what they commit is there, in its order, across cuts and openings; a reader
 * beside them sees no record without those that it builds upon; damage in a lane is found.
 * tx_crash_mutants.c has what a power cut leaves.
 *
 * The lanes' sources are compiled into this program: a lane is small and given at the first
 * meeting.
 */
#include "t/lib/tx_mutants.h"

#include <pthread.h>

static void come_in_between(void);
#undef TX_WINDOW
#define TX_WINDOW()          come_in_between()
#define LOG_LANE_FIRST_BYTES 1024u
#define LOG_LANE_MEETINGS    1u
#include "core/tx/log_lane.c"
#include "core/tx/log_lanes.c"

#include "t/lib/tx_dax.h"

#define THREADS 4u
#define ROUNDS  400u
#define CUTS    3u
#define TURNS   60u
#define TYPE    7u

#define LONG_BYTES (LOG_LANE_BYTES / LOG_LANE_PARTS) /* too long for a lane */

static uint64_t *words; /* a stripe each; the first is everybody's */

static uint64_t *word(unsigned i)
{
    return words + i * (STRIPE_BYTES / sizeof *words);
}

static void make_words(void)
{
    struct pheap_tx *tx = NULL;
    void *block = NULL;

    fixture_create_on_dax();
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_alloc(tx, (THREADS + 1) * STRIPE_BYTES + LONG_BYTES, TYPE, &block));
    CHECK_OK(root_set(tx, "words", block, TYPE));
    CHECK_OK(tx_commit(tx));
    words = block;
}

/* --- two transaction objects, one thread --- */

static bool put(struct pheap_tx *tx, unsigned i, uint64_t value)
{
    bool fine = tx_add(tx, word(i), sizeof value) == 0;

    *word(i) = value;
    return tx_commit(tx) == 0 && fine;
}

/* One word, written by two in turns: the second one's value stays. */
static bool take_turns(uint64_t value)
{
    struct pheap_tx *one = NULL, *two = NULL;

    return tx_begin(heap, &one) == 0 && tx_begin(heap, &two) == 0 && put(one, 0, value - 1) &&
           put(two, 0, value);
}

static unsigned count_outside(void)
{
    const struct log_record *record;
    struct arena arena;
    struct log log;
    unsigned count = 0;

    CHECK_OK(arena_create(&arena, 64 << 20));
    log_begin(&log, &heap->pool);
    while (log_next(&log, &arena, &record) == 1)
        count += record->magic == LOG_MAGIC;
    arena_destroy(&arena);
    return count;
}

static void what_two_lanes_hold_stands_in_its_order(void)
{
    make_words();
    for (unsigned i = 1; i <= TURNS; i++)
        CHECK(take_turns(2 * i));
    CHECK_EQ(heap->log.numbers, 2);
    fixture_reopen();
    CHECK_EQ(*word(0), 2 * TURNS);
    CHECK(heap->log.records >= 2 * TURNS);
    CHECK(count_outside() < TURNS);
    CHECK(heap->log.sequence >= heap->log.records); /* so a copy without lanes can end there */
    fixture_close();
}

static void later_sessions_lie_behind_all_lanes(void)
{
    make_words();
    for (unsigned life = 1; life <= 4; life++) {
        for (unsigned i = 1; i <= 5; i++)
            CHECK(take_turns(life * 100 + i));
        if (life == 2)
            CHECK(opened_checkpoint(heap, 0, &why) > 0);
        CHECK(take_turns(life * 100 + 50));
        CHECK_EQ(opened_close(heap), 0);
        fixture_open_on_dax();
        CHECK_EQ(*word(0), life * 100 + 50);
    }
    fixture_close();
}

/* Numbers are given for good; who gets none writes where all do. */
static void there_may_be_no_lane_left(void)
{
    make_words();
    heap->log.numbers = LOG_LANES - 1;
    for (unsigned i = 1; i <= TURNS; i++)
        CHECK(take_turns(2 * i));
    CHECK_EQ(heap->log.numbers, LOG_LANES);
    fixture_reopen();
    CHECK_EQ(*word(0), 2 * TURNS);
    fixture_close();
}

static void fill_up_to(uint32_t extent, uint64_t left)
{
    struct log *log = &heap->log;

    log->may_give = false;
    while (log->extent != extent ||
           log_extent_bytes(&heap->pool.next_log, extent) - log->used > left)
        CHECK(take_turns(2));
    log->may_give = true;
}

/* A log that lies beyond what is mapped gives none: it is asked once in a session, and does not go
 * on in another extent for that. */
static void beyond_the_mapping_there_are_no_lanes(void)
{
    struct log *log;
    uint64_t mapped;

    make_words();
    log = &heap->log;
    fill_up_to(1, UINT64_MAX);
    CHECK(opened_checkpoint(heap, 0, &why) > 0); /* so the first extent is free */
    fill_up_to(1, LOG_LANE_FIRST_BYTES);
    mapped = log->persist.dax.mapped_bytes;
    log->persist.dax.mapped_bytes = 4096;
    CHECK(take_turns(2) && take_turns(4));
    CHECK(log->extent == 1 && log->cannot_give && log->numbers == 0);
    log->persist.dax.mapped_bytes = mapped;
    CHECK(take_turns(6) && take_turns(8));
    CHECK_EQ(log->numbers, 0);
    CHECK(opened_checkpoint(heap, 0, &why) > 0);
    CHECK(take_turns(10) && take_turns(12));
    CHECK(!log->cannot_give && log->numbers > 0);
    fixture_reopen();
    CHECK_EQ(*word(0), 12);
    fixture_close();
}

/* On ordinary files there are none, and the pool's format is the one before. */
static void files_have_no_lanes(void)
{
    fixture_create();
    CHECK(!heap->log.may_give);
    CHECK_EQ(heap->pool.super.format_version, POOL_FORMAT_LOG);
    fixture_close();
    fixture_open_on_dax();
    CHECK(!heap->log.may_give); /* until a superblock says so */
    CHECK(opened_checkpoint(heap, 0, &why) > 0);
    CHECK(heap->log.may_give);
    CHECK_EQ(heap->pool.super.format_version, POOL_FORMAT_LANES);
    fixture_close();
}

static int standing_clock(clockid_t clock, struct timespec *time)
{
    (void)clock;
    *time = (struct timespec){5, 5};
    return 0;
}

/* It would not say which of two records was first. */
static void a_clock_that_stands_gives_no_lanes(void)
{
    make_words();
    CHECK(log_clock_is_fine(&heap->log));
    heap->log.clock = standing_clock;
    CHECK(!log_clock_is_fine(&heap->log));
    heap->log.clock = NULL;
    CHECK(!log_clock_is_fine(&heap->log));
    fixture_close();
}

/* A lane, and the next one of its number, go on behind what they hold. */
static void a_clock_that_is_set_back_does_no_damage(void)
{
    make_words();
    for (unsigned i = 1; heap->log.numbers < 2; i++)
        CHECK(take_turns(2 * i));
    CHECK(take_turns(50));
    heap->log.clock = standing_clock;
    for (unsigned i = 1; i <= TURNS; i++) {
        struct pheap_tx *tx = NULL;

        CHECK_OK(tx_begin(heap, &tx));
        CHECK(put(tx, 1, i));
    }
    fixture_close();
    CHECK_OK(fixture_open_path(&heap, fixture_path, true));
    CHECK_EQ(*word(0), 50);
    CHECK_EQ(*word(1), TURNS);
    CHECK_EQ(opened_close(heap), 0);
}

/* --- threads --- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Its own word and, under the program's lock, everybody's. */
static bool count_one(unsigned thread)
{
    struct pheap_tx *tx = NULL;
    bool fine;

    pthread_mutex_lock(&lock);
    fine = tx_begin(heap, &tx) == 0 && tx_add(tx, word(0), 8) == 0 &&
           tx_add(tx, word(thread + 1), 8) == 0;
    if (fine) {
        ++*word(0);
        ++*word(thread + 1);
        fine = tx_commit(tx) == 0;
    }
    pthread_mutex_unlock(&lock);
    return fine;
}

static bool count_own(unsigned thread)
{
    struct pheap_tx *tx = NULL;

    return tx_begin(heap, &tx) == 0 && put(tx, thread + 1, *word(thread + 1) + 1);
}

static void *count_up(void *number)
{
    unsigned thread = (unsigned)(uintptr_t)number;
    bool fine = true;

    for (unsigned i = 0; i < ROUNDS; i++)
        fine = count_one(thread) && count_own(thread) && fine;
    return fine ? number : (void *)-1;
}

static void threads_with_lanes_commit_beside_cuts(void)
{
    pthread_t threads[THREADS];
    void *end;

    make_words();
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count_up, (void *)i);
    for (unsigned i = 0; i < CUTS; i++)
        CHECK(opened_checkpoint(heap, 60000000000, &why) > 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &end);
        CHECK(end == (void *)i);
    }
    fixture_reopen();
    CHECK_EQ(*word(0), THREADS * ROUNDS);
    for (unsigned i = 1; i <= THREADS; i++)
        CHECK_EQ(*word(i), 2 * ROUNDS);
    fixture_close();
}

/* --- a reader beside them --- */

static uint32_t windows; /* until something comes in between; 0: nothing does */

/* The reader has looked into the first lane, and not into the second. */
static void come_in_between(void)
{
    if (windows > 0 && --windows == 0)
        CHECK(take_turns(1000));
}

static uint64_t value_of(const struct log_record *record)
{
    return *(const uint64_t *)((const uint8_t *)(record + 1) + sizeof(struct log_entry));
}

/* The value of the record that a reader finds first. */
static uint64_t read_beside(enum tx_mutant mutant)
{
    const struct log_record *record = NULL;
    static struct pool pool; /* as a reader has it */
    struct arena arena;
    struct log log;
    uint64_t value = 0;

    make_words();
    for (unsigned i = 1; heap->log.numbers < 2; i++)
        CHECK(take_turns(2 * i));
    CHECK(take_turns(10) && take_turns(12)); /* both in their lanes */
    CHECK_OK(arena_create(&arena, 64 << 20));
    CHECK_OK(pool_open(&pool, fixture_path, POOL_READ, &why));
    log_begin(&log, &pool);
    while (log_next(&log, &arena, &record) == 1)
        ;
    tx_mutant = mutant;
    windows = 1;
    if (log_next(&log, &arena, &record) == 1)
        value = value_of(record);
    tx_mutant = TX_MUTANT_NONE;
    CHECK_EQ(windows, 0);
    pool_close(&pool);
    arena_destroy(&arena);
    fixture_close();
    return value;
}

static void flip(uint64_t offset)
{
    int fd = open(fixture_path, O_RDWR);
    uint8_t byte;

    CHECK_OK(sys_pread_all(fd, &byte, 1, offset));
    byte ^= 16;
    CHECK_OK(sys_pwrite_all(fd, &byte, 1, offset));
    close(fd);
}

/* What comes between the last look at a lane and the look for what is behind its end is no damage,
 * nor does it hide damage in another lane. */
static int look_beside(bool is_damaged)
{
    const struct log_record *record = NULL;
    uint64_t offset = 0, lane = 0;
    static struct pool pool;
    struct arena arena;
    struct log log;
    int status;

    make_words();
    for (unsigned i = 1; heap->log.numbers < 2; i++)
        CHECK(take_turns(2 * i));
    CHECK(take_turns(10) && take_turns(12));
    CHECK_OK(arena_create(&arena, 64 << 20));
    CHECK_OK(pool_open(&pool, fixture_path, POOL_READ, &why));
    log_begin(&log, &pool);
    while (log_next(&log, &arena, &record) == 1)
        if (record->magic == LOG_LANE_MAGIC && record->sequence == 1 && offset == 0) {
            offset = log_offset(&pool.super.log, log.last_extent, log.last_at);
            lane = record->session;
        }
    CHECK(lane != 0);
    if (is_damaged) {
        flip(offset + 70);
        log_begin(&log, &pool);
        while (log_next(&log, &arena, &record) == 1)
            CHECK(record->session != lane);
    }
    windows = 1;
    status = log_has_later(&log, &arena);
    CHECK_EQ(windows, 0);
    pool_close(&pool);
    arena_destroy(&arena);
    fixture_close();
    return status;
}

static void a_lane_that_goes_on_is_not_damaged(void)
{
    CHECK_EQ(look_beside(false), 0);
    CHECK_EQ(look_beside(true), 1);
}

static void a_reader_takes_no_record_without_those_before(void)
{
    CHECK_EQ(read_beside(TX_MUTANT_NONE), 999);
    CHECK_EQ(read_beside(TX_MUTANT_LANES_SEEN_ONCE), 1000); /* so this is a test */
}

/* --- damage --- */

struct place {
    uint64_t offset;
    bool is_last; /* of its lane, or of those outside: nothing later knows of it */
};

static unsigned list_records(struct place *places, unsigned room)
{
    const struct log_record *record;
    struct arena arena;
    struct log log;
    unsigned count = 0, last[1 + LOG_LANES] = {0}, gives[1 + LOG_LANES] = {0};
    uint64_t sessions[LOG_LANES] = {0};

    CHECK_OK(arena_create(&arena, 64 << 20));
    log_begin(&log, &heap->pool);
    for (; count < room && log_next(&log, &arena, &record) == 1; count++) {
        const struct log_lane_terms *terms = log_terms_of(record);
        unsigned lane = 0; /* one more than its number; 0: outside */

        while (record->magic == LOG_LANE_MAGIC && sessions[lane++] != record->session)
            ;
        places[count].offset = log_offset(&heap->pool.super.log, log.last_extent, log.last_at);
        places[count].is_last = true;
        places[last[lane]].is_last = false;
        places[gives[lane]].is_last = false;
        last[lane] = count;
        if (terms) {
            sessions[terms->number] = terms->session;
            places[last[terms->number + 1]].is_last = false; /* it is told how many there were */
            last[terms->number + 1] = gives[terms->number + 1] = count;
            places[count].is_last = true;
        }
    }
    arena_destroy(&arena);
    return count;
}

/* The last record of a lane may be what a power cut has torn. */
static void damage_in_a_lane_is_found(void)
{
    struct place places[100];
    unsigned count, damaged = 0;

    make_words();
    for (unsigned i = 1; i <= 12; i++)
        CHECK(take_turns(2 * i));
    count = list_records(places, 100);
    CHECK(count > 24 && count < 100);
    fixture_close();
    for (unsigned i = 0; i < count; i++) {
        flip(places[i].offset + 70);
        CHECK_EQ(fixture_open_path(&heap, fixture_path, true),
                 places[i].is_last ? 0 : STATUS_DAMAGED);
        if (places[i].is_last)
            CHECK_EQ(opened_close(heap), 0);
        damaged += !places[i].is_last;
        flip(places[i].offset + 70);
    }
    CHECK(damaged > 15);
    CHECK_OK(fixture_open_path(&heap, fixture_path, true));
    CHECK_EQ(*word(0), 24);
    CHECK_EQ(opened_close(heap), 0);
}

/* What a lane's owner has written outside it since it got it is known to its records. */
static void damage_beside_a_lane_is_found(void)
{
    struct pheap_tx *tx = NULL;
    uint64_t offset, sequence;

    make_words();
    for (unsigned i = 1; heap->log.numbers < 2; i++)
        CHECK(take_turns(2 * i));
    CHECK(take_turns(100));
    offset = log_offset(&heap->pool.next_log, heap->log.extent, heap->log.used);
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_add(tx, word(1), LONG_BYTES));
    CHECK_OK(tx_commit(tx));
    sequence = heap->log.sequence;
    tx = NULL;
    CHECK_OK(tx_begin(heap, &tx));
    CHECK(put(tx, 0, 200));
    CHECK_EQ(heap->log.sequence, sequence);
    fixture_close();
    flip(offset + 70);
    CHECK_EQ(fixture_open_path(&heap, fixture_path, true), STATUS_DAMAGED);
    flip(offset + 70);
    CHECK_OK(fixture_open_path(&heap, fixture_path, true));
    CHECK_EQ(*word(0), 200);
    CHECK_EQ(opened_close(heap), 0);
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(what_two_lanes_hold_stands_in_its_order);
    RUN(later_sessions_lie_behind_all_lanes);
    RUN(there_may_be_no_lane_left);
    RUN(beyond_the_mapping_there_are_no_lanes);
    RUN(files_have_no_lanes);
    RUN(a_clock_that_stands_gives_no_lanes);
    RUN(a_clock_that_is_set_back_does_no_damage);
    RUN(threads_with_lanes_commit_beside_cuts);
    RUN(a_reader_takes_no_record_without_those_before);
    RUN(a_lane_that_goes_on_is_not_damaged);
    RUN(damage_in_a_lane_is_found);
    RUN(damage_beside_a_lane_is_found);
    fixture_end();
    return tap_done();
}
