/*
 * tx_serial.c - optimistic transactions have a serial order, and so has what those see that fail.
 *
 * Threads run random programs on a few variables and record all that they read and write; in the
 * end t/lib/serial_history.h looks for a circle. Some variables are words, which share stripes and
 * cache lines; some are objects, which a writer replaces: a new block with the value stored to it,
 * the old one freed and soon used for another variable. Some threads run direct transactions, under
 * a lock of their own. The order in which values were committed is that of the log.
 *
 * The sources that have mutants (core/tx/mutant.h) and windows, in which a thread lets others go
 * first now and then, are compiled into this program. Each mutant must be caught.
 */
#include "t/lib/tx_mutants.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

static void come_in_between(void);
#undef TX_WINDOW
#define TX_WINDOW() come_in_between()
#include "core/tx/ending.c"
#include "core/tx/optimistic.c"
#include "core/tx/optimistic_commit.c"
#include "core/tx/stripes.c"

#include "t/lib/serial_history.h"
#include "t/lib/test_random.h"
#include "t/lib/tx_dax.h"

#define WORDS_MAX     12
#define OBJECTS       4
#define STEPS_MAX     7
#define WINDOW_ONE_IN 6
#define MUTANT_ROUNDS 60

/* In the heap, under the root "table". A word is there twice: a torn copy shows. */
struct pair {
    uint64_t value, again;
};

struct table {
    struct pair words[WORDS_MAX]; /* four in a stripe */
    struct pair *objects[OBJECTS];
};

struct round {
    uint32_t threads, direct_threads, attempts, words, objects;
    uint64_t seed;
    bool on_dax; /* where threads have lanes of the log */
};

struct worker {
    uint32_t number;
    bool is_direct;
    uint64_t own[HISTORY_VARIABLES]; /* what this attempt has written; 0: nothing */
    uint32_t attempt;
};

static struct history history;
static struct round now;
static struct table *table;
static pthread_mutex_t direct_lock = PTHREAD_MUTEX_INITIALIZER;
static __thread uint64_t random_state;
static uint32_t torn, forgotten;

static uint32_t any(uint32_t below)
{
    return (uint32_t)(test_random(&random_state) >> 33) % below;
}

static void come_in_between(void)
{
    if (random_state && any(WINDOW_ONE_IN) == 0)
        sched_yield();
}

/* --- variables --- */

static uint32_t variables(void)
{
    return now.words + now.objects;
}

static bool is_object(uint32_t variable)
{
    return variable >= now.words;
}

static struct pair **object_place(uint32_t variable)
{
    return &table->objects[variable - now.words];
}

static int read_variable(struct pheap_tx *tx, uint32_t variable, struct pair *pair)
{
    struct pair *from = &table->words[variable];
    int status = 0;

    if (is_object(variable))
        status = tx_read(tx, &from, object_place(variable), sizeof from);
    return status < 0 ? status : tx_read(tx, pair, from, sizeof *pair);
}

/* A new block is stored to with plain stores; nobody else knows of it. */
static int replace_object(struct pheap_tx *tx, uint32_t variable, const struct pair *pair)
{
    struct pair **place = object_place(variable), *old;
    void *block = NULL;
    int status = tx_read(tx, &old, place, sizeof old);

    if (status == 0)
        status = tx_alloc(tx, sizeof *pair, 2, &block);
    if (status < 0)
        return status;
    come_in_between();
    memcpy(block, pair, sizeof *pair);
    status = tx_write(tx, place, &block, sizeof block);
    return status < 0 ? status : tx_free(tx, old);
}

static int write_variable(struct pheap_tx *tx, uint32_t variable, uint64_t value)
{
    struct pair pair = {value, value};

    return is_object(variable) ? replace_object(tx, variable, &pair)
                               : tx_write(tx, &table->words[variable], &pair, sizeof pair);
}

/* --- attempts --- */

