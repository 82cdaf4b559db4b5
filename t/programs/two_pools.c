/*
 * two_pools.c - for t/e2e/transactions.t: one transaction in two heaps, again and again. The parent
 * kills it.
 *
 *     two_pools A B run      until killed: "N" on stdout when N is durable in both
 *     two_pools A B check    "N" as both have it; opened in the order A, B
 *     two_pools A B open     B alone, for writing: "fine", or the error and its text
 *     two_pools A B read     B alone, for reading: "N"
 */
#include "../../core/pheap.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct counter {
    uint64_t number;
    uint8_t *note; /* filled with the number's last byte */
};

static struct pheap *heaps[2];
static struct counter *counters[2];
static char problem[600];

static void need(int64_t status, const char *what)
{
    if (status >= 0)
        return;
    printf("%s: %s (%d): %s\n", what, pheap_error_text(status), (int)status, problem);
    exit(3);
}

static int open_heap(int i, const char *path, unsigned flags)
{
    struct pheap_options options = {(uint32_t)(3 + i), 0, problem, sizeof problem};

    return pheap_open(path, flags, &options, &heaps[i]);
}

static void make_counter(int i)
{
    void *block = NULL;
    int status = 0;

    PHEAP_TX(heaps[i])
    {
        PHEAP_TRY(tx, pheap_tx_root(tx, "counter", &block, NULL));
        if (!block) {
            PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof(struct counter), 1, &block));
            PHEAP_TRY(tx, pheap_root_set(tx, "counter", block, 1));
        }
    }
    PHEAP_TX_END_WITH(status);
    need(status, "make a counter");
    counters[i] = pheap_root(heaps[i], "counter", NULL);
}

static void count(struct pheap_tx *tx, int i)
{
    uint64_t number = PHEAP_GET(tx, &counters[i]->number) + 1;
    uint8_t *old = PHEAP_GET(tx, &counters[i]->note);
    void *note = NULL;

    PHEAP_TRY(tx, pheap_tx_alloc(tx, 1000, 2, &note));
    memset(note, (uint8_t)number, 1000);
    PHEAP_SET(tx, &counters[i]->number, number);
    PHEAP_SET(tx, &counters[i]->note, (uint8_t *)note);
    if (old)
        PHEAP_TRY(tx, pheap_tx_free(tx, old));
}

static void count_in_both(int decides)
{
    int status = 0;

    PHEAP_TX(heaps[decides])
    {
        struct pheap_tx *part = NULL;

        PHEAP_TRY(tx, pheap_tx_join(tx, heaps[1 - decides], &part));
        count(tx, decides);
        count(part, 1 - decides);
    }
    PHEAP_TX_END_WITH(status);
    need(status, "count in both");
}

static void run(void)
{
    for (uint64_t round = 1;; round++) {
        count_in_both(round % 5 == 0);
        if (round % 40 == 0)
            need(pheap_heap_checkpoint(heaps[round / 40 % 2]), "checkpoint");
        printf("%lu\n", counters[0]->number);
        fflush(stdout);
    }
}

static void check(int i)
{
    struct counter *counter = pheap_root(heaps[i], "counter", NULL);

    counters[i] = counter;
    if (counter && counter->number > 0)
        for (int k = 0; k < 1000; k++)
            if (counter->note[k] != (uint8_t)counter->number)
                need(-EINVAL, "a note is not its counter's");
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    if (strcmp(argv[3], "open") == 0 || strcmp(argv[3], "read") == 0) {
        need(open_heap(1, argv[2], strcmp(argv[3], "read") ? 0 : PHEAP_READ_ONLY), "open");
        check(1);
        printf(strcmp(argv[3], "read") ? "fine\n" : "%lu\n", counters[1]->number);
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        need(open_heap(i, argv[1 + i], PHEAP_CREATE), "open");
        make_counter(i);
        check(i);
    }
    if (strcmp(argv[3], "run") == 0)
        run();
    if (counters[0]->number != counters[1]->number) {
        printf("%lu is not %lu\n", counters[0]->number, counters[1]->number);
        return 3;
    }
    printf("%lu\n", counters[0]->number);
    return 0;
}
