/*
 * instructions.c - loops around malloc and free that add as little as can be: what
 * bench/instructions.py counts the instructions of, as the difference between two runs.
 *
 *     instructions pair|lifo|random BYTES PAIRS
 *
 *   pair     malloc, free, malloc, free ...
 *   lifo     100 mallocs, then 100 frees, the newest first
 *   random   a table of 1,000 blocks of which random ones are freed and made anew
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 100
#define TABLE 1000

static volatile char *table[TABLE];

/* Written to, so that the compiler cannot take malloc and free together away. */
static inline volatile char *make(size_t bytes)
{
    volatile char *block = malloc(bytes);

    *block = 1;
    return block;
}

static void run_pair(size_t bytes, uint64_t pairs)
{
    for (; pairs > 0; pairs--)
        free((void *)(uintptr_t)make(bytes));
}

static void run_lifo(size_t bytes, uint64_t pairs)
{
    for (uint64_t i = 0; i < pairs; i += DEPTH) {
        for (int j = 0; j < DEPTH; j++)
            table[j] = make(bytes);
        for (volatile char **end = table + DEPTH; end > table;)
            free((void *)(uintptr_t) * --end);
    }
}

static void run_random(size_t bytes, uint64_t pairs)
{
    uint64_t dice = 1;

    for (; pairs > 0; pairs--) {
        volatile char **place;

        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        place = &table[dice * 2685821657736338717u % TABLE]; /* xorshift64* */
        free((void *)(uintptr_t)*place);
        *place = make(bytes);
    }
}

int main(int argc, char **argv)
{
    size_t bytes = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t pairs = argc == 4 ? strtoull(argv[3], NULL, 10) : 0;

    if (bytes && pairs && strcmp(argv[1], "pair") == 0)
        run_pair(bytes, pairs);
    else if (bytes && pairs && strcmp(argv[1], "lifo") == 0)
        run_lifo(bytes, pairs);
    else if (bytes && pairs && strcmp(argv[1], "random") == 0)
        run_random(bytes, pairs);
    else {
        fprintf(stderr, "usage: instructions pair|lifo|random BYTES PAIRS\n");
        return 2;
    }
    return 0;
}
