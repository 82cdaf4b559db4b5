/*
 * references.c - for t/e2e/transactions.t: references between two heaps.
 *
 *     references A B make     an object in each that refers to the other one, and looks at both
 *     references A B check    the same, opened in the other order, one at a time, and read-only
 *     references A B cloned   A is a clone: its reference leads to B, and B's to the original
 *
 * "fine" on stdout.
 */
#include "../../core/pheap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct object {
    struct pheap_ref other, itself;
    uint64_t number;
};

static struct pheap *heaps[2];
static char **paths;
static int wrong;

static void expect_at(int line, int right)
{
    wrong += !right;
    if (!right)
        printf("line %d\n", line);
}
#define EXPECT(right) expect_at(__LINE__, (right))

static void open_heap(int i, unsigned flags)
{
    struct pheap_options options = {.slot = (uint32_t)(5 + i)};
    int status = pheap_open(paths[i], flags, &options, &heaps[i]);

    if (status == 0)
        return;
    printf("%s: %s\n", paths[i], pheap_error_text(status));
    exit(1);
}

static struct object *object_of(int i)
{
    return (struct object *)pheap_root(heaps[i], "object", NULL);
}

static void make_object(int i)
{
    int status;

    PHEAP_TX(heaps[i])
    {
        void *made = NULL;

        PHEAP_TRY(tx, pheap_tx_alloc(tx, sizeof(struct object), 1, &made));
        ((struct object *)made)->number = (uint64_t)i;
        PHEAP_TRY(tx, pheap_root_set(tx, "object", made, 1));
    }
    PHEAP_TX_END_WITH(status);
    EXPECT(status == 0);
}

static void refer(int i, const struct object *other)
{
    int status;

    PHEAP_TX(heaps[i])
    {
        PHEAP_SET(tx, &object_of(i)->itself, pheap_ref_of(heaps[i], object_of(i)));
        PHEAP_SET(tx, &object_of(i)->other, pheap_ref_of(heaps[!i], other));
    }
    PHEAP_TX_END_WITH(status);
    EXPECT(status == 0);
}

static void look(int i)
{
    const struct object *object = object_of(i);

    EXPECT(object->number == (uint64_t)i);
    EXPECT(pheap_deref(object->itself) == object && pheap_ref_heap(object->itself) == heaps[i]);
    EXPECT(pheap_deref(object->other) == (heaps[!i] ? object_of(!i) : NULL));
    EXPECT(pheap_ref_heap(object->other) == heaps[!i]);
}

static void close_heap(int i)
{
    EXPECT(pheap_close(heaps[i]) == 0);
    heaps[i] = NULL;
}

/* What is not in a heap has no reference, and none leads beyond one's end. */
static void try_what_is_not_there(void)
{
    struct pheap_ref none = {0, 0}, ref = pheap_ref_of(heaps[0], object_of(0));

    EXPECT(pheap_deref(none) == NULL && pheap_ref_heap(none) == NULL);
    EXPECT(pheap_ref_of(heaps[0], &none).pool == 0 && pheap_ref_of(heaps[0], NULL).offset == 0);
    EXPECT(pheap_ref_of(heaps[0], object_of(1)).offset == 0);
    EXPECT(pheap_deref(ref) == object_of(0));
    ref.offset += (uint64_t)1 << 38;
    EXPECT(pheap_deref(ref) == NULL);
    ref.offset = 64; /* the header */
    EXPECT(pheap_deref(ref) == NULL);
}

static void make(void)
{
    for (int i = 0; i < 2; i++) {
        open_heap(i, PHEAP_CREATE);
        make_object(i);
    }
    for (int i = 0; i < 2; i++)
        refer(i, object_of(!i));
    try_what_is_not_there();
    for (int i = 0; i < 2; i++)
        EXPECT(pheap_heap_checkpoint(heaps[i]) > 0);
}

static void check(void)
{
    for (int i = 1; i >= 0; i--) {
        open_heap(i, PHEAP_READ_ONLY);
        look(i);
    }
    look(1);
    close_heap(0);
    look(1);
    open_heap(0, PHEAP_READ_ONLY);
}

static void check_clone(void)
{
    open_heap(0, 0);
    open_heap(1, 0);
    EXPECT(pheap_deref(object_of(0)->other) == object_of(1));
    EXPECT(pheap_deref(object_of(0)->itself) == NULL);
    EXPECT(pheap_deref(object_of(1)->other) == NULL);
}

int main(int argc, char **argv)
{
    int clones = argc == 4 && strcmp(argv[3], "cloned") == 0;

    if (argc != 4)
        return 2;
    paths = argv + 1;
    if (clones)
        check_clone();
    else if (strcmp(argv[3], "make") == 0)
        make();
    else
        check();
    for (int i = 0; i < 2; i++) {
        if (!clones)
            look(i);
    }
    close_heap(0);
    close_heap(1);
    if (!wrong)
        printf("fine\n");
    return wrong != 0;
}
