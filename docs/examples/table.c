/*
 * table.c - a table in memory that is durable: rows with two indexes, a cursor, any number of
 * threads. Optimistic transactions, the whole of it in one file.
 *
 *     table FILE add ID NAME AMOUNT
 *     table FILE set ID NAME AMOUNT         change a row, its name too
 *     table FILE remove ID
 *     table FILE get ID
 *     table FILE by-id [FROM [COUNT]]       rows in the order of their ids
 *     table FILE by-name [FROM [COUNT]]     and of their names
 *     table FILE check                      do both indexes hold the same rows, in order?
 *     table FILE run THREADS SECONDS        threads that add, change, move amounts and remove
 *
 * Build it with `cc table.c $(pkg-config --cflags --libs pheap) -lpthread`.
 *
 * An index is a skip list (Pugh 1990). No thread locks anything: a transaction that has read what
 * another has changed meanwhile runs again. Rows and links are read through the transaction, with
 * PHEAP_GET, for another thread may just be freeing them.
 */
#include <errno.h>
#include <inttypes.h>
#include <pheap.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEIGHT_MAX 20
#define NAME_BYTES 40

enum { TYPE_TABLE = 1, TYPE_ROW, TYPE_LINK };

struct row {
    uint64_t id;
    int64_t amount;
    char name[NAME_BYTES]; /* NUL-terminated */
};

struct link { /* of one index to one row */
    struct row *row;
    uint64_t height;
    struct link *next[]; /* [height] */
};

enum order { BY_ID, BY_NAME, ORDERS };

/* Invariant: both indexes have a link to each row, and to nothing else, in strictly ascending order
 * of (id) and of (name, id). */
struct table {
    struct link *heads[ORDERS]; /* of HEIGHT_MAX, without a row */
};

struct key {
    uint64_t id;
    char name[NAME_BYTES];
};

static struct pheap *heap;
static struct table *table;

static int fail(const char *what, int error)
{
    fprintf(stderr, "table: %s: %s\n", what,
            error == -ENOENT ? "there is no row with this id" : pheap_error_text(error));
    return 1;
}

/* --- indexes, within a transaction --- */

static struct key key_of(struct pheap_tx *tx, const struct row *row)
{
    struct key key;

    key.id = PHEAP_GET(tx, &row->id);
    PHEAP_TRY(tx, pheap_tx_read(tx, key.name, row->name, sizeof key.name));
    return key;
}

static int compare(enum order order, const struct key *a, const struct key *b)
{
    int names = order == BY_NAME ? strcmp(a->name, b->name) : 0;

    return names ? names : (a->id > b->id) - (a->id < b->id);
}

/* The last link on each level whose row is before the key. */
static void find_before(struct pheap_tx *tx, enum order order, const struct key *key,
                        struct link *before[HEIGHT_MAX])
{
    struct link *at = PHEAP_GET(tx, &table->heads[order]), *next;

    for (int level = HEIGHT_MAX - 1; level >= 0; level--) {
        while ((next = PHEAP_GET(tx, &at->next[level]))) {
            struct key there = key_of(tx, PHEAP_GET(tx, &next->row));

            if (compare(order, &there, key) >= 0)
                break;
            at = next;
        }
        before[level] = at;
    }
}

/* The first row that is not before the key, or NULL. */
static struct row *first_from(struct pheap_tx *tx, enum order order, const struct key *key)
{
    struct link *before[HEIGHT_MAX], *next;

    find_before(tx, order, key, before);
    next = PHEAP_GET(tx, &before[0]->next[0]);
    return next ? PHEAP_GET(tx, &next->row) : NULL;
}

static uint64_t random_height(void)
{
    static _Thread_local uint64_t state;
    uint64_t height = 1;

    if (state == 0)
        state = (uint64_t)(uintptr_t)&state ^ (uint64_t)time(NULL) << 32;
    state = state * 6364136223846793005u + 1442695040888963407u;
    for (uint64_t bits = state >> 32; (bits & 3) == 0 && height < HEIGHT_MAX; bits >>= 2)
        height++;
    return height;
}

static void index_add(struct pheap_tx *tx, enum order order, struct row *row, const struct key *key)
{
    struct link *before[HEIGHT_MAX], *made;
    uint64_t height = random_height();

    find_before(tx, order, key, before);
    PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof *made + height * sizeof *made->next, TYPE_LINK,
                                 (void **)&made));
    made->row = row; /* nobody else knows a new object: plain stores */
    made->height = height;
    for (uint64_t level = 0; level < height; level++) {
        made->next[level] = PHEAP_GET(tx, &before[level]->next[level]);
        PHEAP_SET(tx, &before[level]->next[level], made);
    }
}

