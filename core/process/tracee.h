/*
 * tracee.h - one stopped thread: stop it, read and set its registers, run things in it, let it go.
 *
 * Used by the agent on the program's threads (seized, interrupted, detached in one freeze) and by
 * pheap-restore on the process it builds. Raw ptrace calls. The caller's thread is the tracer
 * of every tracee it seizes. A thread that halted itself (halt.h) is a tracee too: `halt` is set;
 * its registers cannot be changed, nor a single system call be run in it.
 *
 * States: [tracee_seize] running -> [tracee_interrupt] stopping -> [tracee_wait] stopped ->
 * [tracee_detach] gone. Registers may be read and things run in it only while it is stopped.
 */
#ifndef PHEAP_PROCESS_TRACEE_H
#define PHEAP_PROCESS_TRACEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/user.h>
#include "core/base/status.h"

#define TRACEE_XSTATE_BYTES_MAX 12288 /* AVX-512 2.7 KB, AMX 11 KB */

struct halt;

enum tracee_state {
    TRACEE_NONE,
    TRACEE_RUNNING, /* seized */
    TRACEE_STOPPED,
    TRACEE_GONE, /* it ended */
};

struct tracee {
    int tid;
    enum tracee_state state;
    struct halt *halt;            /* not traced: it halted itself; else NULL */
    struct user_regs_struct regs; /* as the thread will go on with; valid when stopped */
    bool regs_read;               /* regs and signal_mask are of the present stop */
    bool regs_changed;            /* regs must be written back before it goes on */
    uint64_t signal_mask;         /* kernel's 64-bit mask */
    uint32_t xstate_bytes;
    uint8_t *xstate;  /* NT_X86_XSTATE, owner gives TRACEE_XSTATE_BYTES_MAX bytes */
    long halt_result; /* of a call in a thread that is halted, until it is finished */
};

/* All return 0 or a negative status. -ESRCH: the thread is gone (state TRACEE_GONE), or was killed
 * and must still be waited for (TRACEE_RUNNING: tracee_poll() it). */
MUST_CHECK int tracee_seize(struct tracee *tracee, int tid, unsigned long options);
MUST_CHECK int tracee_interrupt(struct tracee *tracee);
/* Has it stopped? 1 yes, 0 not yet (never blocks), negative: gone or failed. */
MUST_CHECK int tracee_poll(struct tracee *tracee);
MUST_CHECK int tracee_read_registers(struct tracee *tracee); /* regs, mask */
MUST_CHECK int tracee_read_xstate(struct tracee *tracee);
MUST_CHECK int tracee_write_registers(struct tracee *tracee);
MUST_CHECK int tracee_write_xstate(struct tracee *tracee);
MUST_CHECK int tracee_set_signal_mask(struct tracee *tracee, uint64_t mask);
/* Writes registers back if they were changed, then lets it run on its own: state TRACEE_NONE. A
 * thread that was killed meanwhile fails and becomes TRACEE_RUNNING: poll it until it is gone,
 * or it stays a zombie that its process cannot get rid of. */
int tracee_detach(struct tracee *tracee);

/*
 * Runs `entry(argument)` in the stopped thread: on the stack that ends at stack_top, all signals
 * blocked, until it returns to trap_address, where an int3 must be (in the tracee's memory).
 * Registers and mask are put back; the pending restart of an interrupted system call survives.
 * The function must be compiled without vector registers and make raw system calls only.
 */
MUST_CHECK int tracee_call(struct tracee *tracee, uintptr_t entry, uintptr_t argument,
                           uintptr_t stack_top, uintptr_t trap_address, long *result);

/* One system call in the stopped thread, at syscall_address (where the bytes 0f 05 are), by single
 * step. *result: the kernel's value. */
MUST_CHECK int tracee_syscall(struct tracee *tracee, uintptr_t syscall_address, long nr,
                              const uint64_t args[6], long *result);

/*
 * What errand.c is made of. tracee_wait_report(): 1 and *status, a wait status, when the thread has
 * stopped or 0 when *mark is not 0 any more (NULL: there is none). tracee_let_run(): by this ptrace
 * request, with this signal. tracee_pass_signal_on(): the same, and interrupted again.
 * tracee_aim(): registers with which it calls entry(argument) on the stack at rsp.
 * tracee_put_back(): its own mask and registers, in this order: who dies in between leaves a thread
 * that finds its way by itself.
 */
MUST_CHECK int tracee_set_registers(struct tracee *tracee, const struct user_regs_struct *regs);
MUST_CHECK int tracee_wait_report(struct tracee *tracee, const uint32_t *mark, int *status);
MUST_CHECK int tracee_let_run(struct tracee *tracee, long request, unsigned long signal);
MUST_CHECK int tracee_pass_signal_on(struct tracee *tracee, int signal);
MUST_CHECK int tracee_put_back(struct tracee *tracee);
void tracee_aim(struct user_regs_struct *regs, uintptr_t entry, uintptr_t argument, uintptr_t rsp);

#endif
