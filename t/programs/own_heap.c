/*
 * own_heap.c - the process's own heap by its handle (pheap_default()). Gives a list the name
 * "list", takes a checkpoint, then prints what the name leads to every 10 ms, N times. With
 * `refused` it prints what cannot be done with that handle, and how many names there may be.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../../core/pheap.h"

#define TYPE 7

struct item {
    struct item *next;
    int number;
};

static void show(const char *what, int64_t status)
{
    printf("%s %lld\n", what, (long long)status);
}

static void refused(struct pheap *heap)
{
    struct pheap_tx *tx = NULL;
    char *block = (char *)malloc(100), name[16];
    int i, on_stack, status = 0;

    show("begin", pheap_tx_begin(heap, &tx));
    show("optimistic", pheap_tx_begin_optimistic(heap, &tx));
    show("close", pheap_close(heap));
    show("sync", pheap_sync(heap));
    show("bytes", pheap_object_bytes(heap, block) >= 100);
    show("bytes of none", pheap_object_bytes(heap, &on_stack));
    show("type", pheap_object_type(heap, block));
    show("next", pheap_next_object(heap, NULL, 0) != NULL);
    show("ref", pheap_ref_of(heap, block).pool);
    show("stack", pheap_root_put(heap, "stack", &on_stack, 0));
    show("no name", pheap_root_put(heap, "", block, 0));
    for (i = 0; status == 0 && i < 1000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        status = pheap_root_put(heap, name, block, 0);
    }
    show("names", i - 1);
    show("then", status);
    show("taken away", pheap_root_put(heap, "n3", NULL, 0));
    show("gone", pheap_root(heap, "n3", NULL) == NULL);
    show("another", pheap_root_put(heap, "another", block, 0));
    show("checkpoint", pheap_heap_checkpoint(heap) > 0);
}

static int sum(const struct item *item)
{
    int found = 0;

    for (; item; item = item->next)
        found += item->number;
    return found;
}

static int make_list(struct pheap *heap)
{
    struct item *first = NULL;
    int i;

    for (i = 1; i <= 10; i++) {
        struct item *item = (struct item *)malloc(sizeof *item);

        if (!item)
            return -1;
        item->next = first;
        item->number = i;
        first = item;
    }
    return pheap_root_put(heap, "list", first, TYPE);
}

int main(int argc, char **argv)
{
    const struct timespec step = {0, 10000000};
    struct pheap *heap = pheap_is_present() ? pheap_default() : NULL;
    int i;

    if (!heap || argc < 2)
        return 2;
    if (strcmp(argv[1], "refused") == 0) {
        refused(heap);
        return 0;
    }
    if (make_list(heap) < 0)
        return 1;
    show("generation", pheap_heap_checkpoint(heap));
    for (i = 0; i < atoi(argv[1]); i++) {
        uint32_t type = 0;
        struct item *list = (struct item *)pheap_root(heap, "list", &type);

        printf("%d of type %u\n", sum(list), type);
        fflush(stdout);
        nanosleep(&step, NULL);
    }
    return 0;
}
