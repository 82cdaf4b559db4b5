/*
 * pheap.c - transactions of an opened heap, and raw pwrite + fdatasync beside them (measure.h).
 *
 * "recovery" opens a heap with 2,000,000 objects of 64 bytes, as one that was never closed: half of
 * them in the generation, the last 10,000 in the log alone. Its figure is the time of one opening.
 *
 * "handover" is what it takes until a word that one thread stores is seen by another, the least of
 * some attempts: with it two threads' figures can be read. On some machines, virtual ones above
 * all, it changes from second to second with the places of the processors that the threads run on.
 */
#define PHEAP_LINKED
#include "core/pheap.h"

#include <fcntl.h>
#include "bench/transactions/measure.h"

#define RECORD_BYTES 128 /* of the log, for a transaction of one 8-byte update */
#define LOG_BYTES    (1u << 20)
#define MANY         2000000u
#define MANY_IN_ONE  10000u

static struct pheap *heap;
static uint64_t *words[THREADS_MAX];
static void **objects[THREADS_MAX];
static int raw_fd;
static uint64_t raw_at;
static char heap_path[DIRECTORY_MAX + 32], raw_path[DIRECTORY_MAX + 32];

static void need(int64_t status, const char *what)
{
    if (status < 0)
        fail(what, pheap_error_text(status));
}

static struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    need(pheap_tx_begin(heap, &tx), "begin");
    return tx;
}

static void raw(unsigned thread, uint64_t i)
{
    char record[RECORD_BYTES];

    (void)thread;
    memset(record, (int)i, sizeof record);
    if (pwrite(raw_fd, record, sizeof record, (off_t)raw_at) != RECORD_BYTES || fdatasync(raw_fd))
        fail(raw_path, "pwrite");
    raw_at = (raw_at + RECORD_BYTES) % LOG_BYTES;
}

static void empty(unsigned thread, uint64_t i)
{
    (void)thread, (void)i;
    need(pheap_tx_commit(begin()), "commit");
}

static void put(struct pheap_tx *tx, unsigned thread, uint64_t i)
{
    uint64_t *word = &words[thread][i * 61 % OBJECTS];

    need(pheap_tx_add(tx, word, 8), "add");
    *word = i;
}

static void update(unsigned thread, uint64_t i)
{
    struct pheap_tx *tx = begin();

    put(tx, thread, i);
    need(pheap_tx_commit(tx), "commit");
}

static void update_soon(unsigned thread, uint64_t i)
{
    struct pheap_tx *tx = begin();

    put(tx, thread, i);
    need(pheap_tx_commit_soon(tx, NULL), "commit");
}

static void replace_in(struct pheap_tx *tx, unsigned thread, uint64_t i)
{
    void **place = &objects[thread][i * 61 % OBJECTS];

    need(pheap_tx_add(tx, place, sizeof *place), "add");
    if (*place)
        need(pheap_tx_free(tx, *place), "free");
    need(pheap_tx_alloc(tx, OBJECT_BYTES, 1, place), "alloc");
}

static void replace(unsigned thread, uint64_t i)
{
    struct pheap_tx *tx = begin();

    replace_in(tx, thread, i);
    need(pheap_tx_commit(tx), "commit");
}

static void sixteen(unsigned thread, uint64_t i)
{
    struct pheap_tx *tx = begin();

    for (unsigned k = 0; k < 16; k++)
        replace_in(tx, thread, i * 16 + k);
    need(pheap_tx_commit(tx), "commit");
}

/* --- optimistic: in a heap for transactions of both kinds --- */

static struct pheap *shared;
static uint64_t *shared_words[THREADS_MAX];
static char shared_path[DIRECTORY_MAX + 32];

static void open_shared(void)
{
    const struct pheap_options options = {.slot = 6}; /* another one than the other heap's */
    struct pheap_tx *tx = NULL;
    void *array;

    need(pheap_create(shared_path, &options, &shared), shared_path);
    need(pheap_tx_begin(shared, &tx), "begin");
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        need(pheap_tx_alloc(tx, OBJECTS * sizeof(uint64_t), 2, &array), "alloc");
        shared_words[t] = array;
    }
    need(pheap_tx_commit(tx), "commit");
}

static uint64_t get(struct pheap_tx *tx, unsigned thread, uint64_t i)
{
    uint64_t value;

    need(pheap_tx_read(tx, &value, &shared_words[thread][i * 61 % OBJECTS], sizeof value), "read");
    return value;
}

static void add_one(unsigned thread, uint64_t i)
{
    struct pheap_tx *tx = NULL;
    uint64_t value;

    need(pheap_tx_begin_optimistic(shared, &tx), "begin");
    value = get(tx, thread, i) + 1;
    need(pheap_tx_write(tx, &shared_words[thread][i * 61 % OBJECTS], &value, sizeof value),
         "write");
    need(pheap_tx_commit(tx), "commit"); /* nobody else is there */
}

