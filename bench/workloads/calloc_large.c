/*
 * calloc_large.c - zeroed blocks of 64 KiB to 2 MiB, sixteen alive, of which every fourth page is
 * read and written: tables that are mostly empty. Ends with status 1 where a byte is not zero.
 */
#include "workload.h"

#define ALIVE 16
#define STEP  (4 * 4096)

static void run(struct worker *worker)
{
    char *blocks[ALIVE] = {NULL};

    for (uint64_t round = 0; round < worker->rounds; round++) {
        uint32_t i = random_below(&worker->dice, ALIVE);
        size_t bytes = random_size_by_doubling(&worker->dice, 64 * KIB, 2 * MIB);

        free(blocks[i]);
        blocks[i] = calloc(1, bytes);
        if (!blocks[i])
            exit(1);
        for (size_t at = 0; at < bytes; at += STEP) {
            if (((volatile char *)blocks[i])[at])
                exit(1);
            blocks[i][at] = 1;
        }
    }
    for (int i = 0; i < ALIVE; i++)
        free(blocks[i]);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 12000, run);
}
