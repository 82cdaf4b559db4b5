/*
 * tracee.c - see tracee.h.
 *
 * Always true: the program sees no signal that it would not have seen without us, and loses none.
 * A stop for a signal that arrives between seize and interrupt is answered by passing the signal
 * on, and so is one that meets an injected call (SIGSTOP; the others are blocked then). SIGTRAP
 * stays unblocked while something is injected: a trap that meets a blocked SIGTRAP makes the kernel
 * reset its disposition.
 */
#include "core/process/tracee.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "core/base/sys.h"
#include "core/process/halt.h"
#include "core/process/proc_text.h"

/* An injected call takes some 10 us: so many looks before the first sleep. */
#define REPORT_SPINS    64u
#define REPORT_PAUSE_NS 20000

#define EVENT_STOP     128 /* PTRACE_EVENT_STOP */
#define KERNEL_MASK    8   /* bytes of a signal mask */
#define FLAG_TRAP      0x100ul
#define FLAG_DIRECTION 0x400ul

static const uint64_t all_but_trap = ~(1ull << (SIGTRAP - 1));

static long trace(long request, int tid, unsigned long address, unsigned long data)
{
    return sys_call(SYS_ptrace, request, tid, address, data);
}

/* A thread that was killed is not stopped any more, and still ours: until it has been waited for it
 * is a zombie that its process cannot get rid of. */
static int note_gone(struct tracee *tracee, long status)
{
    if (status == -ESRCH)
        tracee->state = TRACEE_RUNNING;
    return (int)status;
}

int tracee_seize(struct tracee *tracee, int tid, unsigned long options)
{
    long status = trace(PTRACE_SEIZE, tid, 0, options);

    tracee->tid = tid;
    tracee->halt = NULL;
    tracee->regs_read = false;
    tracee->regs_changed = false;
    tracee->state = status < 0 ? TRACEE_NONE : TRACEE_RUNNING;
    return status < 0 ? (int)status : 0;
}

int tracee_interrupt(struct tracee *tracee)
{
    long status = trace(PTRACE_INTERRUPT, tracee->tid, 0, 0);

    return status < 0 ? note_gone(tracee, status) : 0;
}

/* The thread is stopped with this wait status and does not yet stand where we want it. The
 * pending interrupt was used up by the stop: it is asked for again before the signal goes on. */
int tracee_pass_signal_on(struct tracee *tracee, int signal)
{
    long status = trace(PTRACE_INTERRUPT, tracee->tid, 0, 0);

    if (status >= 0)
        status = trace(PTRACE_CONT, tracee->tid, 0, (unsigned long)signal);
    return status < 0 ? note_gone(tracee, status) : 0;
}

/* 1 and *status when the thread reported something, 0 when not, or negative. Never blocks. */
static int wait_report(struct tracee *tracee, int *status)
{
    long got = sys_call(SYS_wait4, tracee->tid, status, WNOHANG | __WALL, 0);

    if (got == 0 || got == -EINTR)
        return 0;
    if (got < 0 || WIFEXITED(*status) || WIFSIGNALED(*status)) {
        tracee->state = TRACEE_GONE;
        return got < 0 && got != -ECHILD ? (int)got : -ESRCH;
    }
    return 1;
}

int tracee_poll(struct tracee *tracee)
{
    int status, got;

    if (tracee->state == TRACEE_STOPPED)
        return 1;
    if (tracee->state != TRACEE_RUNNING)
        return -ESRCH;
    if (tracee->halt) {
        if (halt_has_arrived(tracee))
            tracee->state = TRACEE_STOPPED;
        return tracee->state == TRACEE_STOPPED;
    }
    while ((got = wait_report(tracee, &status)) > 0) {
        if ((status >> 16) == EVENT_STOP) {
            tracee->state = TRACEE_STOPPED;
            return 1;
        }
        got = tracee_pass_signal_on(tracee, WSTOPSIG(status));
        if (got < 0)
            return got;
    }
    return got;
}

