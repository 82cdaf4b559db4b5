/*
 * known_graph.c - for t/e2e/opened_heap.t: an opened heap of which everything is known.
 *
 *     known_graph POOL build     makes it: a part that is in a generation, and a part in the log
 *     known_graph POOL lose      two more blocks that nothing leads to, in the log
 *     known_graph POOL unname    takes the name "list" away
 *     known_graph POOL holes     blocks of 20, 2, 5, 2, 3 and 2 slices; the 1st, 3rd, 5th are freed
 *     known_graph POOL stay      has it open until it is killed
 *     known_graph POOL check     counts its objects by type, and follows its roots
 *
 * "name value" on stdout. The graph:
 *
 *     root "tree" -> top (type 1) -> left, right (type 1)   left -> below (type 4, large) <- right
 *     root "list" -> NODES nodes (type 2), a chain, and LATER more at its head
 *     nothing     -> LOST blocks (type 3); two of them point at each other
 */
#include "../../core/pheap.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODES       1000
#define LATER       10
#define LOST        40
#define LARGE_BYTES 200000

enum { TYPE_TREE = 1, TYPE_NODE = 2, TYPE_LOST = 3, TYPE_LARGE = 4 };

struct object {
    void *first, *second;
    uint64_t number;
};

static struct pheap *heap;
static struct pheap_tx *tx;

static void need(int64_t status, const char *what)
{
    if (status >= 0)
        return;
    fprintf(stderr, "known_graph: %s: %s\n", what, pheap_error_text(status));
    exit(3);
}

static struct object *make(size_t bytes, uint32_t type, void *first, void *second)
{
    void *place;
    struct object *object;

    need(pheap_tx_alloc(tx, bytes, type, &place), "alloc");
    object = place;
    object->first = first;
    object->second = second;
    return object;
}

static struct object *make_list(struct object *head, int nodes)
{
    for (int i = 0; i < nodes; i++) {
        head = make(48, TYPE_NODE, head, NULL);
        head->number = 0x6e6f6465u; /* "edon" */
    }
    need(pheap_root_set(tx, "list", head, TYPE_NODE), "root");
    return head;
}

static void say(const char *name, uint64_t value)
{
    printf("%s %" PRIu64 "\n", name, value);
}

static void make_tree(void)
{
    struct object *below = make(LARGE_BYTES, TYPE_LARGE, NULL, NULL);
    struct object *left = make(100, TYPE_TREE, NULL, below);
    struct object *right = make(100, TYPE_TREE, below, NULL);
    struct object *top = make(100, TYPE_TREE, left, right);

    memcpy((char *)below + 1000, "a text in a large block", 24);
    need(pheap_root_set(tx, "tree", top, TYPE_TREE), "root");
    say("top", (uint64_t)(uintptr_t)top);
    say("left", (uint64_t)(uintptr_t)left);
    say("below", (uint64_t)(uintptr_t)below);
}

static void lose(int count)
{
    struct object *one = make(64, TYPE_LOST, NULL, NULL);
    struct object *two = make(64, TYPE_LOST, one, one);

    one->first = two;
    for (int i = 2; i < count; i++)
        say("lost", (uint64_t)(uintptr_t)make(64, TYPE_LOST, NULL, NULL));
    say("lost", (uint64_t)(uintptr_t)one);
    say("lost", (uint64_t)(uintptr_t)two);
}

/* Blocks that are free again: of a transaction of their own, and of one that is aborted. */
static void make_free_ones(void)
{
    void *blocks[20];

    need(pheap_tx_begin(heap, &tx), "begin");
    for (int i = 0; i < 20; i++)
        blocks[i] = make(48, TYPE_LOST, NULL, NULL);
    need(pheap_tx_commit(tx), "commit");
    tx = NULL;
    need(pheap_tx_begin(heap, &tx), "begin");
    for (int i = 0; i < 20; i++)
        need(pheap_tx_free(tx, blocks[i]), "free");
    need(pheap_tx_commit(tx), "commit");
    tx = NULL;
    need(pheap_tx_begin(heap, &tx), "begin");
    make(3000, TYPE_LOST, NULL, NULL);
    pheap_tx_abort(tx);
    tx = NULL;
}

