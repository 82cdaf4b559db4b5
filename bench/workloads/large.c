/* large.c - 12 blocks of 256 KiB to 8 MiB of which random ones are replaced: images, matrices. */
#include "workload.h"

#define BLOCKS 12

static void run(struct worker *worker)
{
    void *blocks[BLOCKS] = {NULL};

    for (uint64_t round = 0; round < worker->rounds; round++) {
        uint32_t i = random_below(&worker->dice, BLOCKS);
        size_t bytes = random_size_by_doubling(&worker->dice, 256 * KIB, 8 * MIB);

        free(blocks[i]);
        blocks[i] = make(bytes);
        touch_pages(blocks[i], bytes);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 8000, run);
}
