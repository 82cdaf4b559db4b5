/*
 * scratch.c - passive false sharing: the main thread hands each thread one of several neighbouring
 * objects; the thread frees it and goes on with its own. An allocator that gives a thread back
 * what it freed lets the threads share lines for ever.
 */
#include "false_sharing.h"

static void *handed[WORKERS_MAX];

static void run(struct worker *worker)
{
    write_often(handed[worker->index]);
    free(handed[worker->index]);
    write_new_objects(worker);
}

int main(int argc, char **argv)
{
    for (int i = 0; i < WORKERS_MAX; i++)
        handed[i] = make(OBJECT_BYTES);
    return workload_main(argc, argv, 800000, run);
}