static void index_remove(struct pheap_tx *tx, enum order order, const struct key *key)
{
    struct link *before[HEIGHT_MAX], *gone;
    uint64_t height;

    find_before(tx, order, key, before);
    gone = PHEAP_GET(tx, &before[0]->next[0]);
    height = PHEAP_GET(tx, &gone->height);
    for (uint64_t level = 0; level < height; level++)
        PHEAP_SET(tx, &before[level]->next[level], PHEAP_GET(tx, &gone->next[level]));
    PHEAP_TRY(tx, pheap_tx_free(tx, gone));
}

static struct row *row_with(struct pheap_tx *tx, uint64_t id)
{
    struct key key = {.id = id};
    struct row *row = first_from(tx, BY_ID, &key);

    return row && PHEAP_GET(tx, &row->id) == id ? row : NULL;
}

/* --- what a program does with a table: each a transaction --- */

static int table_open(const char *path)
{
    char problem[512] = "";
    struct pheap_options options = {0};
    int status;

    options.problem = problem;
    options.problem_bytes = sizeof problem;
    if ((status = pheap_open(path, PHEAP_CREATE, &options, &heap)) < 0) {
        fprintf(stderr, "table: %s\n", problem);
        return status;
    }
    table = pheap_root(heap, "table", NULL);
    if (table)
        return 0;
    PHEAP_TX(heap)
    {
        struct table *made;

        PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof *made, TYPE_TABLE, (void **)&made));
        for (int order = 0; order < ORDERS; order++)
            PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof(struct link) + HEIGHT_MAX * sizeof(void *),
                                         TYPE_LINK, (void **)&made->heads[order]));
        PHEAP_TRY(tx, pheap_root_set(tx, "table", made, TYPE_TABLE));
    }
    PHEAP_TX_END_WITH(status);
    table = pheap_root(heap, "table", NULL);
    return status;
}

static void set_name(struct key *key, uint64_t id, const char *name)
{
    memset(key, 0, sizeof *key);
    key->id = id;
    snprintf(key->name, sizeof key->name, "%s", name);
}

/* -EEXIST: there is a row with this id. */
static int table_add(uint64_t id, const char *name, int64_t amount)
{
    volatile bool exists = false;
    int status;

    PHEAP_TX(heap)
    {
        struct row *row;
        struct key key;

        exists = row_with(tx, id) != NULL;
        if (exists)
            PHEAP_TX_ABORT(tx);
        set_name(&key, id, name);
        PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof *row, TYPE_ROW, (void **)&row));
        row->id = id;
        row->amount = amount;
        memcpy(row->name, key.name, sizeof row->name);
        for (int order = 0; order < ORDERS; order++)
            index_add(tx, order, row, &key);
    }
    PHEAP_TX_END_WITH(status);
    return exists ? -EEXIST : status;
}

/* -ENOENT: there is none. */
static int table_set(uint64_t id, const char *name, int64_t amount)
{
    volatile bool missing = false;
    int status;

    PHEAP_TX(heap)
    {
        struct row *row = row_with(tx, id);
        struct key old, key;

        missing = row == NULL;
        if (missing)
            PHEAP_TX_ABORT(tx);
        old = key_of(tx, row);
        set_name(&key, id, name);
        PHEAP_SET(tx, &row->amount, amount);
        if (strcmp(old.name, key.name) != 0) {
            index_remove(tx, BY_NAME, &old);
            PHEAP_TRY(tx, pheap_tx_write(tx, row->name, key.name, sizeof key.name));
            index_add(tx, BY_NAME, row, &key);
        }
    }
    PHEAP_TX_END_WITH(status);
    return missing ? -ENOENT : status;
}

static int table_remove(uint64_t id)
{
    volatile bool missing = false;
    int status;

    PHEAP_TX(heap)
    {
        struct row *row = row_with(tx, id);
        struct key key;

        missing = row == NULL;
        if (missing)
            PHEAP_TX_ABORT(tx);
        key = key_of(tx, row);
        for (int order = 0; order < ORDERS; order++)
            index_remove(tx, order, &key);
        PHEAP_TRY(tx, pheap_tx_free(tx, row));
    }
    PHEAP_TX_END_WITH(status);
    return missing ? -ENOENT : status;
}

