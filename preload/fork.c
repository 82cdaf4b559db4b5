/*
 * fork.c - fork in a threaded program: the heap's locks are held across it, so the child finds a
 * whole heap; and the child has no pool: it is not the process that the pool belongs to.
 *
 * Registered by the first constructor of all, so our locks are taken after every other handler has
 * run: those may allocate.
 */
#include <pthread.h>
#include "core/heap/heap.h"
#include "preload/program.h"

static void forget_pool(void)
{
    heap_fork_child();
    program.owner_pid = 0;
    program.link.agent_pid = 0;
    program.link.mailbox = (struct agent_mailbox){0};
}

void program_watch_forks(void)
{
    (void)pthread_atfork(heap_fork_prepare, heap_fork_parent, forget_pool);
}
