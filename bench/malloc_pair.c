/*
 * malloc_pair.c - what a malloc and a free cost together, in one of three patterns. Prints the
 * nanoseconds of one pair, the least of several runs. Linked with nothing but libc: the
 * allocator measured is the one preloaded.
 *
 *   pair     malloc, free, malloc, free ...
 *   lifo     100 mallocs, then 100 frees, the newest first
 *   random   a table of 1,000 blocks of which random ones are freed and made anew
 *
 * Usage: malloc_pair PATTERN BYTES [PAIRS]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIFO_DEPTH   100
#define RANDOM_TABLE 1000
#define RUNS         5

static void *table[RANDOM_TABLE];

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* The block is written to, and the compiler may not take malloc and free together away. */
static void *make(size_t bytes)
{
    char *block = malloc(bytes);

    if (block == NULL)
        abort();
    *(volatile char *)block = 1;
    return block;
}

static void run_pair(size_t bytes, long pairs)
{
    for (long i = 0; i < pairs; i++)
        free(make(bytes));
}

static void run_lifo(size_t bytes, long pairs)
{
    for (long i = 0; i < pairs; i += LIFO_DEPTH) {
        for (int j = 0; j < LIFO_DEPTH; j++)
            table[j] = make(bytes);
        for (int j = LIFO_DEPTH; j-- > 0;)
            free(table[j]);
    }
}

static void run_random(size_t bytes, long pairs)
{
    uint64_t state = 1;

    for (long i = 0; i < pairs; i++) {
        void **place;

        state = state * 6364136223846793005u + 1442695040888963407u;
        place = &table[(state >> 33) % RANDOM_TABLE];
        free(*place);
        *place = make(bytes);
    }
    for (int i = 0; i < RANDOM_TABLE; i++) {
        free(table[i]);
        table[i] = NULL;
    }
}

int main(int argc, char **argv)
{
    void (*run)(size_t, long) = run_pair;
    long pairs = argc > 3 ? atol(argv[3]) : 2000000;
    double best_ns = 1e18;

    if (argc < 3) {
        fprintf(stderr, "usage: %s pair|lifo|random BYTES [PAIRS]\n", argv[0]);
        return 2;
    }
    if (strcmp(argv[1], "lifo") == 0)
        run = run_lifo;
    else if (strcmp(argv[1], "random") == 0)
        run = run_random;
    for (int i = 0; i < RUNS; i++) {
        double start_ns = now_ns(), took_ns;

        run((size_t)atol(argv[2]), pairs);
        took_ns = now_ns() - start_ns;
        if (took_ns < best_ns)
            best_ns = took_ns;
    }
    printf("%.2f\n", best_ns / (double)pairs);
    return 0;
}
