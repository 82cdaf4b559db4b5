/*
 * server.c - a server in the way of Larson and Krishnan: a thread serves a table of objects of 10
 * to 500 bytes, replacing random ones, and ends after a while; the next thread goes on with the
 * table and frees what the dead one made.
 */
#include "workload.h"

#define OBJECTS         2000
#define ROUNDS_PER_LIFE 100000

struct service {
    void **objects;
    uint64_t dice;
    uint64_t rounds;
};

static void *serve(void *argument)
{
    struct service *service = argument;

    for (uint64_t round = 0; round < service->rounds; round++) {
        void **place = &service->objects[random_below(&service->dice, OBJECTS)];

        free(*place);
        *place = make(random_size(&service->dice, 10, 500));
    }
    return NULL;
}

static void run(struct worker *worker)
{
    struct service service = {calloc(OBJECTS, sizeof(void *)), worker->dice, 0};
    pthread_t thread;

    if (!service.objects)
        exit(1);
    for (uint64_t done = 0; done < worker->rounds; done += service.rounds) {
        uint64_t left = worker->rounds - done;

        service.rounds = left < ROUNDS_PER_LIFE ? left : ROUNDS_PER_LIFE;
        thread_start(&thread, serve, &service);
        pthread_join(thread, NULL);
    }
    for (int i = 0; i < OBJECTS; i++)
        free(service.objects[i]);
    free(service.objects);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 60000000, run);
}
