/*
 * typed_objects.c - for t/e2e/opened_heap.t: objects whose pointers are known.
 *
 *     typed_objects HEAP make      a node with a leaf at each kind of pointer, and words that look
 *                                  like pointers to decoys
 *     typed_objects HEAP register  tells the node's layout
 *     typed_objects HEAP forget    takes that back
 *     typed_objects HEAP count     "LEAVES DECOYS", as they are found from the node; those that are
 *                                  not whole do not count
 *     typed_objects HEAP grow      the node gets one more element, then loses it again
 *     typed_objects HEAP misuse    what must be refused is
 */
#include "../../core/pheap.h"

#include <stdio.h>
#include <string.h>

enum { TYPE_NODE = 1, TYPE_LEAF = 2, TYPE_DECOY = 3 };

#define ELEMENTS 5
#define LEAF     0x6c656166u

struct leaf {
    uint64_t number;
};

struct element {
    uint64_t decoy; /* an address */
    PHEAP_PTR(struct leaf) leaf;
};

struct node {
    uint64_t decoys[2];
    struct leaf *raw;
    PHEAP_PTR(struct leaf) self[2];
    struct pheap_ref ref;
    struct element elements[];
};

static const struct pheap_pointers pointers[] = {
    {offsetof(struct node, raw), 1, PHEAP_POINTER_RAW},
    {offsetof(struct node, self), 2, PHEAP_POINTER_SELF},
    {offsetof(struct node, ref), 1, PHEAP_POINTER_REF},
};
static const struct pheap_pointers of_element = {offsetof(struct element, leaf), 1,
                                                 PHEAP_POINTER_SELF};
static const struct pheap_layout layout = {
    sizeof(struct node), sizeof(struct element), 3, 1, pointers, &of_element};

static struct pheap *heap;

static void *make_object(struct pheap_tx *tx, size_t bytes, uint32_t type)
{
    void *made = NULL;

    PHEAP_TRY(tx, pheap_tx_alloc(tx, bytes, type, &made));
    return made;
}

static struct leaf *make_leaf(struct pheap_tx *tx)
{
    struct leaf *leaf = make_object(tx, sizeof *leaf, TYPE_LEAF);

    leaf->number = LEAF;
    return leaf;
}

static int make(void)
{
    int status;

    PHEAP_TX(heap)
    {
        size_t bytes = sizeof(struct node) + ELEMENTS * sizeof(struct element);
        struct node *node = make_object(tx, bytes, TYPE_NODE);

        node->raw = make_leaf(tx);
        node->ref = pheap_ref_of(heap, make_leaf(tx));
        for (int i = 0; i < 2; i++) {
            PHEAP_PTR_PUT(&node->self[i], make_leaf(tx));
            node->decoys[i] = (uintptr_t)make_object(tx, 64, TYPE_DECOY);
        }
        for (int i = 0; i < ELEMENTS; i++) {
            node->elements[i].decoy = (uintptr_t)make_object(tx, 64, TYPE_DECOY);
            PHEAP_PTR_PUT(&node->elements[i].leaf, make_leaf(tx));
        }
        PHEAP_TRY(tx, pheap_root_set(tx, "node", node, TYPE_NODE));
    }
    PHEAP_TX_END_WITH(status);
    return status;
}

static int tell(const struct pheap_layout *what)
{
    int status;

    PHEAP_TX(heap)
    {
        PHEAP_TRY(tx, pheap_type_register(tx, TYPE_NODE, what));
    }
    PHEAP_TX_END_WITH(status);
    return status;
}

static int resize_directly(size_t bytes)
{
    struct node *node = pheap_root(heap, "node", NULL);
    void *object = node;
    struct pheap_tx *tx = NULL;
    int status = pheap_tx_begin(heap, &tx);

    if (status == 0)
        status = pheap_tx_realloc(tx, &object, bytes);
    if (status == 0)
        status = pheap_root_set(tx, "node", object, TYPE_NODE);
    if (status < 0 || object == node)
        return status < 0 ? status : -EPROTO;
    if (pheap_tx_realloc(tx, &object, bytes) != 0 || pheap_root(heap, "node", NULL) != object)
        return -EPROTO;
    return pheap_tx_commit(tx);
}