static void look(unsigned thread, uint64_t i)
{
    struct pheap_tx *tx = NULL;

    need(pheap_tx_begin_optimistic(shared, &tx), "begin");
    for (unsigned k = 0; k < 16; k++)
        (void)get(tx, thread, i + k);
    need(pheap_tx_commit(tx), "commit");
}

/* --- from one thread to another --- */

#define HANDOVERS 200u
#define ATTEMPTS  50u

static _Alignas(128) uint64_t turn;

static void take_turns(unsigned thread)
{
    for (unsigned i = 0; i < HANDOVERS; i++) {
        uint64_t seen;

        while (((seen = __atomic_load_n(&turn, __ATOMIC_ACQUIRE)) & 1) != thread)
            ;
        __atomic_store_n(&turn, seen + 1, __ATOMIC_RELEASE);
    }
}

static void *take_other_turns(void *unused)
{
    for (unsigned i = 0; i < ATTEMPTS; i++)
        take_turns(1);
    return unused;
}

static void handover(void)
{
    double best = 1, start, took;
    pthread_t other;

    pthread_create(&other, NULL, take_other_turns, NULL);
    for (unsigned i = 0; i < ATTEMPTS; i++) {
        start = now();
        take_turns(0);
        took = now() - start;
        if (took < best)
            best = took;
    }
    pthread_join(other, NULL);
    printf("handover %.1f\n", best * 1e9 / (2 * HANDOVERS));
    fflush(stdout);
}

/* --- recovery --- */

static void make_objects(uint32_t count)
{
    struct pheap_tx *tx = begin();
    void *object;

    for (uint32_t i = 0; i < count; i++)
        need(pheap_tx_alloc(tx, OBJECT_BYTES, 3, &object), "alloc");
    need(pheap_tx_commit(tx), "commit");
}

static void recovery(void)
{
    double start;

    for (uint32_t made = 0; made + MANY_IN_ONE < MANY; made += MANY_IN_ONE)
        make_objects(MANY_IN_ONE);
    need(pheap_heap_checkpoint(heap), "checkpoint");
    make_objects(MANY_IN_ONE);
    need(pheap_close(heap), "close");
    start = now();
    need(pheap_open(heap_path, 0, NULL, &heap), heap_path);
    printf("recovery %.0f\n", (now() - start) * 1e9);
}

/* --- */

static void open_raw(void)
{
    char *zeroes = calloc(1, LOG_BYTES);

    raw_fd = open(raw_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (raw_fd < 0 || !zeroes || write(raw_fd, zeroes, LOG_BYTES) != LOG_BYTES || fsync(raw_fd))
        fail(raw_path, "cannot be made");
    free(zeroes);
}

static void open_heap(void)
{
    const struct pheap_options options = {.slot = 5};
    struct pheap_tx *tx;
    void *array;

    need(pheap_open(heap_path, PHEAP_CREATE | PHEAP_DIRECT_ONLY, &options, &heap), heap_path);
    tx = begin();
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        need(pheap_tx_alloc(tx, OBJECTS * sizeof(uint64_t), 2, &array), "alloc");
        words[t] = array;
        need(pheap_tx_alloc(tx, OBJECTS * sizeof(void *), 2, &array), "alloc");
        objects[t] = array;
    }
    need(pheap_tx_commit(tx), "commit");
}

int main(int argc, char **argv)
{
    static const struct measurement all[] = {
        {"raw", raw, 1, 1},           {"update", update, 1, 1},    {"update-2", update, 1, 2},
        {"update-16", update, 1, 16}, {"soon", update_soon, 1, 1}, {"replace", replace, 1, 1},
        {"replace-2", replace, 1, 2}, {"sixteen", sixteen, 16, 1}, {"empty", empty, 1, 1},
        {"empty-2", empty, 1, 2},     {"add", add_one, 1, 1},      {"add-2", add_one, 1, 2},
        {"look", look, 1, 1},         {"look-2", look, 1, 2},
    };

    if (argc < 3 || strlen(argv[1]) > DIRECTORY_MAX)
        return 2;
    snprintf(heap_path, sizeof heap_path, "%s/bench-tx.pool", argv[1]);
    snprintf(raw_path, sizeof raw_path, "%s/bench-tx.raw", argv[1]);
    snprintf(shared_path, sizeof shared_path, "%s/bench-tx-shared.pool", argv[1]);
    unlink(heap_path);
    unlink(shared_path);
    open_raw();
    open_heap();
    open_shared();
    for (int i = 3; i < argc; i++)
        if (strcmp(argv[i], "handover") == 0)
            handover();
        else if (strcmp(argv[i], "recovery") == 0)
            recovery();
        else
            measure_one(all, sizeof all / sizeof all[0], argv[i], argv[2]);
    need(pheap_close(heap), "close");
    need(pheap_close(shared), "close");
    unlink(heap_path);
    unlink(shared_path);
    unlink(raw_path);
    return 0;
}
