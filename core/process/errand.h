/*
 * errand.h - a function run in a stopped thread whose memory is ours too, and that gets over the
 * death of its tracer at any moment.
 *
 * tracee_call() ends in a trap: a thread that comes to it when its tracer has been killed ends its
 * program. A thread on an errand has its registers and mask with it. When the function has
 * returned it says so and sleeps until the tracer stops it and puts them back; if the tracer dies,
 * before or after, it puts them back itself, and goes on as if it had never been stopped.
 *
 *     stopped --[errand_start]--> runs, says so, sleeps --[errand_recall]--> stopping
 *                                     |                      --[errand_finish]--> stopped
 *                                     +--tracer dies--> runs the program
 *
 * The order of steps is what makes it so: the thread stands in errand_run() before its signals are
 * blocked, and until they are unblocked again.
 *
 * What the kernel knew of an interrupted system call is kept: nothing here waits with a time limit
 * (that would replace what restart_syscall goes on with). Should the thread go on by itself, a
 * signal that came while it was stopped is handled before the call is begun again: sigsuspend()
 * then waits for another one.
 */
#ifndef PHEAP_PROCESS_ERRAND_H
#define PHEAP_PROCESS_ERRAND_H

#include <stdint.h>
#include "core/base/status.h"
#include "core/process/tracee.h"

/* The function's own frames, and a handler's, should the thread put its mask back itself. */
#define ERRAND_STACK_BYTES 32768u

/*
 * Runs entry(argument) in the stopped thread, its registers read, on ERRAND_STACK_BYTES below
 * stack_top, all signals blocked. *tracer is the caller's thread id, and 0 once the kernel has seen
 * its end (set_tid_address). The function must be compiled without vector registers and make
 * raw system calls only. Each that was started, and only those, must be recalled and finished, also
 * when recalling it failed, before anything else is done with it. Several may be out at once.
 */
MUST_CHECK int errand_start(struct tracee *tracee, long (*entry)(void *), void *argument,
                            uintptr_t stack_top, const uint32_t *tracer);
/* Waits until it has returned, and asks the thread to stop. */
MUST_CHECK int errand_recall(struct tracee *tracee, uintptr_t stack_top);
/* The thread is stopped, its registers and mask put back. */
MUST_CHECK int errand_finish(struct tracee *tracee, uintptr_t stack_top, long *result);

#endif
