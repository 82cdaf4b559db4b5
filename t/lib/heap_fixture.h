/*
 * heap_fixture.h - what tests of the heap here have in common: it is valid; children are forked
 * while threads use it.
 */
#ifndef PHEAP_T_LIB_HEAP_FIXTURE_H
#define PHEAP_T_LIB_HEAP_FIXTURE_H

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/heap/heap.h"
#include "t/lib/tap.h"

#define FORK_THREADS  3
#define FORK_CHILDREN 40
#define FORK_SECONDS  20 /* for a child: who hangs is killed */

static inline void check_valid(void)
{
    struct problem why = {0};

    CHECK(heap_is_valid(&why));
    if (why.status)
        tap_note("%s", why.text);
}

static int fork_is_over; /* threads end then */

/* The status of a child that ends as in_child() says. */
static inline int fork_one(int (*in_child)(void))
{
    int status = -1;
    pid_t child;

    heap_fork_prepare();
    child = fork();
    if (child == 0) {
        heap_fork_child();
        alarm(FORK_SECONDS);
        _exit(in_child());
    }
    heap_fork_parent();
    waitpid(child, &status, 0);
    return status;
}

static inline void check_children_while(void *(*churn)(void *), int (*in_child)(void))
{
    pthread_t threads[FORK_THREADS];

    for (int i = 0; i < FORK_THREADS; i++)
        pthread_create(&threads[i], NULL, churn, NULL);
    for (int i = 0; i < FORK_CHILDREN; i++)
        CHECK_EQ(fork_one(in_child), 0);
    __atomic_store_n(&fork_is_over, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < FORK_THREADS; i++)
        pthread_join(threads[i], NULL);
    check_valid();
}

#endif
