/*
 * exchange.c - batches of objects change hands through a shared table: a thread puts a batch that
 * it has allocated into a random place and frees, object by object, the batch that it finds there.
 * Nobody waits for anybody.
 */
#include "workload.h"

#include <stdatomic.h>

#define BATCH  100
#define PLACES 128

struct batch {
    void *objects[BATCH];
};

static _Atomic(struct batch *) places[PLACES];

static struct batch *batch_make(uint64_t *dice)
{
    struct batch *batch = make(sizeof *batch);

    for (int i = 0; i < BATCH; i++)
        batch->objects[i] = make(random_size_by_doubling(dice, 16, 1024));
    return batch;
}

static void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    for (int i = 0; i < BATCH; i++)
        free(batch->objects[i]);
    free(batch);
}

static void run(struct worker *worker)
{
    for (uint64_t round = 0; round < worker->rounds; round++) {
        struct batch *batch = batch_make(&worker->dice);

        batch_free(atomic_exchange(&places[random_below(&worker->dice, PLACES)], batch));
    }
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 300000, run);
}
