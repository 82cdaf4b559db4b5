/* medium.c - 200 blocks of 8 to 256 KiB of which random ones are replaced: a cache of documents. */
#include "workload.h"

#define BLOCKS 200

static void run(struct worker *worker)
{
    void *blocks[BLOCKS] = {NULL};

    for (uint64_t round = 0; round < worker->rounds; round++) {
        uint32_t i = random_below(&worker->dice, BLOCKS);
        size_t bytes = random_size_by_doubling(&worker->dice, 8 * KIB, 256 * KIB);

        free(blocks[i]);
        blocks[i] = make(bytes);
        touch_pages(blocks[i], bytes);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 800000, run);
}
