/*
 * open_heap.c - fuzz target: opening a heap. The newest generation is read, the log replayed, the
 * blocks derived. A heap that opens can be walked, changed and checkpointed; one that the checker
 * calls fine opens again after that.
 */
#include <stdio.h>
#include <stdlib.h>
#include "core/tx/opened.h"
#include "core/tx/roots.h"
#include "core/tx/transaction.h"
#include "recovery/check/check.h"
#include "t/fuzz/packed_pool.h"
#include "t/fuzz/target.h"

#define TYPE         2u
#define BLOCKS_MAX   10000u
#define NUMBER_LIMIT (1ull << 61)

static struct problem why;

static int open_heap(struct pheap **heap, const char *path, bool read_only)
{
    int status = opened_attach(heap, path, read_only, &why);

    if (status == 0)
        status = opened_load(*heap, &why);
    if (status < 0 && why.text[0] == 0)
        abort();
    if (status < 0 && *heap)
        (void)opened_close(*heap);
    return status;
}

static void walk(const struct pheap *heap)
{
    struct block block = {0};

    (void)root_find(heap, "words", NULL);
    for (unsigned i = 0; i < BLOCKS_MAX; i++)
        if (!blocks_next(&heap->blocks, block.address, TYPE, &block))
            break;
}

static void must(int status, const char *what)
{
    if (status == 0)
        return;
    fprintf(stderr, "opened, but: %s: %d %s\n", what, status, why.text);
    abort();
}

/* Its slot may be so full that there is no room. */
static void change(struct pheap *heap)
{
    struct pheap_tx *tx = NULL;
    void *block;
    int status = tx_begin(heap, &tx);

    must(status, "tx_begin");
    status = tx_alloc(tx, 100, TYPE, &block);
    if (status < 0)
        tx_abort(tx);
    else
        must(tx_commit(tx), "tx_commit");
}

static void ignore(void *context, const struct finding *finding)
{
    (void)context, (void)finding;
}

static bool is_called_fine(const char *path)
{
    static struct check_result result;
    const struct check_request request = {.path = path, .found = ignore};

    return check_pool(&request, &result, &why) == 0 && result.worst == SEVERITY_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = packed_pool_write(data, size);
    struct pheap *heap;
    int64_t number;
    bool is_fine;
    int status;

    if (open_heap(&heap, path, true) == 0) {
        walk(heap);
        (void)opened_close(heap);
    }
    is_fine = is_called_fine(path);
    if (open_heap(&heap, path, false) < 0)
        return 0;
    if (!opened_is_valid(heap))
        abort();
    walk(heap);
    change(heap);
    why = (struct problem){0};
    if (heap->pool.super.next_generation >=
        NUMBER_LIMIT) { /* the checker's SB-8: none can follow */
        (void)opened_close(heap);
        return 0;
    }
    number = opened_checkpoint(heap, 0, &why);
    must(number > 0 ? 0 : (int)number, "checkpoint");
    (void)opened_close(heap);
    status = open_heap(&heap, path, true);
    if (is_fine)
        must(status, "opened again");
    if (status == 0)
        (void)opened_close(heap);
    return 0;
}
