/*
 * pointers.c - self-relative pointers, as a program in C or C++ has them.
 *
 *     pointers HEAP make     a list of 100 nodes and a ring of one, in every way of writing
 *     pointers HEAP check    the same is there: "fine"
 *     pointers HEAP lose     the list's second half is cut off
 */
#include <stdio.h>
#include <string.h>
#include "../../core/pheap.h"

#define NODES     100u
#define TYPE_NODE 7u

struct node {
    uint64_t value;
    PHEAP_PTR(struct node) next;
    PHEAP_PTR(char) text;
};

static int expect_at(int line, int right)
{
    if (!right)
        printf("line %d\n", line);
    return right ? 0 : 1;
}
#define EXPECT(right) (wrong += expect_at(__LINE__, (right)))

static struct node *make_node(struct pheap_tx *tx, uint64_t value)
{
    void *made = NULL;

    if (pheap_tx_alloc(tx, sizeof(struct node), TYPE_NODE, &made) < 0)
        exit(1);
    ((struct node *)made)->value = value;
    return (struct node *)made;
}

/* What no heap is needed for. */
static int try_plain(void)
{
    struct node nodes[3];
    PHEAP_PTR(uint64_t) itself;
    char *inside = (char *)&nodes[1];
    int wrong = 0;

    memset((void *)nodes, 0, sizeof nodes);
    EXPECT(sizeof nodes[0].next == 8 && sizeof itself == 8);
    EXPECT(PHEAP_PTR_OF(&nodes[0].next) == NULL);
    for (int i = 0; i < 3; i++) {
        PHEAP_PTR_PUT(&nodes[1].next, &nodes[i]);
        EXPECT(PHEAP_PTR_OF(&nodes[1].next) == &nodes[i]);
    }
    for (size_t at = 0; at < sizeof nodes[1]; at++) { /* it points to itself at one of them */
        PHEAP_PTR_PUT(&nodes[1].text, inside + at);
        EXPECT(PHEAP_PTR_OF(&nodes[1].text) == inside + at);
    }
    PHEAP_PTR_PUT(&itself, (uint64_t *)(void *)&itself);
    EXPECT(PHEAP_PTR_OF(&itself) == (uint64_t *)(void *)&itself);
    PHEAP_PTR_PUT(&itself, NULL);
    EXPECT(PHEAP_PTR_OF(&itself) == NULL && itself.pheap_word == 0);
#ifdef __cplusplus
    nodes[2].next = nodes[1].next; /* at another place, to the same */
    EXPECT(nodes[2].next == nodes[1].next && nodes[2].next->value == nodes[1].next->value);
    EXPECT(nodes[2].next.pheap_word != nodes[1].next.pheap_word);
#endif
    return wrong;
}

/* The head in a direct transaction, the rest in one of PHEAP_TX. */
static int make_list(struct pheap *heap)
{
    struct pheap_tx *direct = NULL;
    struct node *head;
    void *read = NULL;
    int status, wrong = 0;

    EXPECT(pheap_tx_begin(heap, &direct) == 0);
    head = make_node(direct, NODES);
    EXPECT(pheap_root_set(direct, "list", head, TYPE_NODE) == 0);
    EXPECT(pheap_tx_write_ptr(direct, &head->next, head) == 0);
    EXPECT(pheap_tx_read_ptr(direct, &head->next, &read) == 0 && read == head);
    EXPECT(pheap_tx_commit(direct) == 0);
    for (uint64_t i = NODES - 1; i > 0; i--) {
        PHEAP_TX(heap)
        {
            struct node *node = make_node(tx, i), *second = PHEAP_PTR_GET(tx, &head->next);

            PHEAP_PTR_PUT(&node->text, (char *)&node->value);
            PHEAP_PTR_SET(tx, &node->next, second == head ? NULL : second);
            PHEAP_PTR_SET(tx, &head->next, node);
        }
        PHEAP_TX_END_WITH(status);
        EXPECT(status == 0);
    }
    PHEAP_TX(heap)
    {
#ifdef __cplusplus
        PHEAP_SET(tx, &head->text, nullptr); /* not as bytes */
        PHEAP_SET(tx, &head->text, PHEAP_GET(tx, &head->next)->text.get());
        EXPECT(PHEAP_GET(tx, &head->text) == head->next->text);
#endif
        PHEAP_PTR_SET(tx, &head->next, NULL);
        EXPECT(PHEAP_PTR_GET(tx, &head->next) == NULL);
        PHEAP_TX_ABORT(tx);
    }
    PHEAP_TX_END_WITH(status);
    EXPECT(status == -ECANCELED);
    return wrong;
}

static int cut_list(struct pheap *heap)
{
    struct node *node = (struct node *)pheap_root(heap, "list", NULL);
    int status;

    for (unsigned i = 0; i < NODES / 2; i++)
        node = PHEAP_PTR_OF(&node->next);
    PHEAP_TX(heap)
    {
        PHEAP_PTR_SET(tx, &node->next, NULL);
    }
    PHEAP_TX_END_WITH(status);
    return status != 0;
}

static int check_list(const struct pheap *heap)
{
    uint32_t type = 0;
    struct node *node = (struct node *)pheap_root(heap, "list", &type);
    uint64_t value = 0;
    int wrong = 0;

    EXPECT(node != NULL && type == TYPE_NODE && node->value == NODES);
    while (node && (node = PHEAP_PTR_OF(&node->next)) != NULL) {
        EXPECT(node->value == ++value);
        EXPECT(PHEAP_PTR_OF(&node->text) == (char *)&node->value);
    }
    EXPECT(value == NODES - 1);
    return wrong;
}

static int run(struct pheap *heap, const char *what)
{
    if (strcmp(what, "make") == 0)
        return try_plain() + make_list(heap);
    return strcmp(what, "lose") == 0 ? cut_list(heap) : check_list(heap);
}

int main(int argc, char **argv)
{
    struct pheap *heap;
    unsigned flags;
    int status, wrong;

    if (argc != 3)
        return 2;
    flags = strcmp(argv[2], "check") == 0 ? PHEAP_READ_ONLY : PHEAP_CREATE;
    status = pheap_open(argv[1], flags, NULL, &heap);
    if (status < 0) {
        printf("%s\n", pheap_error_text(status));
        return 1;
    }
    wrong = run(heap, argv[2]);
    wrong += pheap_close(heap) != 0;
    if (!wrong)
        printf("fine\n");
    return wrong != 0;
}