/* From one row's amount to another's: both or neither, whatever other threads do. */
static int table_move(uint64_t from, uint64_t to, int64_t amount)
{
    int status;

    PHEAP_TX(heap)
    {
        struct row *a = row_with(tx, from), *b = row_with(tx, to);

        if (!a || !b || a == b)
            PHEAP_TX_ABORT(tx);
        PHEAP_SET(tx, &a->amount, PHEAP_GET(tx, &a->amount) - amount);
        PHEAP_SET(tx, &b->amount, PHEAP_GET(tx, &b->amount) + amount);
    }
    PHEAP_TX_END_WITH(status);
    return status == -ECANCELED ? -ENOENT : status;
}

/*
 * A cursor holds a place by its key and no pointer: rows may come and go between two steps, also
 * the one that it stands on. Each step is a transaction that only reads.
 */
struct cursor {
    enum order order;
    struct key key; /* the next row is the first that is not before it */
};

/* 1: *row is a copy of the next one; 0: there is none. */
static int cursor_next(struct cursor *cursor, struct row *row)
{
    volatile bool found = false;
    int status;

    PHEAP_TX(heap)
    {
        struct row *next = first_from(tx, cursor->order, &cursor->key);

        found = next != NULL;
        if (found)
            PHEAP_TRY(tx, pheap_tx_read(tx, row, next, sizeof *row));
    }
    PHEAP_TX_END_WITH(status);
    if (status < 0 || !found)
        return status;
    cursor->key.id = row->id + 1; /* just behind it in either order */
    memcpy(cursor->key.name, row->name, sizeof row->name);
    return 1;
}

/* --- commands --- */

static int list(struct cursor cursor, uint64_t count)
{
    struct row row;
    int status = 1;

    while (count-- && (status = cursor_next(&cursor, &row)) == 1)
        printf("%" PRIu64 " %s %" PRId64 "\n", row.id, row.name, row.amount);
    return status < 0 ? fail("list", status) : 0;
}

static int get(uint64_t id)
{
    struct cursor cursor = {.order = BY_ID, .key.id = id};
    struct row row;
    int status = cursor_next(&cursor, &row);

    if (status < 0 || status == 0 || row.id != id)
        return fail("get", status < 0 ? status : -ENOENT);
    printf("%" PRIu64 " %s %" PRId64 "\n", row.id, row.name, row.amount);
    return 0;
}

/* In one transaction, so that other threads may go on: what it sees is one state. */
static int check(void)
{
    volatile uint64_t rows = 0;
    volatile int64_t sum = 0;
    volatile bool wrong = false;
    int status;

    PHEAP_TX(heap)
    {
        uint64_t counts[ORDERS] = {0}, ids[ORDERS] = {0};
        int64_t amounts = 0;

        wrong = false;
        for (int order = 0; order < ORDERS; order++) {
            struct link *at = PHEAP_GET(tx, &table->heads[order]);
            struct key last = {0};

            while ((at = PHEAP_GET(tx, &at->next[0]))) {
                struct row *row = PHEAP_GET(tx, &at->row);
                struct key key = key_of(tx, row);

                if (counts[order]++ && compare(order, &last, &key) >= 0)
                    wrong = true;
                ids[order] += key.id * key.id;
                amounts += order == BY_ID ? PHEAP_GET(tx, &row->amount) : 0;
                last = key;
            }
        }
        if (counts[BY_ID] != counts[BY_NAME] || ids[BY_ID] != ids[BY_NAME])
            wrong = true;
        rows = counts[BY_ID];
        sum = amounts;
    }
    PHEAP_TX_END_WITH(status);
    if (status < 0)
        return fail("check", status);
    printf("%" PRIu64 " rows, amounts %" PRId64 "%s\n", rows, sum, wrong ? ", and WRONG" : "");
    return wrong;
}

/* --- threads that change the table --- */

#define RUN_IDS 5000u

static atomic_bool run_ends;

struct worker {
    pthread_t thread;
    uint64_t state, done;
    int status;
};

static uint64_t draw(struct worker *worker, uint64_t below)
{
    worker->state = worker->state * 6364136223846793005u + 1442695040888963407u;
    return (worker->state >> 33) % below;
}

