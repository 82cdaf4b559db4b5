/*
 * realloc_growth.c - 64 vectors grow by half, one after the other, up to 256 KiB and one in sixteen
 * up to 4 MiB, then start anew; beside each a string grows by 1 to 64 bytes a step to 2 KiB.
 */
#include "workload.h"

#define VECTORS    64
#define STRING_MAX (2 * KIB)

struct buffer {
    char *bytes;
    size_t size;
};

static void grow(struct buffer *buffer, size_t size)
{
    char *bytes = realloc(buffer->bytes, size);

    if (!bytes)
        exit(1);
    touch_pages(bytes + buffer->size, size - buffer->size);
    bytes[size - 1] = 1;
    buffer->bytes = bytes;
    buffer->size = size;
}

static void start_anew(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){NULL, 0};
}

static void run(struct worker *worker)
{
    struct buffer vectors[VECTORS] = {{NULL, 0}}, strings[VECTORS] = {{NULL, 0}};

    for (uint64_t round = 0; round < worker->rounds; round++) {
        uint32_t i = random_below(&worker->dice, VECTORS);

        if (vectors[i].size > (i % 16 ? 256 * KIB : 4 * MIB))
            start_anew(&vectors[i]);
        grow(&vectors[i], vectors[i].size + vectors[i].size / 2 + 16);
        if (strings[i].size > STRING_MAX)
            start_anew(&strings[i]);
        for (int step = 0; step < 8; step++)
            grow(&strings[i], strings[i].size + random_size(&worker->dice, 1, 64));
    }
    for (int i = 0; i < VECTORS; i++) {
        free(vectors[i].bytes);
        free(strings[i].bytes);
    }
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 250000, run);
}
