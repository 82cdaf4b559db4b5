/*
 * false_sharing.h - what scratch.c and thrash.c share: objects of 8 bytes that are written very
 * often. Threads whose objects lie in one cache line slow each other down.
 */
#ifndef BENCH_FALSE_SHARING_H
#define BENCH_FALSE_SHARING_H

#include "workload.h"

#define OBJECT_BYTES      8
#define WRITES_PER_OBJECT 1000

static inline void write_often(void *object)
{
    volatile char *bytes = object;

    for (int i = 0; i < WRITES_PER_OBJECT; i++)
        bytes[i % OBJECT_BYTES]++;
}

static inline void write_new_objects(struct worker *worker)
{
    for (uint64_t round = 0; round < worker->rounds; round++) {
        void *object = make(OBJECT_BYTES);

        write_often(object);
        free(object);
    }
}

#endif
