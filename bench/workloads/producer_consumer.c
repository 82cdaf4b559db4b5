/*
 * producer_consumer.c - THREADS pairs of threads: one allocates messages and queues them in batches
 * of 100, the other frees them. All that one thread allocates another frees.
 */
#include "workload.h"

#define BATCH 100
#define QUEUE 32

struct pipeline {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t produced, consumed, rounds;
    void *batches[QUEUE][BATCH];
};

static struct pipeline pipelines[WORKERS_MAX];

/* Waits until `produced - consumed` differs from `unwanted`. */
static void wait_while(struct pipeline *pipeline, uint64_t unwanted)
{
    pthread_mutex_lock(&pipeline->lock);
    while (pipeline->produced - pipeline->consumed == unwanted)
        pthread_cond_wait(&pipeline->changed, &pipeline->lock);
    pthread_mutex_unlock(&pipeline->lock);
}

static void count_one(struct pipeline *pipeline, uint64_t *counter)
{
    pthread_mutex_lock(&pipeline->lock);
    ++*counter;
    pthread_cond_signal(&pipeline->changed);
    pthread_mutex_unlock(&pipeline->lock);
}

static void *consume(void *argument)
{
    struct pipeline *pipeline = argument;

    for (uint64_t round = 0; round < pipeline->rounds; round++) {
        wait_while(pipeline, 0);
        for (int i = 0; i < BATCH; i++)
            free(pipeline->batches[round % QUEUE][i]);
        count_one(pipeline, &pipeline->consumed);
    }
    return NULL;
}

static void run(struct worker *worker)
{
    struct pipeline *pipeline = &pipelines[worker->index];
    pthread_t consumer;

    pthread_mutex_init(&pipeline->lock, NULL);
    pthread_cond_init(&pipeline->changed, NULL);
    pipeline->rounds = worker->rounds;
    thread_start(&consumer, consume, pipeline);
    for (uint64_t round = 0; round < worker->rounds; round++) {
        wait_while(pipeline, QUEUE);
        for (int i = 0; i < BATCH; i++)
            pipeline->batches[round % QUEUE][i] = make(random_size(&worker->dice, 16, 256));
        count_one(pipeline, &pipeline->produced);
    }
    pthread_join(consumer, NULL);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 160000, run);
}
