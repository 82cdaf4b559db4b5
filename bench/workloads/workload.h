/*
 * workload.h - what the workloads of make bench share: their arguments, their threads, their dice.
 *
 *     WORKLOAD THREADS [PERCENT]
 *
 * runs a fixed amount of work, split evenly over THREADS threads, then ends; PERCENT (100) scales
 * the amount. The work is the same on every run and under every allocator: the random numbers
 * depend on the thread's number alone, and nothing looks at the clock. One thread is the main
 * thread: a program that is single-threaded for libc. The harness itself allocates nothing.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS_MAX 64
#define KIB         ((size_t)1024)
#define MIB         (1024 * KIB)

struct worker {
    int index, count; /* this thread's number, and how many there are */
    uint64_t rounds;  /* its share of the work */
    uint64_t dice;    /* state of the random numbers */
    pthread_t thread;
    void (*run)(struct worker *worker);
};

/* Below `bound`, which is at most 2^32. */
static inline uint32_t random_below(uint64_t *dice, uint64_t bound)
{
    *dice = *dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((*dice >> 32) * bound) >> 32);
}

static inline size_t random_size(uint64_t *dice, size_t low, size_t high)
{
    return low + random_below(dice, high - low + 1);
}

/* Each doubling between low and high is as likely as the others: many small, a few large. */
static inline size_t random_size_by_doubling(uint64_t *dice, size_t low, size_t high)
{
    int doublings = 0;

    while (low << (doublings + 1) <= high)
        doublings++;
    low <<= random_below(dice, (uint64_t)doublings);
    return random_size(dice, low, 2 * low);
}

/* A block that is used: its first and its last byte are written. */
static inline void *make(size_t bytes)
{
    volatile char *block = malloc(bytes);

    if (!block) {
        fprintf(stderr, "workload: malloc(%zu) failed\n", bytes);
        exit(1);
    }
    block[0] = (char)bytes;
    block[bytes - 1] = 1;
    return (void *)(uintptr_t)block;
}

/* One byte of each page written, as a program does that fills a buffer, without its memcpy. */
static inline void touch_pages(void *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 4096)
        ((volatile char *)block)[i] = 1;
}

static inline void *worker_start(void *argument)
{
    struct worker *worker = argument;

    worker->run(worker);
    return NULL;
}

static inline void thread_start(pthread_t *thread, void *(*start)(void *), void *argument)
{
    if (pthread_create(thread, NULL, start, argument) != 0) {
        fprintf(stderr, "workload: pthread_create failed\n");
        exit(1);
    }
}

static inline int workload_main(int argc, char **argv, uint64_t rounds,
                                void (*run)(struct worker *worker))
{
    static struct worker workers[WORKERS_MAX];
    int count = argc > 1 ? atoi(argv[1]) : 0;
    uint64_t percent = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;

    if (count < 1 || count > WORKERS_MAX || percent < 1) {
        fprintf(stderr, "usage: %s THREADS [PERCENT]\n", argv[0]);
        return 2;
    }
    rounds = rounds * percent / 100 / (uint64_t)count;
    for (int i = 0; i < count; i++)
        workers[i] = (struct worker){i, count, rounds ? rounds : 1, (uint64_t)i + 1, 0, run};
    if (count == 1) {
        run(&workers[0]);
        return 0;
    }
    for (int i = 0; i < count; i++)
        thread_start(&workers[i].thread, worker_start, &workers[i]);
    for (int i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
    return 0;
}

#endif
