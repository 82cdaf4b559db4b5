/*
 * tx.c - what a transaction costs, beside raw pwrite + fdatasync on the same file system.
 *
 *     tx DIRECTORY [SECONDS]    one line a measurement: name, ns an operation, operations a second
 *
 * One thread. Each measurement runs for SECONDS (1 unless said). A commit syncs, so most of what it
 * costs is the disk's; "within one" measures what pheap itself does, many updates in one
 * transaction without its commit. In memory (/dev/shm) an fdatasync costs nothing, and commits show
 * pheap alone.
 */
#define PHEAP_LINKED
#include "core/pheap.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RECORD_BYTES  160 /* of the log, for a transaction of one 8-byte update */
#define LOG_BYTES     (1u << 20)
#define WITHIN        1000
#define OBJECT_BYTES  64
#define OBJECTS       4096
#define DIRECTORY_MAX 3000

static struct pheap *heap;
static uint64_t *words;
static void **objects;
static int raw_fd;
static uint64_t raw_at;
static double seconds = 1;

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void need(int64_t status, const char *what)
{
    if (status >= 0)
        return;
    fprintf(stderr, "tx: %s: %s\n", what, pheap_error_text(status));
    exit(1);
}

static struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;

    need(pheap_tx_begin(heap, &tx), "begin");
    return tx;
}

static void put(struct pheap_tx *tx, uint64_t i)
{
    need(pheap_tx_add(tx, &words[i % OBJECTS], 8), "add");
    words[i % OBJECTS] = i;
}

static void raw(uint64_t i)
{
    char record[RECORD_BYTES];

    memset(record, (int)i, sizeof record);
    if (pwrite(raw_fd, record, sizeof record, (off_t)raw_at) != RECORD_BYTES || fdatasync(raw_fd))
        need(-1, "pwrite");
    raw_at = (raw_at + 192) % (LOG_BYTES - 192);
}

static void empty(uint64_t i)
{
    (void)i;
    need(pheap_tx_commit(begin()), "commit");
}

static void one_update(uint64_t i)
{
    struct pheap_tx *tx = begin();

    put(tx, i);
    need(pheap_tx_commit(tx), "commit");
}

static void many_updates(uint64_t i)
{
    struct pheap_tx *tx = begin();

    for (unsigned k = 0; k < WITHIN; k++)
        put(tx, i * 7919 + k * 61);
    need(pheap_tx_commit(tx), "commit");
}

static void replace_object(struct pheap_tx *tx, uint64_t i)
{
    void **place = &objects[i * 61 % OBJECTS];

    need(pheap_tx_add(tx, place, sizeof *place), "add");
    if (*place)
        need(pheap_tx_free(tx, *place), "free");
    need(pheap_tx_alloc(tx, OBJECT_BYTES, 1, place), "alloc");
}

static void one_object(uint64_t i)
{
    struct pheap_tx *tx = begin();

    replace_object(tx, i);
    need(pheap_tx_commit(tx), "commit");
}

static void sixteen_objects(uint64_t i)
{
    struct pheap_tx *tx = begin();

    for (unsigned k = 0; k < 16; k++)
        replace_object(tx, i * 16 + k);
    need(pheap_tx_commit(tx), "commit");
}

/* each: operations that one call counts for. */
static void measure(const char *name, void (*call)(uint64_t), unsigned each)
{
    double start = now(), end;
    uint64_t calls = 0;

    do {
        call(calls++);
        end = now();
    } while (end - start < seconds);
    printf("%-44s %12.0f ns %12.0f /s\n", name, (end - start) * 1e9 / (double)(calls * each),
           (double)(calls * each) / (end - start));
    fflush(stdout);
}

static void *make_array(struct pheap_tx *tx)
{
    void *array;

    need(pheap_tx_alloc(tx, OBJECTS * 8, 2, &array), "alloc");
    return array;
}

static void open_raw(const char *path)
{
    char *zeroes = calloc(1, LOG_BYTES);

    raw_fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (raw_fd < 0 || !zeroes || write(raw_fd, zeroes, LOG_BYTES) != LOG_BYTES || fsync(raw_fd))
        need(-1, path);
    free(zeroes);
}

int main(int argc, char **argv)
{
    char heap_path[DIRECTORY_MAX + 32], raw_path[DIRECTORY_MAX + 32];
    struct pheap_tx *tx;

    if (argc < 2 || strlen(argv[1]) > DIRECTORY_MAX)
        return 2;
    if (argc > 2)
        seconds = atof(argv[2]);
    snprintf(heap_path, sizeof heap_path, "%s/tx-bench.pool", argv[1]);
    snprintf(raw_path, sizeof raw_path, "%s/tx-bench.raw", argv[1]);
    unlink(heap_path);
    open_raw(raw_path);
    need(pheap_create(heap_path, NULL, &heap), heap_path);
    tx = begin();
    words = make_array(tx);
    objects = make_array(tx);
    need(pheap_tx_commit(tx), "commit");
    measure("raw pwrite + fdatasync", raw, 1);
    measure("a transaction of one 8-byte update", one_update, 1);
    measure("a transaction of free + alloc 64 B + link", one_object, 1);
    measure("16 of those in one, each", sixteen_objects, 16);
    measure("1,000 8-byte updates in one, each", many_updates, WITHIN);
    measure("an empty transaction", empty, 1);
    measure("raw pwrite + fdatasync, once more", raw, 1);
    need(pheap_close(heap), "close");
    unlink(heap_path);
    unlink(raw_path);
    return 0;
}
