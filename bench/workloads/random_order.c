/* random_order.c - 20,000 small objects of which random ones are replaced: a hash table's life. */
#include "workload.h"

#define OBJECTS 20000

static void run(struct worker *worker)
{
    void **objects = calloc(OBJECTS, sizeof *objects);

    if (!objects)
        exit(1);
    for (uint64_t round = 0; round < worker->rounds; round++) {
        void **place = &objects[random_below(&worker->dice, OBJECTS)];

        free(*place);
        *place = make(random_size(&worker->dice, 8, 256));
    }
    for (int i = 0; i < OBJECTS; i++)
        free(objects[i]);
    free(objects);
}

int main(int argc, char **argv)
{
    return workload_main(argc, argv, 48000000, run);
}
