/*
 * collect.c - see collect.h and README.md.
 *
 * What must always be true: no block is freed that was reached from a root in what the heap is when
 * it is freed; so nobody writes the heap between the mark and the last free.
 */
#include "recovery/collect/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/tx/opened.h"
#include "core/tx/transaction.h"
#include "recovery/collect/garbage.h"
#include "recovery/collect/program.h"

#define BATCH_BLOCKS  65536u
#define CHECKPOINT_NS 5000000000u

/* --- freeing --- */

struct freeing {
    struct pheap *heap;
    int status;
    uint32_t count;
    uint64_t addresses[BATCH_BLOCKS];
};

static int free_batch(struct freeing *freeing)
{
    struct pheap_tx *tx = NULL;
    int status = tx_begin(freeing->heap, &tx);

    for (uint32_t i = 0; status == 0 && i < freeing->count; i++)
        status = tx_free(tx, (void *)freeing->addresses[i]);
    freeing->count = 0;
    if (status == 0)
        return tx_commit(tx);
    if (tx)
        tx_abort(tx);
    return status;
}

static bool add_block(void *context, uint64_t address)
{
    struct freeing *freeing = context;

    freeing->addresses[freeing->count++] = address;
    if (freeing->count == BATCH_BLOCKS)
        freeing->status = free_batch(freeing);
    return freeing->status == 0;
}

/* Crash: what was committed is free; the rest is found again. */
static int free_all(struct pheap *heap, const struct garbage *garbage,
                    struct collect_result *result, struct problem *why)
{
    static struct freeing freeing;
    int64_t number;

    memset(&freeing, 0, sizeof freeing);
    freeing.heap = heap;
    garbage_each(garbage, add_block, &freeing);
    if (freeing.status == 0 && freeing.count > 0)
        freeing.status = free_batch(&freeing);
    if (freeing.status < 0)
        return problem_set(why, freeing.status, "cannot free blocks of the heap in pool '%s': %s",
                           heap->pool.path, status_text(freeing.status));
    number = opened_checkpoint(heap, CHECKPOINT_NS, why);
    result->generation = number > 0 ? (uint64_t)number : 0;
    result->freed_blocks = result->blocks;
    result->freed_bytes = result->bytes;
    return number < 0 ? (int)number : 0;
}

static int mark_and_free(struct pheap *heap, const char *path, struct collect_result *result,
                         struct problem *why)
{
    struct garbage garbage = {0};
    int status = collect_mark(path, &garbage, result, why);

    if (status == 0 && result->blocks > 0) {
        status = opened_load(heap, why);
        if (status == 0)
            status = free_all(heap, &garbage, result, why);
    }
    garbage_forget(&garbage);
    return status;
}

static int only_count(const char *path, struct collect_result *result, struct problem *why)
{
    struct garbage garbage = {0};
    int status = collect_mark(path, &garbage, result, why);

    garbage_forget(&garbage);
    return status;
}

static int free_opened(const char *path, struct collect_result *result, struct problem *why)
{
    struct pheap *heap;
    int status = opened_attach(&heap, path, false, why);

    if (status < 0)
        return status;
    status = mark_and_free(heap, path, result, why);
    (void)opened_close(heap);
    return status;
}

/* By its newest generation that is no crash image; where there are crash images alone, by these,
 * which programs leave. */
static int is_programs(const char *path, bool *out, struct problem *why)
{
    struct pool pool;
    int status = pool_open(&pool, path, POOL_READ, why);

    *out = false;
    if (status < 0)
        return status;
    *out = pool.super.generation_count > 0;
    for (uint32_t i = 0; i < pool.super.generation_count; i++)
        if (pool.super.generations[i].kind != GENERATION_CRASH)
            *out = pool.super.generations[i].kind == GENERATION_PROCESS;
    pool_close(&pool);
    return 0;
}

int collect_heap(const struct collect_request *request, struct collect_result *result,
                 struct problem *why)
{
    bool programs;
    int status = is_programs(request->path, &programs, why);

    memset(result, 0, sizeof *result);
    if (status < 0)
        return status;
    if (programs && request->from_programs)
        return collect_program(request, result, why);
    if (programs || request->only_says)
        return only_count(request->path, result, why);
    return free_opened(request->path, result, why);
}
