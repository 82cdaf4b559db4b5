/* lifo.c - batches of 100 small objects, freed newest first: a parser's stack. */
#include "workload.h"

#define DEPTH 100

static void run(struct worker *worker)
{
    void *blocks[DEPTH];

    for (uint64_t round = 0; round < worker->rounds; round++) {
        size_t bytes = 16 * random_size(&worker->dice, 1, 16);

        for (int i = 0; i < DEPTH; i++)
            blocks[i] = make(bytes);
        for (int i = DEPTH; i-- > 0;)
            free(blocks[i]);
    }
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 800000, run);
}
