/*
 * optimistic.c - for t/e2e/transactions.t: what PHEAP_TX promises, as C and as C++ have it.
 *
 *     optimistic POOL THREADS TRANSFERS    "fine", or what is not
 *
 * Threads move money between accounts and look at the sum of all, which never changes; every way
 * out of a block is taken.
 */
#include "../../core/pheap.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACCOUNTS 40
#define MONEY    100

struct account {
    long balance;
    struct account *next;
};

struct bank {
    struct account accounts[ACCOUNTS];
    struct account *changed; /* a list, the newest first */
    long entries;
};

static struct pheap *heap;
static struct bank *bank;
static long transfers, notes_made, notes_dropped;

static void need(int holds, const char *what)
{
    if (holds)
        return;
    printf("not so: %s\n", what);
    exit(1);
}

static void count(void *counter)
{
    __atomic_add_fetch((long *)counter, 1, __ATOMIC_RELAXED);
}

static long sum_of(struct pheap_tx *tx)
{
    long sum = 0;

    for (unsigned i = 0; i < ACCOUNTS; i++)
        sum += PHEAP_GET(tx, &bank->accounts[i].balance);
    return sum;
}

/* An object more, the oldest of three freed. */
static void keep_note(struct pheap_tx *tx)
{
    void *block = NULL;
    struct account *note, *second, *third;

    PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof *note, 2, &block));
    note = (struct account *)block;
    note->next = PHEAP_GET(tx, &bank->changed);
    PHEAP_SET(tx, &bank->changed, note);
    second = note->next;
    third = second ? PHEAP_GET(tx, &second->next) : NULL;
    if (third) {
        PHEAP_SET(tx, &second->next, (struct account *)NULL);
        PHEAP_TRY(tx, pheap_tx_free(tx, third));
    } else {
        PHEAP_SET(tx, &bank->entries, PHEAP_GET(tx, &bank->entries) + 1);
    }
}

static int transfer(unsigned from, unsigned to, unsigned kind)
{
    int status = 1;

    PHEAP_TX(heap)
    {
        struct account *one = &bank->accounts[from], *other = &bank->accounts[to];

        PHEAP_TRY(tx, pheap_tx_on_commit(tx, count, &notes_made));
        PHEAP_TRY(tx, pheap_tx_on_abort(tx, count, &notes_dropped));
        PHEAP_SET(tx, &one->balance, PHEAP_GET(tx, &one->balance) - 5);
        PHEAP_SET(tx, &other->balance, PHEAP_GET(tx, &other->balance) + 5);
        if (kind == 1)
            PHEAP_TX_ABORT(tx);
        if (kind == 2)
            break;
        if (kind == 3)
            return -ECANCELED;
        if (kind == 4)
            keep_note(tx);
        if (kind == 5)
            need(sum_of(tx) == ACCOUNTS * MONEY, "the sum within a transfer");
    }
    PHEAP_TX_END_WITH(status);
    return status;
}

/* In a function of its own, as most nested ones are. */
static void change_and_undo(struct pheap_tx *outer, long *balance, long before)
{
    int status = 1;

    PHEAP_TX_NESTED(outer)
    {
        PHEAP_SET(tx, balance, before + 1000);
        need(PHEAP_GET(tx, balance) == before + 1000, "what a nested one has written");
        PHEAP_TX_ABORT(tx);
    }
    PHEAP_TX_END_WITH(status);
    need(status == -ECANCELED, "the status of an aborted nested one");
}

static void change(struct pheap_tx *outer, long *balance, long value)
{
    PHEAP_TX_NESTED(outer)
    {
        PHEAP_SET(tx, balance, value);
    }
    PHEAP_TX_END;
}

static void nested(unsigned i)
{
    int status = 1;

    PHEAP_TX(heap)
    {
        long *balance = &bank->accounts[i].balance, before = PHEAP_GET(tx, balance);

        change_and_undo(tx, balance, before);
        need(PHEAP_GET(tx, balance) == before, "what an aborted nested one leaves");
        change(tx, balance, before + 7);
        PHEAP_SET(tx, balance, PHEAP_GET(tx, balance) - 7);
    }
    PHEAP_TX_END_WITH(status);
    need(status == 0, "the status of the one around nested ones");
}

static void audit(void)
{
    long sum = 0;

    PHEAP_TX(heap)
    {
        sum = sum_of(tx);
        need(sum == ACCOUNTS * MONEY, "the sum");
    }
    PHEAP_TX_END;
}

static void *work(void *argument)
{
    unsigned long state = (unsigned long)(size_t)argument * 2654435761u + 1;

    for (long i = 0; i < transfers; i++) {
        unsigned from, to, kind;
        int status;

        state = state * 6364136223846793005ul + 1442695040888963407ul;
        from = (unsigned)(state >> 33) % ACCOUNTS;
        to = (unsigned)(state >> 40) % ACCOUNTS;
        kind = (unsigned)(state >> 50) % 8;
        if (from == to)
            continue;
        status = transfer(from, to, kind);
        need(status == (kind >= 1 && kind <= 3 ? -ECANCELED : 0), "the status of a transfer");
        if (kind == 6)
            nested(from);
        if (kind == 7)
            audit();
    }
    return NULL;
}

static void make_bank(void)
{
    int status = 1;

    PHEAP_TX(heap)
    {
        void *block = NULL, *found = heap;

        PHEAP_TRY(tx, pheap_tx_root(tx, "bank", &found, NULL));
        need(found == NULL, "a root that was not set");
        PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof *bank, 1, &block));
        bank = (struct bank *)block;
        for (unsigned i = 0; i < ACCOUNTS; i++)
            bank->accounts[i].balance = MONEY;
        PHEAP_TRY(tx, pheap_root_set(tx, "bank", bank, 1));
        PHEAP_TRY(tx, pheap_tx_root(tx, "bank", &found, NULL));
        need(found == bank, "a root that was just set");
    }
    PHEAP_TX_END_WITH(status);
    need(status == 0, "the status of the first transaction");
}

static void check_heap(void)
{
    long entries = 0, objects = 0;

    bank = (struct bank *)pheap_root(heap, "bank", NULL);
    audit();
    for (struct account *note = bank->changed; note; note = note->next)
        entries++;
    for (void *object = NULL; (object = pheap_next_object(heap, object, 2));)
        objects++;
    need(entries == bank->entries && objects == entries, "the number of notes");
}

int main(int argc, char **argv)
{
    pthread_t threads[16];
    int count_of_threads = argc > 3 ? atoi(argv[2]) : 0;

    if (count_of_threads < 1 || count_of_threads > 16)
        return 2;
    transfers = atol(argv[3]);
    need(pheap_create(argv[1], NULL, &heap) == 0, "pheap_create");
    make_bank();
    for (long i = 0; i < count_of_threads; i++)
        need(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0, "pthread_create");
    for (int i = 0; i < count_of_threads; i++)
        pthread_join(threads[i], NULL);
    check_heap();
    need(notes_made > 0 && notes_dropped > 0, "calls on commit and on abort");
    need(pheap_close(heap) == 0, "pheap_close");
    need(pheap_open(argv[1], 0, NULL, &heap) == 0, "pheap_open");
    check_heap();
    need(pheap_close(heap) == 0, "pheap_close");
    printf("fine\n");
    return 0;
}
