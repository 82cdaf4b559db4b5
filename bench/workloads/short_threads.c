/*
 * short_threads.c - THREADS chains of threads that live for 400 allocations each: a thread frees
 * what its predecessor left, frees three quarters of its own and leaves the rest behind.
 */
#include "workload.h"

#define BLOCKS 400
#define LEFT   (BLOCKS / 4)

struct life {
    uint64_t dice;
    void *left[LEFT];
};

static void *live(void *argument)
{
    struct life *life = argument;
    void *blocks[BLOCKS];

    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = make(random_size(&life->dice, 16, 512));
    for (int i = 0; i < LEFT; i++) {
        free(life->left[i]);
        life->left[i] = blocks[4 * i];
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (i % 4)
            free(blocks[i]);
    }
    return NULL;
}

static void run(struct worker *worker)
{
    struct life life = {worker->dice, {NULL}};
    pthread_t thread;

    for (uint64_t round = 0; round < worker->rounds; round++) {
        thread_start(&thread, live, &life);
        pthread_join(thread, NULL);
    }
    for (int i = 0; i < LEFT; i++)
        free(life.left[i]);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 8000, run);
}
