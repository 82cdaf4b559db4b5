/*
 * freeze.h - all threads of the program stopped, for a moment.
 *
 * Calling sequence: freeze_stop(), look at and change the stopped threads, freeze_release(). When
 * freeze_stop() fails everything is running again, but stragglers may be left: threads that could
 * not be stopped in time, or were killed while stopped, and still belong to the tracer. They stop
 * when they next can, and must be let go at once: call freeze_settle() whenever SIGCHLD
 * arrives, and do not freeze again before it returns true.
 *
 * However a thread is let go, its interrupted system call has been mended first
 * (syscall_restart_fix): an attempt that is given up is as invisible as one that succeeds.
 *
 * The caller blocks SIGCHLD and has it at its default.
 *
 * With a table of halts nobody is traced: threads are asked by a signal to stop themselves
 * (halt.h). Their system calls cannot be mended then. A thread that blocks the signal defers the
 * freeze.
 */
#ifndef PHEAP_AGENT_FREEZE_H
#define PHEAP_AGENT_FREEZE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/process/halt.h"
#include "core/process/syscall_restart.h"
#include "core/process/tracee.h"

struct freeze {
    int pid;
    struct restart_table *restarts;
    struct arena *arena;      /* for the table; grows, never shrinks */
    struct tracee *tracees;   /* [0] is the leader */
    struct halt_table *halts; /* threads halt themselves, nobody is traced; else NULL */
    uint32_t count, capacity;
    uint64_t began_ns, ended_ns; /* CLOCK_MONOTONIC: first seize, last detach (or cut) */
};

void freeze_create(struct freeze *freeze, struct arena *arena, struct restart_table *restarts,
                   int pid, struct halt_table *halts);

/*
 * 0: all are stopped, their registers read, their system calls mended. STATUS_DEFERRED: not within
 * the time, or threads come and go; STATUS_ENDED: the program is gone; STATUS_NOT_PERMITTED;
 * STATUS_UNSUPPORTED (its main thread has ended).
 */
MUST_CHECK int freeze_stop(struct freeze *freeze, uint64_t patience_ns, struct problem *why);
void freeze_release(struct freeze *freeze);
/* For a program to which SIGTERM was sent that ends it: lets go the one thread that takes it, and
 * the others when that has not ended them in longest_ns. */
void freeze_release_to_end(struct freeze *freeze, uint64_t longest_ns);
bool freeze_settle(struct freeze *freeze);

#endif