int tracee_read_registers(struct tracee *tracee)
{
    long status;

    if (tracee->halt) {
        halt_read_registers(tracee);
        return 0;
    }
    status = trace(PTRACE_GETREGS, tracee->tid, 0, (unsigned long)&tracee->regs);

    if (status >= 0)
        status =
            trace(PTRACE_GETSIGMASK, tracee->tid, KERNEL_MASK, (unsigned long)&tracee->signal_mask);
    tracee->regs_read = status >= 0;
    tracee->regs_changed = false;
    return status < 0 ? note_gone(tracee, status) : 0;
}

static int access_xstate(struct tracee *tracee, long request, struct iovec *area)
{
    long status = trace(request, tracee->tid, NT_X86_XSTATE, (unsigned long)area);

    return status < 0 ? note_gone(tracee, status) : 0;
}

int tracee_read_xstate(struct tracee *tracee)
{
    struct iovec area = {tracee->xstate, TRACEE_XSTATE_BYTES_MAX};
    int status;

    if (tracee->halt)
        return halt_read_xstate(tracee);
    status = access_xstate(tracee, PTRACE_GETREGSET, &area);

    tracee->xstate_bytes = status == 0 ? (uint32_t)area.iov_len : 0;
    return status;
}

int tracee_write_xstate(struct tracee *tracee)
{
    struct iovec area = {tracee->xstate, tracee->xstate_bytes};

    return access_xstate(tracee, PTRACE_SETREGSET, &area);
}

int tracee_set_registers(struct tracee *tracee, const struct user_regs_struct *regs)
{
    long status = trace(PTRACE_SETREGS, tracee->tid, 0, (unsigned long)regs);

    return status < 0 ? note_gone(tracee, status) : 0;
}

int tracee_write_registers(struct tracee *tracee)
{
    int status = tracee_set_registers(tracee, &tracee->regs);

    if (status == 0)
        tracee->regs_changed = false;
    return status;
}

int tracee_set_signal_mask(struct tracee *tracee, uint64_t mask)
{
    long status = trace(PTRACE_SETSIGMASK, tracee->tid, KERNEL_MASK, (unsigned long)&mask);

    return status < 0 ? note_gone(tracee, status) : 0;
}

int tracee_detach(struct tracee *tracee)
{
    int status = 0;

    if (tracee->state != TRACEE_STOPPED)
        return -ESRCH;
    if (tracee->halt) {
        halt_release(tracee);
        return 0;
    }
    if (tracee->regs_changed)
        status = tracee_write_registers(tracee);
    if (status == 0)
        status = (int)trace(PTRACE_DETACH, tracee->tid, 0, 0);
    tracee->state = status < 0 ? TRACEE_RUNNING : TRACEE_NONE;
    return status;
}

/* Dead, and waiting to be reaped: so may be a leader whose other threads are, by us. */
static bool is_zombie(int tid)
{
    char text[512];
    const char *state = NULL;

    if (proc_read(tid, "stat", text, sizeof text) <= 0)
        return false;
    for (const char *c = text; *c; c++)
        if (*c == ')') /* the last one ends the name */
            state = c;
    return state && state[1] == ' ' && state[2] == 'Z';
}

/*
 * Never sleeps in wait4(): when the program is killed meanwhile, its leader reports only after its
 * other threads were reaped, which are ours to reap, later. Then -ESRCH, and the thread counts as
 * running until tracee_poll() has seen its end.
 */
int tracee_wait_report(struct tracee *tracee, const uint32_t *mark, int *status)
{
    const struct timespec pause = {0, REPORT_PAUSE_NS};
    int got;

    for (uint32_t polls = 1; (got = wait_report(tracee, status)) == 0; polls++) {
        if (mark && __atomic_load_n(mark, __ATOMIC_ACQUIRE))
            return 0;
        if (polls < REPORT_SPINS)
            continue;
        if (polls % REPORT_SPINS == 0 && is_zombie(tracee->tid)) {
            tracee->state = TRACEE_RUNNING;
            return -ESRCH;
        }
        (void)sys_call(SYS_nanosleep, &pause, 0);
    }
    return got;
}

int tracee_let_run(struct tracee *tracee, long request, unsigned long signal)
{
    long status = trace(request, tracee->tid, 0, signal);

    return status < 0 ? note_gone(tracee, status) : 0;
}

/*
 * The thread was let run by `request`: until its own SIGTRAP. All signals are blocked but for
 * SIGSTOP, which is passed on: the kernel keeps the group stop, undoes it should SIGCONT come, and
 * the thread goes on stopped when it is let go.
 */