static int read_step(struct worker *worker, struct pheap_tx *tx, uint32_t variable)
{
    struct pair pair;
    int status = read_variable(tx, variable, &pair);

    if (status < 0)
        return status;
    if (pair.value != pair.again)
        __atomic_add_fetch(&torn, 1, __ATOMIC_RELAXED);
    if (worker->own[variable] == 0)
        history_read(&history, worker->number, variable, pair.value);
    else if (worker->own[variable] != pair.value)
        __atomic_add_fetch(&forgotten, 1, __ATOMIC_RELAXED);
    return 0;
}

static int write_step(struct worker *worker, struct pheap_tx *tx, uint32_t variable)
{
    uint64_t value = history_value(worker->number, worker->attempt, variable);
    int status = write_variable(tx, variable, value);

    if (status == 0)
        worker->own[variable] = value;
    return status;
}

/* Half of them are taken back. */
static int nested_step(struct worker *worker, struct pheap_tx *tx)
{
    uint64_t before[HISTORY_VARIABLES];
    bool keep = any(2);
    int status = tx_begin(heap, &tx);

    memcpy(before, worker->own, sizeof before);
    for (uint32_t i = 0; status == 0 && i < 2; i++)
        status = write_step(worker, tx, any(variables()));
    if (status == 0 && keep)
        return tx_commit(tx);
    tx_abort(tx);
    if (status < 0)
        return status;
    memcpy(worker->own, before, sizeof before);
    return 0;
}

/* A direct one takes all that it will touch before it looks at it: tx_read() holds. */
static int run_steps(struct worker *worker, struct pheap_tx *tx)
{
    uint32_t steps = 1 + any(STEPS_MAX), writes_one_in = 1 + any(4);
    int status = 0;

    for (uint32_t i = 0; status == 0 && i < steps; i++) {
        come_in_between();
        if (any(12) == 0 && !worker->is_direct)
            status = nested_step(worker, tx);
        else if (any(writes_one_in) == 0)
            status = write_step(worker, tx, any(variables()));
        else
            status = read_step(worker, tx, any(variables()));
    }
    return status;
}

static bool begin_attempt(struct worker *worker)
{
    worker->attempt = history_attempt_begins(&history, worker->number);
    memset(worker->own, 0, sizeof worker->own);
    return worker->attempt > 0;
}

static void end_attempt(struct worker *worker, bool committed)
{
    for (uint32_t i = 0; committed && i < variables(); i++)
        if (worker->own[i])
            history_write(&history, worker->number, i, worker->own[i]);
    history_attempt_ends(&history, worker->number, committed);
}

static void one_transaction(struct worker *worker)
{
    struct pheap_tx *tx = NULL;
    int status;

    if (!begin_attempt(worker))
        return;
    status = worker->is_direct ? tx_begin(heap, &tx) : tx_begin_optimistic(heap, &tx);
    while (status == 0) {
        status = run_steps(worker, tx);
        if (status == 0 && any(10) == 0) {
            tx_abort(tx);
            status = -ECANCELED;
            break;
        }
        if (status == 0)
            status = tx_commit(tx);
        if (status != STATUS_CONFLICT)
            break;
        end_attempt(worker, false);
        if (!begin_attempt(worker)) {
            tx_abort(tx);
            return;
        }
        status = tx_retry(tx);
    }
    if (status < 0 && status != -ECANCELED)
        tap_check(false, __FILE__, __LINE__, "a transaction: %d", status);
    end_attempt(worker, status == 0);
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;

    random_state = (now.seed + worker->number * 7919) * 0x9e3779b97f4a7c15ull | 1;
    while (history.threads[worker->number].attempt_count < now.attempts) {
        if (worker->is_direct)
            pthread_mutex_lock(&direct_lock);
        one_transaction(worker);
        if (worker->is_direct)
            pthread_mutex_unlock(&direct_lock);
    }
    return NULL;
}

/* --- the checker itself --- */

struct told {
    uint32_t thread, variable;
    uint32_t writer_thread, writer; /* of the value that is read; 0, 0: the first one */
    bool is_write;
};

