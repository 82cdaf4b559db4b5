/*
 * transfers.c - for t/e2e/transactions.t: threads that move money between accounts of an opened
 * heap and say which transfers are durable. The parent kills it.
 *
 *     transfers POOL run THREADS   until killed: "T N" on stdout when thread T's transfer N is
 * durable transfers POOL check         "T N" for each thread as the heap has it, after checking
 * that it makes sense: no money is lost, every object is one of the list's
 *
 * Each thread has accounts of its own, a count of its transfers, and a list of notes (one object a
 * transfer, the oldest freed): all three change in one transaction. Some are aborted, some nested,
 * and one thread takes checkpoints.
 */
#include "../../core/pheap.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS  8
#define ACCOUNTS 16
#define NOTES    12
#define MONEY    1000

enum { TYPE_BANK = 1, TYPE_NOTE = 2 };

struct note {
    uint64_t number;
    uint8_t fill[200];
};

struct desk {
    uint64_t transfers;
    int64_t accounts[ACCOUNTS];
    struct note *notes[NOTES];
};

struct bank {
    struct desk desks[THREADS];
};

static struct pheap *heap;
static struct bank *bank;

static void need(int64_t status, const char *what)
{
    if (status >= 0)
        return;
    fprintf(stderr, "transfers: %s: %s\n", what, pheap_error_text(status));
    _exit(3);
}

static void make_bank(void)
{
    struct pheap_tx *tx = NULL;
    void *place;

    need(pheap_tx_begin(heap, &tx), "begin");
    need(pheap_tx_alloc(tx, sizeof *bank, TYPE_BANK, &place), "alloc");
    bank = place;
    for (unsigned i = 0; i < THREADS * ACCOUNTS; i++)
        bank->desks[i / ACCOUNTS].accounts[i % ACCOUNTS] = MONEY;
    need(pheap_root_set(tx, "bank", bank, TYPE_BANK), "root");
    need(pheap_tx_commit(tx), "commit");
}

static void move_money(struct pheap_tx *tx, int64_t *accounts, unsigned *seed)
{
    unsigned from = rand_r(seed) % ACCOUNTS, to = rand_r(seed) % ACCOUNTS;
    int64_t amount = rand_r(seed) % 50;

    need(pheap_tx_add(tx, &accounts[from], 8), "add");
    accounts[from] -= amount;
    need(pheap_tx_add(tx, &accounts[to], 8), "add");
    accounts[to] += amount;
}

static void leave_note(struct pheap_tx *tx, struct desk *desk)
{
    struct note **place = &desk->notes[desk->transfers % NOTES];
    void *note;

    need(pheap_tx_add(tx, place, sizeof *place), "add");
    if (*place)
        need(pheap_tx_free(tx, *place), "free");
    need(pheap_tx_alloc(tx, sizeof(struct note), TYPE_NOTE, &note), "alloc");
    *place = note;
    (*place)->number = desk->transfers;
    memset((*place)->fill, (int)desk->transfers, sizeof(*place)->fill);
}

static void transfer(struct desk *desk, unsigned *seed)
{
    struct pheap_tx *tx = NULL;

    need(pheap_tx_begin(heap, &tx), "begin");
    need(pheap_tx_add(tx, &desk->transfers, 8), "add");
    desk->transfers++;
    move_money(tx, desk->accounts, seed);
    leave_note(tx, desk);
    if (rand_r(seed) % 4 == 0) {
        need(pheap_tx_begin(heap, &tx), "nest");
        move_money(tx, desk->accounts, seed);
        leave_note(tx, desk);
        pheap_tx_abort(tx);
    }
    if (rand_r(seed) % 8 == 0)
        pheap_tx_abort(tx);
    else
        need(pheap_tx_commit(tx), "commit");
}

static void *work(void *argument)
{
    unsigned t = (unsigned)(uintptr_t)argument, seed = t + (unsigned)getpid();
    struct desk *desk = &bank->desks[t];

    for (;;) {
        uint64_t before = desk->transfers;
        char line[32];

        transfer(desk, &seed);
        if (t == 0 && seed % 64 == 0)
            need(pheap_heap_checkpoint(heap), "checkpoint");
        if (desk->transfers == before)
            continue;
        snprintf(line, sizeof line, "%u %llu\n", t, (unsigned long long)desk->transfers);
        if (write(1, line, strlen(line)) < 0)
            _exit(4);
    }
    return NULL;
}

static void check_desk(const struct desk *desk, unsigned t)
{
    int64_t sum = 0;

    for (unsigned i = 0; i < ACCOUNTS; i++)
        sum += desk->accounts[i];
    if (sum != ACCOUNTS * MONEY)
        printf("desk %u has %lld\n", t, (long long)sum);
    for (uint64_t n = desk->transfers; n > 0 && n + NOTES > desk->transfers; n--) {
        const struct note *note = desk->notes[n % NOTES];

        if (!note || note->number != n || note->fill[0] != (uint8_t)n ||
            note->fill[199] != (uint8_t)n || pheap_object_bytes(heap, note) != sizeof *note)
            printf("desk %u has no note %llu\n", t, (unsigned long long)n);
    }
    printf("%u %llu\n", t, (unsigned long long)desk->transfers);
}

static void check(void)
{
    unsigned notes = 0, expected = 0;
    void *note = NULL;

    for (unsigned t = 0; t < THREADS; t++) {
        check_desk(&bank->desks[t], t);
        for (unsigned i = 0; i < NOTES; i++)
            expected += bank->desks[t].notes[i] != NULL;
    }
    while ((note = pheap_next_object(heap, note, TYPE_NOTE)))
        notes++;
    if (notes != expected)
        printf("%u notes, %u expected\n", notes, expected);
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    char problem[512] = "";
    struct pheap_options options = {.problem = problem, .problem_bytes = sizeof problem};
    pthread_t thread;

    if (!pheap_is_present() || argc < 3 || threads > THREADS)
        return 2;
    if (pheap_open(argv[1], threads ? PHEAP_CREATE : PHEAP_READ_ONLY, &options, &heap) < 0) {
        printf("%s\n", problem);
        return 1;
    }
    bank = pheap_root(heap, "bank", NULL);
    if (!bank && threads)
        make_bank();
    if (!threads && bank)
        check();
    for (unsigned t = 1; t < threads; t++)
        pthread_create(&thread, NULL, work, (void *)(uintptr_t)t);
    if (threads)
        work(NULL);
    return pheap_close(heap) < 0;
}