static void build(void)
{
    struct object *list;

    make_free_ones();
    need(pheap_tx_begin(heap, &tx), "begin");
    make_tree();
    list = make_list(NULL, NODES);
    lose(LOST / 2);
    need(pheap_tx_commit(tx), "commit");
    say("generation", (uint64_t)pheap_heap_checkpoint(heap));
    tx = NULL;
    need(pheap_tx_begin(heap, &tx), "begin");
    list = make_list(list, LATER);
    need(pheap_tx_commit(tx), "commit");
    tx = NULL;
    need(pheap_tx_begin(heap, &tx), "begin");
    lose(LOST - LOST / 2);
    need(pheap_tx_commit(tx), "commit");
    say("head", (uint64_t)(uintptr_t)list);
}

static uint64_t count(uint32_t type)
{
    uint64_t found = 0;

    for (void *object = NULL; (object = pheap_next_object(heap, object, type));)
        found++;
    return found;
}

static void check_heap(void)
{
    struct object *node = pheap_root(heap, "list", NULL), *top = pheap_root(heap, "tree", NULL);
    uint64_t length = 0;

    for (; node; node = node->first)
        length++;
    say("list", length);
    say("trees", count(TYPE_TREE));
    say("nodes", count(TYPE_NODE));
    say("lost", count(TYPE_LOST));
    say("large", count(TYPE_LARGE));
    say("text", top && strcmp((char *)((struct object *)top->first)->second + 1000,
                              "a text in a large block") == 0);
}

static void unname(void)
{
    need(pheap_tx_begin(heap, &tx), "begin");
    need(pheap_root_set(tx, "list", NULL, 0), "root");
    need(pheap_tx_commit(tx), "commit");
}

static void lose_two(void)
{
    need(pheap_tx_begin(heap, &tx), "begin");
    lose(2);
    need(pheap_tx_commit(tx), "commit");
}

static void make_holes(void)
{
    static const unsigned slices[] = {20, 2, 5, 2, 3, 2};
    void *blocks[6];

    need(pheap_tx_begin(heap, &tx), "begin");
    for (int i = 0; i < 6; i++)
        say("block", (uint64_t)(uintptr_t)(blocks[i] = make(slices[i] * 65536 - 1000, TYPE_LARGE,
                                                            NULL, NULL)));
    need(pheap_tx_commit(tx), "commit");
    tx = NULL;
    need(pheap_tx_begin(heap, &tx), "begin");
    for (int i = 0; i < 6; i += 2)
        need(pheap_tx_free(tx, blocks[i]), "free");
    need(pheap_tx_commit(tx), "commit");
}

static void stay(void)
{
    puts("ready");
    fflush(stdout);
    pause();
}

static const struct {
    const char *name;
    void (*run)(void);
    unsigned flags;
} commands[] = {
    {"build", build, PHEAP_CREATE}, {"lose", lose_two, 0},
    {"unname", unname, 0},          {"stay", stay, 0},
    {"check", check_heap, 0},       {"holes", make_holes, PHEAP_CREATE},
};

int main(int argc, char **argv)
{
    char problem[512] = "";
    struct pheap_options options = {.slot = 3, .problem = problem, .problem_bytes = sizeof problem};
    size_t i = 0;

    while (i < sizeof commands / sizeof commands[0] &&
           (argc != 3 || strcmp(argv[2], commands[i].name) != 0))
        i++;
    if (i == sizeof commands / sizeof commands[0])
        return 2;
    if (pheap_open(argv[1], commands[i].flags, &options, &heap) < 0) {
        fprintf(stderr, "known_graph: %s\n", problem);
        return 3;
    }
    commands[i].run();
    need(pheap_close(heap), "close");
    return 0;
}
