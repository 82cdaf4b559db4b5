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
#include <errno.h>
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
    struct pheap_tx *tx;
    void *place;
    struct account *account;
    int status;

    if (find(name)) {
        fprintf(stderr, "accounts: there is an account '%s' already\n", name);
        exit(1);
    }
    tx = begin();
    status = pheap_tx_alloc(tx, sizeof *account, TYPE_ACCOUNT, &place);
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
    fprintf(stderr, "accounts: '%s' has not got that much\n", account->name);
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
    fputs("usage: accounts FILE list\n"
          "       accounts FILE open|drop NAME\n"
          "       accounts FILE pay NAME AMOUNT\n"
          "       accounts FILE move NAME NAME AMOUNT\n",
          stderr);
    return 2;
}

/* A whole number; the last word of a command. */
static int64_t amount_of(const char *word)
{
    char *end;
    long amount;

    errno = 0;
    amount = strtol(word, &end, 10);
    if (end == word || *end || errno) {
        fprintf(stderr, "accounts: '%s' is no amount: a whole number is expected\n", word);
        exit(2);
    }
    return amount;
}

static int do_pay(const char *name, int64_t amount)
{
    struct account *account = need(name);
    struct pheap_tx *tx = begin();

    if (!pay(tx, account, amount))
        return 1;
    commit(tx);
    return 0;
}

static int do_move(const char *from_name, const char *to_name, int64_t amount)
{
    struct account *from = need(from_name), *to = need(to_name);
    struct pheap_tx *tx = begin();

    if (!pay(tx, from, -amount) || !pay(tx, to, amount))
        return 1;
    commit(tx);
    return 0;
}

static int run(int argc, char **argv)
{
    const char *verb = argv[2];

    if (strcmp(verb, "list") == 0)
        list();
    else if (strcmp(verb, "open") == 0)
        add_account(argv[3]);
    else if (strcmp(verb, "drop") == 0)
        drop_account(argv[3]);
    else if (strcmp(verb, "pay") == 0)
        return do_pay(argv[3], amount_of(argv[argc - 1]));
    else
        return do_move(argv[3], argv[4], amount_of(argv[argc - 1]));
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *verb;
        int argc;
    } commands[] = {{"list", 3}, {"open", 4}, {"drop", 4}, {"pay", 5}, {"move", 6}};
    int status;

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (argc != commands[i].argc || strcmp(argv[2], commands[i].verb) != 0)
            continue;
        open_heap(argv[1], strcmp(argv[2], "list") == 0);
        status = run(argc, argv);
        return pheap_close(heap) < 0 ? 1 : status;
    }
    return usage();
}