static int work_once(struct worker *worker)
{
    uint64_t id = draw(worker, RUN_IDS);
    char name[NAME_BYTES];

    snprintf(name, sizeof name, "name %05u", (unsigned)draw(worker, 100000));
    switch (draw(worker, 8)) {
    case 0:
    case 1:
    case 2:
        return table_add(id, name, 0);
    case 3:
        return table_remove(RUN_IDS + draw(worker, RUN_IDS)) == 0
                   ? 0
                   : table_add(RUN_IDS + id, name, 0);
    case 4:
        return table_move(id, draw(worker, RUN_IDS), 5);
    case 5: {
        struct cursor cursor = {.order = BY_NAME};
        struct row row;
        int status = 1;

        snprintf(cursor.key.name, sizeof cursor.key.name, "%s", name);
        for (int i = 0; i < 10 && status == 1; i++)
            status = cursor_next(&cursor, &row);
        return status < 0 ? status : 0;
    }
    default:
        return table_move(id, draw(worker, RUN_IDS), -3);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    int status;

    while (!atomic_load(&run_ends)) {
        status = work_once(worker);
        if (status < 0 && status != -EEXIST && status != -ENOENT) {
            worker->status = status;
            break;
        }
        worker->done++;
    }
    return NULL;
}

static int run(unsigned threads, double seconds)
{
    struct worker *workers = calloc(threads, sizeof *workers);
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    uint64_t done = 0;
    int status = workers ? 0 : -ENOMEM;

    for (unsigned i = 0; workers && i < threads; i++) {
        workers[i].state = i + 1;
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    printf("running\n");
    fflush(stdout);
    nanosleep(&time, NULL);
    atomic_store(&run_ends, true);
    for (unsigned i = 0; workers && i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        done += workers[i].done;
        status = status ? status : workers[i].status;
    }
    free(workers);
    if (status < 0)
        return fail("run", status);
    printf("%.0f a second\n", (double)done / seconds);
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: table FILE add|set ID NAME AMOUNT\n"
                    "       table FILE get|remove ID\n"
                    "       table FILE by-id [FROM [COUNT]]\n"
                    "       table FILE by-name [FROM [COUNT]]\n"
                    "       table FILE check\n"
                    "       table FILE run THREADS SECONDS\n");
    return 2;
}

/* argv[n] as a number, `absent` if there is none. */
static uint64_t number_of(int argc, char **argv, int n, uint64_t absent)
{
    char *end;
    uint64_t number;

    if (argc <= n)
        return absent;
    errno = 0;
    number = strtoull(argv[n], &end, 10);
    if (end != argv[n] && !*end && !errno)
        return number;
    fprintf(stderr, "table: '%s' is no number\n", argv[n]);
    exit(2);
}

static int command(int argc, char **argv)
{
    const char *name = argv[2];
    bool lists_names = strcmp(name, "by-name") == 0,
         lists = lists_names || strcmp(name, "by-id") == 0;
    uint64_t id = lists_names ? 0 : number_of(argc, argv, 3, 0);
    uint64_t count = lists ? number_of(argc, argv, 4, UINT64_MAX) : 0;
    struct cursor cursor = {.order = lists_names ? BY_NAME : BY_ID, .key.id = id};
    int status = 0;

    if (strcmp(name, "add") == 0 && argc == 6)
        status = table_add(id, argv[4], (int64_t)number_of(argc, argv, 5, 0));
    else if (strcmp(name, "set") == 0 && argc == 6)
        status = table_set(id, argv[4], (int64_t)number_of(argc, argv, 5, 0));
    else if (strcmp(name, "remove") == 0 && argc == 4)
        status = table_remove(id);
    else if (strcmp(name, "get") == 0 && argc == 4)
        return get(id);
    else if (strcmp(name, "check") == 0 && argc == 3)
        return check();
    else if (strcmp(name, "run") == 0 && argc == 5)
        return run((unsigned)id, strtod(argv[4], NULL));
    else if (lists && argc <= 5) {
        if (lists_names)
            snprintf(cursor.key.name, sizeof cursor.key.name, "%s", argc > 3 ? argv[3] : "");
        return list(cursor, count);
    } else
        return usage();
    return status < 0 ? fail(name, status) : 0;
}

int main(int argc, char **argv)
{
    int status;

    if (argc < 3)
        return usage();
    if (table_open(argv[1]) < 0)
        return 1;
    status = command(argc, argv);
    if (pheap_close(heap) < 0)
        return 1;
    return status;
}
