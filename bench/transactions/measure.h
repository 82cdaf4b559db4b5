/*
 * measure.h - what the programs of make bench-tx have in common: each measures one store of
 * transactions, and says what it found as lines "NAME NS".
 *
 *     PROGRAM DIRECTORY SECONDS NAME...       each measurement for so long
 *     PROGRAM DIRECTORY xCALLS NAME...        each one so many times: to count instructions
 *
 * A measurement runs in one or more threads, each with data of its own; what is said is the time
 * for one operation of all threads together.
 */
#ifndef PHEAP_BENCH_TRANSACTIONS_MEASURE_H
#define PHEAP_BENCH_TRANSACTIONS_MEASURE_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX   16
#define OBJECTS       4096 /* of a thread */
#define OBJECT_BYTES  64
#define DIRECTORY_MAX 3000

struct measurement {
    const char *name;
    void (*call)(unsigned thread, uint64_t i);
    unsigned each; /* operations of a call */
    unsigned threads;
};

struct run {
    _Alignas(128) const struct measurement *what; /* a cache line of its own */
    unsigned thread;
    double seconds;
    uint64_t calls_wanted, calls;
};

static inline double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static inline void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static inline void *run_thread(void *argument)
{
    struct run *run = argument;
    double end = now() + run->seconds;

    do {
        for (unsigned i = 0; i < 8; i++)
            run->what->call(run->thread, run->calls++);
    } while (run->calls_wanted ? run->calls < run->calls_wanted : now() < end);
    return NULL;
}

static inline void measure(const struct measurement *what, const char *how_long)
{
    struct run runs[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    uint64_t calls = 0;
    double start = now();

    for (unsigned t = 0; t < what->threads; t++) {
        runs[t] = (struct run){.what = what, .thread = t};
        if (how_long[0] == 'x')
            runs[t].calls_wanted = strtoull(how_long + 1, NULL, 10);
        else
            runs[t].seconds = atof(how_long);
        if (t > 0)
            pthread_create(&threads[t], NULL, run_thread, &runs[t]);
    }
    run_thread(&runs[0]);
    for (unsigned t = 1; t < what->threads; t++)
        pthread_join(threads[t], NULL);
    for (unsigned t = 0; t < what->threads; t++)
        calls += runs[t].calls;
    printf("%s %.1f\n", what->name, (now() - start) * 1e9 / (double)(calls * what->each));
    fflush(stdout);
}

static inline void measure_one(const struct measurement *all, unsigned count, const char *name,
                               const char *how_long)
{
    for (unsigned k = 0; k < count; k++)
        if (strcmp(name, all[k].name) == 0)
            measure(&all[k], how_long);
}

static inline void measure_named(const struct measurement *all, unsigned count, int argc,
                                 char **argv)
{
    for (int i = 3; i < argc; i++)
        measure_one(all, count, argv[i], argv[2]);
}

#endif