static int grow(void)
{
    const struct node *node = pheap_root(heap, "node", NULL);
    size_t bytes = pheap_object_bytes(heap, node), longer = bytes + sizeof(struct element);
    struct element *last;
    int status;

    PHEAP_TX(heap)
    {
        void *object = pheap_root(heap, "node", NULL), *none = (char *)object + 8;

        if (pheap_tx_realloc(tx, &none, 100) != -EINVAL)
            PHEAP_TX_ABORT(tx);
        PHEAP_TRY(tx, pheap_tx_realloc(tx, &object, longer));
        PHEAP_TRY(tx, pheap_root_set(tx, "node", object, TYPE_NODE));
    }
    PHEAP_TX_END_WITH(status);
    node = pheap_root(heap, "node", NULL);
    last = (struct element *)((char *)(uintptr_t)node + bytes);
    if (status < 0 || pheap_object_bytes(heap, node) != longer ||
        pheap_object_type(heap, node) != TYPE_NODE || last->decoy || PHEAP_PTR_OF(&last->leaf))
        return status < 0 ? status : -EPROTO;
    return resize_directly(bytes);
}

static int is_leaf(const struct leaf *leaf)
{
    return leaf && pheap_object_type(heap, leaf) == TYPE_LEAF && leaf->number == LEAF &&
           pheap_object_bytes(heap, leaf) == sizeof *leaf;
}

static int count(void)
{
    const struct node *node = pheap_root(heap, "node", NULL);
    int leaves = is_leaf(node->raw) + is_leaf(pheap_deref(node->ref)), decoys = 0;

    for (int i = 0; i < 2; i++)
        leaves += is_leaf(PHEAP_PTR_OF(&node->self[i]));
    for (int i = 0; i < ELEMENTS; i++)
        leaves += is_leaf(PHEAP_PTR_OF(&node->elements[i].leaf));
    for (void *at = NULL; (at = pheap_next_object(heap, at, TYPE_DECOY)) != NULL;)
        decoys++;
    printf("%d %d\n", leaves, decoys);
    return 0;
}

static int misuse(void)
{
    static const struct pheap_pointers wrong[] = {
        {4, 1, PHEAP_POINTER_RAW},  {0, 9, PHEAP_POINTER_RAW}, {56, 1, PHEAP_POINTER_REF},
        {64, 1, PHEAP_POINTER_RAW}, {0, 0, PHEAP_POINTER_RAW}, {0, 1, 4}};
    static const struct pheap_pointers many[13];
    struct pheap_layout told = {64, 0, 13, 0, many, NULL};
    struct pheap_tx *tx = NULL;
    int failures = pheap_tx_begin(heap, &tx) != 0;

    failures += pheap_type_register(tx, 9, &told) != PHEAP_ERROR_LIMIT;
    told.runs = 1;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        told.pointers = &wrong[i];
        failures += pheap_type_register(tx, 9, &told) != -EINVAL;
    }
    told.runs = 0;
    told.element_bytes = 12;
    failures += pheap_type_register(tx, 9, &told) != -EINVAL;
    told.element_bytes = 0;
    for (uint32_t type = 100; type < 228; type++)
        failures += pheap_type_register(tx, type, &told) != 0;
    failures += pheap_type_register(tx, 9, &told) != PHEAP_ERROR_LIMIT;
    failures += pheap_type_register(tx, 227, &told) != 0;
    failures += pheap_type_register(tx, 100, NULL) != 0;
    failures += pheap_type_register(tx, 9, &told) != 0;
    pheap_tx_abort(tx);
    printf("%d\n", failures);
    return 0;
}

int main(int argc, char **argv)
{
    char problem[512] = "";
    struct pheap_options options = {.slot = 4, .problem = problem, .problem_bytes = sizeof problem};
    const char *what = argc == 3 ? argv[2] : "";
    int status = argc == 3 ? pheap_open(argv[1], PHEAP_CREATE, &options, &heap) : -EINVAL;

    if (status == 0 && strcmp(what, "make") == 0)
        status = make();
    else if (status == 0 && strcmp(what, "register") == 0)
        status = tell(&layout);
    else if (status == 0 && strcmp(what, "forget") == 0)
        status = tell(NULL);
    else if (status == 0 && strcmp(what, "grow") == 0)
        status = grow();
    else if (status == 0)
        status = strcmp(what, "misuse") == 0 ? misuse() : count();
    if (status == 0)
        status = pheap_close(heap);
    if (status < 0)
        printf("%s %s\n", pheap_error_text(status), problem);
    return status < 0;
}