static void tell(const struct told *steps, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (steps[i].is_write)
            history_write(&history, steps[i].thread, steps[i].variable,
                          history_value(steps[i].thread, 1, steps[i].variable));
        else
            history_read(&history, steps[i].thread, steps[i].variable,
                         history_value(steps[i].writer_thread, steps[i].writer, steps[i].variable));
}

/* Two attempts at once, each the first of its thread. Values of thread 0 come first. */
static bool two_at_once(const struct told *steps, unsigned count, bool first, bool second)
{
    bool serial;

    history_create(&history, 4);
    (void)history_attempt_begins(&history, 0);
    (void)history_attempt_begins(&history, 1);
    tell(steps, count);
    history_attempt_ends(&history, 0, first);
    history_attempt_ends(&history, 1, second);
    for (uint32_t thread = 0; thread < 2; thread++)
        for (unsigned i = 0; i < count; i++)
            if (steps[i].is_write && steps[i].thread == thread && (thread ? second : first))
                history_follows(&history, history_value(thread, 1, steps[i].variable));
    serial = history_is_serial(&history);
    history_destroy(&history);
    return serial;
}

#define TWO(first, second, ...)                                                                    \
    two_at_once((const struct told[]){__VA_ARGS__},                                                \
                sizeof((const struct told[]){__VA_ARGS__}) / sizeof(struct told), first, second)
#define READ_FIRST(thread, variable)                                                               \
    {                                                                                              \
        thread, variable, 0, 0, false                                                              \
    }
#define READ_FROM(thread, variable, from)                                                          \
    {                                                                                              \
        thread, variable, from, 1, false                                                           \
    }
#define WRITE(thread, variable)                                                                    \
    {                                                                                              \
        thread, variable, 0, 0, true                                                               \
    }

static void the_checker_tells_what_is_serial(void)
{
    CHECK(TWO(true, true, READ_FIRST(0, 1), WRITE(0, 1), READ_FROM(1, 1, 0), WRITE(1, 1)));
    CHECK(TWO(true, true, READ_FIRST(1, 1), WRITE(0, 1), READ_FIRST(1, 2), WRITE(0, 2)));
    CHECK(TWO(true, false, READ_FIRST(0, 1), WRITE(0, 1), READ_FIRST(1, 1)));
    /* an update is lost */
    CHECK(!TWO(true, true, READ_FIRST(0, 1), READ_FIRST(1, 1), WRITE(0, 1), WRITE(1, 1)));
    /* each writes what the other has read */
    CHECK(!TWO(true, true, READ_FIRST(0, 1), READ_FIRST(1, 2), WRITE(0, 2), WRITE(1, 1)));
    /* half of the other one is seen, by one that commits and by one that does not */
    CHECK(!TWO(true, true, WRITE(0, 1), WRITE(0, 2), READ_FIRST(1, 1), READ_FROM(1, 2, 0)));
    CHECK(!TWO(true, false, WRITE(0, 1), WRITE(0, 2), READ_FIRST(1, 1), READ_FROM(1, 2, 0)));
    /* a value changes while it is looked at */
    CHECK(!TWO(true, false, READ_FIRST(1, 1), WRITE(0, 1), READ_FROM(1, 1, 0)));
    /* nobody has committed it */
    CHECK(!TWO(false, true, WRITE(0, 1), READ_FROM(1, 1, 0)));
}

/* What was over before the other one began. */
static void the_checker_knows_the_time(void)
{
    history_create(&history, 4);
    (void)history_attempt_begins(&history, 0);
    history_write(&history, 0, 1, history_value(0, 1, 1));
    history_attempt_ends(&history, 0, true);
    (void)history_attempt_begins(&history, 1);
    history_read(&history, 1, 1, history_value(0, 0, 1));
    history_attempt_ends(&history, 1, true);
    history_follows(&history, history_value(0, 1, 1));
    CHECK(!history_is_serial(&history));
    history_destroy(&history);
}

/* --- a round --- */