static int wait_for_trap(struct tracee *tracee, long request)
{
    int status = 0, got;

    for (;;) {
        unsigned long signal;

        got = tracee_wait_report(tracee, NULL, &status);
        if (got < 0)
            return got;
        if (status >> 16 == 0 && WSTOPSIG(status) == SIGTRAP)
            return 0;
        signal = status >> 16 == 0 ? (unsigned long)WSTOPSIG(status) : 0;
        if (signal != 0 && signal != SIGSTOP)
            return -EFAULT; /* it crashed */
        got = tracee_let_run(tracee, request, signal);
        if (got < 0)
            return got;
    }
}

void tracee_aim(struct user_regs_struct *regs, uintptr_t entry, uintptr_t argument, uintptr_t rsp)
{
    regs->rip = entry;
    regs->rdi = argument;
    regs->rsp = rsp;
    regs->rax = 0;
    regs->orig_rax = (unsigned long)-1; /* no system call to restart from here */
    regs->eflags &= ~(FLAG_DIRECTION | FLAG_TRAP);
}

int tracee_put_back(struct tracee *tracee)
{
    int status = tracee_set_signal_mask(tracee, tracee->signal_mask);

    return status < 0 ? status : tracee_write_registers(tracee);
}

/* The thread runs with other registers, all signals blocked, until end_elsewhere(). After a failure
 * it does not, and has its own again. */
static int begin_elsewhere(struct tracee *tracee, const struct user_regs_struct *regs, long request)
{
    int status = tracee_set_signal_mask(tracee, all_but_trap);

    if (status)
        return status;
    status = tracee_set_registers(tracee, regs);
    if (status == 0)
        status = tracee_let_run(tracee, request, 0);
    if (status < 0 && tracee->state == TRACEE_STOPPED) {
        int restored = tracee_put_back(tracee);

        return restored < 0 ? restored : status;
    }
    return status;
}

/* Waits for the trap; registers and mask are put back. *after: the registers at the trap. */
static int end_elsewhere(struct tracee *tracee, long request, struct user_regs_struct *after)
{
    int status = wait_for_trap(tracee, request), restored;

    if (tracee->state != TRACEE_STOPPED)
        return status;
    if (status == 0) {
        long got = trace(PTRACE_GETREGS, tracee->tid, 0, (unsigned long)after);

        status = got < 0 ? (int)got : 0;
    }
    restored = tracee_put_back(tracee);
    return status ? status : restored;
}

int tracee_call(struct tracee *tracee, uintptr_t entry, uintptr_t argument, uintptr_t stack_top,
                uintptr_t trap_address, long *result)
{
    struct user_regs_struct regs = tracee->regs, after;
    uintptr_t return_slot = (stack_top & ~(uintptr_t)15) - 8;
    long poked = trace(PTRACE_POKEDATA, tracee->tid, return_slot, trap_address);
    int status;

    if (poked < 0)
        return note_gone(tracee, poked);
    tracee_aim(&regs, entry, argument, return_slot);
    status = begin_elsewhere(tracee, &regs, PTRACE_CONT);
    if (status == 0)
        status = end_elsewhere(tracee, PTRACE_CONT, &after);
    if (status)
        return status;
    if (after.rip != trap_address + 1)
        return -EFAULT;
    *result = (long)after.rax;
    return 0;
}

int tracee_syscall(struct tracee *tracee, uintptr_t syscall_address, long nr,
                   const uint64_t args[6], long *result)
{
    struct user_regs_struct regs = tracee->regs, after;
    int status;

    regs.rip = syscall_address;
    regs.rax = (unsigned long)nr;
    regs.orig_rax = (unsigned long)-1;
    regs.rdi = args[0];
    regs.rsi = args[1];
    regs.rdx = args[2];
    regs.r10 = args[3];
    regs.r8 = args[4];
    regs.r9 = args[5];
    status = begin_elsewhere(tracee, &regs, PTRACE_SINGLESTEP);
    if (status == 0)
        status = end_elsewhere(tracee, PTRACE_SINGLESTEP, &after);
    if (status == 0)
        *result = (long)after.rax;
    return status;
}
