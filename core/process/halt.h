/*
 * halt.h - a thread that stops itself, in a signal handler, where it may not be traced.
 *
 * The program's side is the handler (halt_install()): asked by its agent's signal, it says where
 * the kernel left the thread's registers, does what the agent orders (halt_call()), and returns
 * when it is let go. The agent's side makes it a tracee as any other: tracee.h's functions work on
 * one whose `halt` is set, but for those that change registers.
 *
 *     FREE --[halt_begin]--> WANTED --handler--> ARRIVED --[halt_release], handler--> FREE
 *                              |
 *                              +--[halt_cancel]--> FREE, and the handler that comes late returns
 *
 * What is different from tracing: a system call was interrupted by a signal. What SA_RESTART does
 * not cover returned EINTR, or short.
 *
 * A table lies in the agent's memory, which no image holds. When the agent dies the handlers
 * return.
 */
#ifndef PHEAP_PROCESS_HALT_H
#define PHEAP_PROCESS_HALT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

#define HALT_THREADS_MAX 4096u

struct tracee;

enum halt_state {
    HALT_FREE,
    HALT_WANTED,
    HALT_ARRIVED,
};

struct halt {
    int32_t tid;
    uint32_t state;         /* enum halt_state */
    uint32_t ordered, done; /* futexes: orders given, orders carried out */
    uint32_t leaves;        /* the order is to return */
    long (*entry)(void *);
    void *argument;
    long result;
    const void *context; /* ucontext_t */
    uint64_t fs_base, gs_base;
};

struct halt_table {
    int32_t signal;
    int32_t agent_pid;
    uint32_t arrived; /* futex: grows with each thread that comes */
    uint32_t count;
    struct halt halts[HALT_THREADS_MAX];
};

/*
 * On a thread of the program, before its agent runs: takes a signal that the program has at its
 * default. SIGURG if possible, which is ignored by default: a program that sets everything back to
 * the default is not killed by us. STATUS_LIMIT: none is free.
 */
MUST_CHECK int halt_install(struct halt_table **out, struct arena *arena);

/* No program is halted from here on by what a resume brought back. */
void halt_forget(void);

/* In the agent, before it wants the first thread. */
void halt_set_agent(struct halt_table *table, int agent_pid);

/* Asks the thread of process pid to halt. 0; -ESRCH; STATUS_DEFERRED: it blocks the signal;
 * STATUS_LIMIT; STATUS_REFUSED: the program has taken the signal for itself. */
MUST_CHECK int halt_begin(struct halt_table *table, struct tracee *tracee, int pid, int tid);

/* 1: it is there, 0: not yet. */
int halt_has_arrived(const struct tracee *tracee);

/* Sleeps until another thread arrives, or so long. `seen`: table->arrived before the last look. */
void halt_wait(struct halt_table *table, uint32_t seen, uint64_t longest_ns);

/* Once all tracees are let go: true when every handler has left, and the table is empty. */
bool halt_settle(struct halt_table *table);

void halt_read_registers(struct tracee *tracee);
int halt_read_xstate(struct tracee *tracee); /* 0 or -EINVAL: not as the kernel writes it */
MUST_CHECK int halt_call(struct tracee *tracee, long (*entry)(void *), void *argument,
                         long *result);
void halt_release(struct tracee *tracee); /* arrived or not */

/* A copy of the halted thread's descriptor, handed over through a socket; or negative. */
MUST_CHECK int halt_lend(struct tracee *tracee, int number);

#endif
