/*
 * large_heap.c - a heap of many GiB that takes little memory: large blocks of which one page or
 * none is written, a third of them freed again, and a list of small ones. A page that is written
 * holds the only pointer to a block of 48 bytes. Prints "forgotten N", the blocks that nothing
 * points to, and "ready", and waits to be killed; each line on its standard input writes to some of
 * the pages. Arguments: how many small blocks, how many large.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define LARGE_BYTES 150000
#define SMALL_BYTES 104
#define HELD_BYTES  48

struct small {
    struct small *next;
    char fill[SMALL_BYTES - sizeof(struct small *)];
};

static struct small *list;
static char **larges;

static void make_small(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct small *small = malloc(sizeof *small);

        if (!small)
            exit(1);
        small->next = list;
        list = small;
    }
}

/* Every third is freed, every fifth forgotten. */
static void make_large(uint64_t count)
{
    uint64_t forgotten = 0;

    larges = calloc(count + 1, sizeof *larges);
    for (uint64_t i = 0; i < count; i++)
        if (!larges || !(larges[i] = malloc(LARGE_BYTES)))
            exit(1);
    for (uint64_t i = 0; i < count; i++) {
        if (i % 3 == 0)
            free(larges[i]);
        else if (i % 16 == 1)
            *(void **)(void *)(larges[i] + LARGE_BYTES / 16 * 8) = malloc(HELD_BYTES);
        if (i % 3 != 0 && i % 5 == 0)
            forgotten += i % 16 == 1 ? 2 : 1;
        if (i % 3 == 0 || i % 5 == 0)
            larges[i] = NULL;
    }
    printf("forgotten %lu\n", forgotten);
}

int main(int argc, char **argv)
{
    uint64_t small = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
    uint64_t large = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    char line[16];

    make_large(large);
    make_small(small);
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        for (uint64_t i = 0; i < large; i += 100)
            if (larges[i])
                larges[i][0]++;
        puts("ready");
        fflush(stdout);
    }
    return 0;
}
