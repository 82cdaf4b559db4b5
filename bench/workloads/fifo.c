/* fifo.c - a queue of 2,000 small objects, the oldest freed as a new one comes: messages. */
#include "workload.h"

#define QUEUE 2000

static void run(struct worker *worker)
{
    void *queue[QUEUE] = {NULL};
    uint64_t place = 0;

    for (uint64_t round = 0; round < worker->rounds; round++) {
        free(queue[place]);
        queue[place] = make(16 * random_size(&worker->dice, 1, 16));
        place = place + 1 < QUEUE ? place + 1 : 0;
    }
    for (int i = 0; i < QUEUE; i++)
        free(queue[i]);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 60000000, run);
}
