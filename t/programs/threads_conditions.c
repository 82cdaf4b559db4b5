/*
 * threads_conditions.c - 16 threads, mutexes and condition variables: a token goes round a ring,
 * and between turns each thread works on blocks of its own. Whatever the scheduling, the output
 * is the same, and it depends on every block. Arguments: turns of the ring (default 7000).
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 16
#define BLOCKS  600

static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed[THREADS];
static int turn;
static uint64_t token = 1;
static int rounds = 7000;

struct worker {
    int id;
    uint64_t state;
    struct block {
        size_t bytes;
        unsigned char *data;
    } blocks[BLOCKS];
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Frees, makes, grows and reads blocks; the result depends on what is in them. */
static uint64_t work(struct worker *worker)
{
    uint64_t sum = 0;

    for (int i = 0; i < 60; i++) {
        struct block *block = &worker->blocks[next_random(&worker->state) % BLOCKS];
        size_t bytes = next_random(&worker->state) % 3000 + 1;

        if (next_random(&worker->state) % 2) {
            free(block->data);
            block->data = malloc(bytes);
            block->bytes = 0;
        } else {
            block->data = realloc(block->data, bytes);
        }
        if (!block->data)
            abort();
        if (bytes > block->bytes)
            memset(block->data + block->bytes, (int)worker->state, bytes - block->bytes);
        block->bytes = bytes;
        for (size_t at = 0; at < bytes; at += 5)
            sum = sum * 31 + block->data[at];
    }
    return sum;
}

static void *run(void *argument)
{
    struct worker *worker = argument;

    for (int round = 0; round < rounds; round++) {
        uint64_t sum = work(worker);

        pthread_mutex_lock(&ring_lock);
        while (turn != worker->id)
            pthread_cond_wait(&turn_changed[worker->id], &ring_lock);
        token = (token ^ sum) * 0x9e3779b97f4a7c15u;
        if (worker->id == 0 && round % 50 == 0) {
            printf("%d %016llx\n", round, (unsigned long long)token);
            fflush(stdout);
        }
        turn = (turn + 1) % THREADS;
        pthread_cond_signal(&turn_changed[turn]);
        pthread_mutex_unlock(&ring_lock);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS];
    pthread_t threads[THREADS];

    if (argc > 1)
        rounds = atoi(argv[1]);
    for (int i = 0; i < THREADS; i++) {
        pthread_cond_init(&turn_changed[i], NULL);
        workers[i].id = i;
        workers[i].state = 1000u + (unsigned)i;
    }
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, run, &workers[i]) != 0)
            return 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("end %016llx\n", (unsigned long long)token);
    return 0;
}
