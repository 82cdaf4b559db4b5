/*
 * mixed_shared.c - in the way of sh8bench: blocks of mixed sizes up to 1,000 bytes, most freed by
 * their maker at once, one in eight put into a table that all threads share and freed by whoever
 * needs its place.
 */
#include "workload.h"

#include <stdatomic.h>

#define BATCH  64
#define SHARED 8192

static _Atomic(void *) shared[SHARED];

static void run(struct worker *worker)
{
    void *blocks[BATCH];

    for (uint64_t round = 0; round < worker->rounds; round++) {
        for (int i = 0; i < BATCH; i++)
            blocks[i] = make(random_size_by_doubling(&worker->dice, 8, 1000));
        for (int i = 0; i < BATCH; i++) {
            if (i % 8 == 0)
                blocks[i] =
                    atomic_exchange(&shared[random_below(&worker->dice, SHARED)], blocks[i]);
            free(blocks[i]);
        }
    }
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 600000, run);
}
