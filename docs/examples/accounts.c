/*
 * accounts.c - accounts that survive whatever happens to the program: opened heaps and direct
 * transactions, the whole of it in one file.
 *
 *     accounts FILE open NAME              an account with nothing in it
 *     accounts FILE pay NAME AMOUNT        into an account, or, negative, out of it
 *     accounts FILE move NAME NAME AMOUNT  from one to the other: both or neither
 *     accounts FILE drop NAME
 *     accounts FILE list
 *
 * Build it with `cc accounts.c $(pkg-config --cflags --libs pheap)`.
 */
#include <inttypes.h>
#include <pheap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_ACCOUNT = 1 };

/* What is in the heap. Accounts are found by their type: no list of them is kept. */
struct account {
    int64_t balance;
    char name[40];
};

static struct pheap *heap;

static void fail(const char *what, int64_t error)
{
    fprintf(stderr, "accounts: %s: %s\n", what, pheap_error_text(error));
    exit(1);
}

static void open_heap(const char *path, int for_reading)
{
    char problem[512] = "";
    struct pheap_options options = {0};
    int status;

    options.problem = problem;
    options.problem_bytes = sizeof problem;
    status = pheap_open(path, for_reading ? PHEAP_READ_ONLY : PHEAP_CREATE, &options, &heap);
    if (status < 0) {
        fprintf(stderr, "accounts: %s\n", problem);
        exit(1);
    }
}

static struct account *next(struct account *after)
{
    return pheap_next_object(heap, after, TYPE_ACCOUNT);
}

static struct account *find(const char *name)
{
    struct account *account = NULL;

    while ((account = next(account)) && strcmp(account->name, name) != 0)
        continue;
    return account;
}

static struct account *need(const char *name)
{
    struct account *account = find(name);

    if (!account) {
        fprintf(stderr, "accounts: there is no account '%s'\n", name);
        exit(1);
    }
    return account;
}

static struct pheap_tx *begin(void)
{
    struct pheap_tx *tx = NULL;
    int status = pheap_tx_begin(heap, &tx);

    if (status < 0)
        fail("begin", status);
    return tx;
}

/* Durable when it returns. */
static void commit(struct pheap_tx *tx)
{
    int status = pheap_tx_commit(tx);

    if (status < 0)
        fail("commit", status);
}

static void add_account(const char *name)
{
    struct pheap_tx *tx = begin();
    void *place;
    struct account *account;
    int status = pheap_tx_alloc(tx, sizeof *account, TYPE_ACCOUNT, &place);

    if (status < 0)
        fail("alloc", status);
    account = place;
    snprintf(account->name, sizeof account->name, "%s", name);
    commit(tx);
}

/* What one pays out without having it undoes the whole transaction. */
static int pay(struct pheap_tx *tx, struct account *account, int64_t amount)
{
    int status = pheap_tx_add(tx, &account->balance, sizeof account->balance);

    if (status < 0)
        fail("add", status);
    account->balance += amount;
    if (account->balance >= 0)
        return 1;
    printf("%s has not got that much\n", account->name);
    pheap_tx_abort(tx);
    return 0;
}

static void drop_account(const char *name)
{
    struct account *account = need(name);
    struct pheap_tx *tx = begin();
    int status = pheap_tx_free(tx, account);

    if (status < 0)
        fail("free", status);
    commit(tx);
}

static void list(void)
{
    for (struct account *account = next(NULL); account; account = next(account))
        printf("%-40s %12" PRId64 "\n", account->name, account->balance);
}

static int usage(void)
{
    fputs("usage: accounts FILE open|pay|move|drop|list [NAME [NAME] [AMOUNT]]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[2] : "";
    struct pheap_tx *tx;

    if (argc < 3)
        return usage();
    open_heap(argv[1], strcmp(verb, "list") == 0);
    if (strcmp(verb, "list") == 0) {
        list();
    } else if (strcmp(verb, "open") == 0 && argc == 4 && !find(argv[3])) {
        add_account(argv[3]);
    } else if (strcmp(verb, "pay") == 0 && argc == 5) {
        struct account *account = need(argv[3]);

        tx = begin();
        if (pay(tx, account, atoll(argv[4])))
            commit(tx);
    } else if (strcmp(verb, "move") == 0 && argc == 6) {
        struct account *from = need(argv[3]), *to = need(argv[4]);

        tx = begin();
        if (pay(tx, from, -atoll(argv[5])) && pay(tx, to, atoll(argv[5])))
            commit(tx);
    } else if (strcmp(verb, "drop") == 0 && argc == 4) {
        drop_account(argv[3]);
    } else {
        return usage();
    }
    return pheap_close(heap) < 0;
}
