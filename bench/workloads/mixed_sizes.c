/*
 * mixed_sizes.c - in the way of sh6bench: batches of equal blocks of mixed sizes up to 1,000 bytes,
 * freed half in order and half backwards, one in sixteen surviving for some rounds.
 */
#include "workload.h"

#define BATCH     120
#define SURVIVORS 4096

static void run(struct worker *worker)
{
    void **survivors = calloc(SURVIVORS, sizeof *survivors);
    void *blocks[BATCH];

    if (!survivors)
        exit(1);
    for (uint64_t round = 0; round < worker->rounds; round++) {
        size_t bytes = random_size_by_doubling(&worker->dice, 8, 1000);

        for (int i = 0; i < BATCH; i++)
            blocks[i] = make(bytes);
        for (int i = 0; i < BATCH; i += 16) {
            void **place = &survivors[random_below(&worker->dice, SURVIVORS)];
            void *older = *place;

            *place = blocks[i];
            blocks[i] = older;
        }
        for (int i = 0; i < BATCH; i += 2)
            free(blocks[i]);
        for (int i = BATCH - 1; i > 0; i -= 2)
            free(blocks[i]);
    }
    for (int i = 0; i < SURVIVORS; i++)
        free(survivors[i]);
    free(survivors);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 300000, run);
}