static void make_table(void)
{
    struct pheap_tx *tx = NULL;
    struct pair pair;
    void *block;

    if (now.on_dax)
        fixture_create_on_dax();
    else
        fixture_create();
    heap->log.long_at = UINT64_MAX;
    CHECK_OK(tx_begin(heap, &tx));
    CHECK_OK(tx_alloc(tx, sizeof *table, 1, &block));
    CHECK_OK(root_set(tx, "table", block, 1));
    table = block;
    for (uint32_t i = 0; i < variables(); i++) {
        pair.value = pair.again = history_value(0, 0, i);
        if (is_object(i)) {
            CHECK_OK(tx_alloc(tx, sizeof pair, 2, &block));
            memcpy(block, &pair, sizeof pair);
            *object_place(i) = block;
        } else {
            table->words[i] = pair;
        }
    }
    CHECK_OK(tx_commit(tx));
}

static void take_entry(const struct log_entry *entry)
{
    const uint64_t *words = (const uint64_t *)(entry + 1);

    for (uint64_t i = 0; i < entry->bytes / 8; i++)
        if (history_is_value(words[i]) && words[i] != history_value(0, 0, words[i] & 0xff))
            history_follows(&history, words[i]);
}

static void read_order(void)
{
    const struct log_record *record;
    struct arena arena;
    struct log log;

    CHECK_OK(arena_create(&arena, 64 << 20));
    log_begin(&log, &heap->pool);
    while (log_next(&log, &arena, &record) == 1) {
        const uint8_t *at = (const uint8_t *)(record + 1);

        for (uint64_t i = 0; i < record->entry_count; i++) {
            const struct log_entry *entry = (const struct log_entry *)at;

            at += sizeof *entry;
            if (entry->kind == LOG_WRITE) {
                take_entry(entry);
                at += (entry->bytes + 7) & ~7ull;
            }
        }
        arena_rewind(&arena, arena.base);
    }
    CHECK_EQ(log.sequence, heap->log.sequence);
    arena_destroy(&arena);
}

/* What opening again shows is the end of that order. */
static bool memory_is_last(void)
{
    for (uint32_t i = 0; i < variables(); i++) {
        const struct pair *pair = is_object(i) ? *object_place(i) : &table->words[i];
        uint32_t count = history.order_count[i];
        uint64_t last = count ? history.order[i][count - 1] : history_value(0, 0, i);

        if (pair->value != last || pair->again != last)
            return false;
    }
    return true;
}

static const char *fault_of(bool serial)
{
    if (torn)
        return "a torn copy";
    if (forgotten)
        return "what it wrote itself was not there";
    return serial ? NULL : history.text;
}

/* NULL: it has a serial order. */
static const char *play(const struct round *round)
{
    struct worker workers[HISTORY_THREADS] = {0};
    pthread_t threads[HISTORY_THREADS];
    bool serial;

    now = *round;
    torn = forgotten = 0;
    history_create(&history, now.attempts);
    make_table();
    for (uint32_t i = 0; i < now.threads; i++) {
        workers[i].number = i;
        workers[i].is_direct = i < now.direct_threads;
        CHECK_EQ(pthread_create(&threads[i], NULL, run_worker, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < now.threads; i++)
        pthread_join(threads[i], NULL);
    read_order();
    serial = history_is_serial(&history);
    return fault_of(serial);
}

static void end_round(void)
{
    history_destroy(&history);
    CHECK_EQ(opened_close(heap), 0);
}

static void must_be_serial(const struct round *round)
{
    uint32_t committed = 0, attempts = 0, lanes;
    const char *fault = play(round);

    CHECK_STR(fault ? fault : "", "");
    for (uint32_t t = 0; t < now.threads; t++)
        for (uint32_t i = 0; i < history.threads[t].attempt_count; i++) {
            committed += history.threads[t].attempts[i].committed;
            attempts++;
        }
    CHECK(memory_is_last());
    CHECK(opened_is_valid(heap));
    lanes = heap->log.numbers;
    fixture_reopen();
    CHECK(memory_is_last());
    tap_note("%u threads, %u of them direct, %u words, %u objects, seed %lu: %u attempts, %u "
             "committed, %u lanes, %lu edges",
             now.threads, now.direct_threads, now.words, now.objects, now.seed, attempts, committed,
             lanes, history.edges);
    end_round();
}

static uint32_t scale(uint32_t attempts)
{
    return getenv("PHEAP_TEST_LONG") ? attempts * 10 : attempts;
}

static void threads_have_a_serial_order(void)
{
    for (uint32_t threads = 2; threads <= 8; threads++)
        must_be_serial(&(struct round){.threads = threads,
                                       .attempts = scale(4000 / threads),
                                       .words = 2 + threads % 4 * 3,
                                       .objects = threads % 3,
                                       .seed = 20261126 + threads});
}

static void so_they_have_with_objects_alone(void)
{
    must_be_serial(
        &(struct round){.threads = 4, .attempts = scale(1000), .objects = 4, .seed = 31});
}

static void so_they_have_beside_direct_ones(void)
{
    must_be_serial(&(struct round){.threads = 4,
                                   .direct_threads = 2,
                                   .attempts = scale(1000),
                                   .words = 5,
                                   .objects = 2,
                                   .seed = 41});
}

/* What the log says of their order is put together from several lanes. */
static void so_they_have_in_lanes(void)
{
    for (uint32_t threads = 2; threads <= 8; threads += 3)
        must_be_serial(&(struct round){.threads = threads,
                                       .direct_threads = threads / 3,
                                       .attempts = scale(4000 / threads),
                                       .words = 7,
                                       .objects = 2,
                                       .seed = 51 + threads,
                                       .on_dax = true});
}

static const char *const mutant_names[TX_MUTANT_END] = {
    [TX_MUTANT_COMMIT_NOT_VALIDATED] = "reads not validated at the commit",
    [TX_MUTANT_READ_NOT_VALIDATED] = "reads not validated when they are made",
    [TX_MUTANT_READ_NOT_CHECKED] = "copies not checked",
    [TX_MUTANT_NOT_LOCKED] = "stripes not locked",
    [TX_MUTANT_VERSION_NOT_RAISED] = "versions not raised",
    [TX_MUTANT_CLOCK_NOT_RAISED] = "a newer version does not raise the clock",
    [TX_MUTANT_DIRECT_NOT_HELD] = "direct transactions hold nothing",
    [TX_MUTANT_FREE_NOT_LOCKED] = "freed blocks keep their versions",
};

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED true /* which catches them too */
#else
#define IS_SANITIZED false
#endif

static void every_mutant_is_caught(void)
{
    for (enum tx_mutant mutant = TX_MUTANT_NONE + 1; mutant < TX_MUTANT_END; mutant++) {
        const char *fault = NULL;
        unsigned i = 0;

        for (; mutant_names[mutant] && !fault && i < MUTANT_ROUNDS; i++) {
            struct round round = {.threads = 4, .attempts = 300, .words = 3, .seed = 100 + i};

            round.direct_threads = mutant == TX_MUTANT_DIRECT_NOT_HELD ? 2 : 0;
            if (mutant == TX_MUTANT_FREE_NOT_LOCKED) {
                round.words = 0;
                round.objects = 4;
            }
            tx_mutant = mutant;
            fault = play(&round);
            tx_mutant = TX_MUTANT_NONE;
            if (fault)
                tap_note("mutant '%s', round %u: %s", mutant_names[mutant], i + 1, fault);
            end_round();
        }
        if (mutant_names[mutant] && !CHECK(fault != NULL))
            tap_note("mutant '%s' was not caught", mutant_names[mutant]);
    }
}

int main(int argc, char **argv)
{
    fixture_begin();
    tap_arguments(argc, argv);
    RUN(the_checker_tells_what_is_serial);
    RUN(the_checker_knows_the_time);
    RUN(threads_have_a_serial_order);
    RUN(so_they_have_with_objects_alone);
    RUN(so_they_have_beside_direct_ones);
    RUN(so_they_have_in_lanes);
    if (!IS_SANITIZED)
        RUN(every_mutant_is_caught);
    fixture_end();
    return tap_done();
}
