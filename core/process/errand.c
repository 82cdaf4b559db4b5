/*
 * errand.c - see errand.h.
 *
 * Always true of errand_run(): no vector registers (compiled with GENERAL_REGS: the thread's own
 * are in place all the time), no libc, no thread-local storage. It does not return.
 */
#include "core/process/errand.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "core/base/sys.h"
#include "core/process/halt.h"
#include "core/process/syscall_restart.h"

#define EVENT_STOP  128 /* PTRACE_EVENT_STOP */
#define KERNEL_MASK 8   /* bytes of a signal mask */

enum errand_state {
    ERRAND_OUT,
    ERRAND_RETURNED,
    ERRAND_CRASHED, /* and the thread has its registers again */
};

/* Lies at the end of the stack that the errand runs on. */
struct errand {
    /* go_back() takes these off in this order */
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
    uint64_t rip, cs, eflags, rsp, ss; /* as iretq wants them */

    uint64_t signal_mask;
    const uint32_t *tracer; /* 0: dead */
    long (*entry)(void *);
    void *argument;
    long result;
    uint32_t state; /* enum errand_state */
};

_Static_assert(offsetof(struct errand, rip) == 15 * sizeof(uint64_t), "fifteen registers");

static struct errand *errand_at(uintptr_t stack_top)
{
    return (struct errand *)((stack_top - sizeof(struct errand)) & ~(uintptr_t)15);
}

/* --- in the thread --- */

/* All registers at once: a signal that comes on the way finds them partly in place, and the rest
 * above the stack pointer, where its frame does not go. */
static _Noreturn void go_back(const struct errand *errand)
{
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "pop %%r15\n\tpop %%r14\n\tpop %%r13\n\tpop %%r12\n\tpop %%rbp\n\t"
                     "pop %%rbx\n\tpop %%r11\n\tpop %%r10\n\tpop %%r9\n\tpop %%r8\n\t"
                     "pop %%rax\n\tpop %%rcx\n\tpop %%rdx\n\tpop %%rsi\n\tpop %%rdi\n\t"
                     "iretq"
                     :
                     : "r"(errand)
                     : "memory");
    __builtin_unreachable();
}

/* The kernel wakes one sleeper when the tracer ends, and that one the others. */
static void outlive(const uint32_t *tracer)
{
    uint32_t tid;

    while ((tid = __atomic_load_n(tracer, __ATOMIC_ACQUIRE)) != 0)
        (void)sys_call(SYS_futex, tracer, FUTEX_WAIT, tid, 0, 0, 0);
    (void)sys_call(SYS_futex, tracer, FUTEX_WAKE, INT32_MAX, 0, 0, 0);
}

static _Noreturn void errand_run(struct errand *errand)
{
    errand->result = errand->entry(errand->argument);
    __atomic_store_n(&errand->state, ERRAND_RETURNED, __ATOMIC_RELEASE);
    outlive(errand->tracer);
    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &errand->signal_mask, 0, KERNEL_MASK);
    go_back(errand);
}

/* --- in the tracer --- */

static void pack(struct errand *errand, const struct tracee *tracee)
{
    struct user_regs_struct regs = tracee->regs;

    syscall_restart_by_itself(&regs);
    *errand = (struct errand){
        .r15 = regs.r15,
        .r14 = regs.r14,
        .r13 = regs.r13,
        .r12 = regs.r12,
        .rbp = regs.rbp,
        .rbx = regs.rbx,
        .r11 = regs.r11,
        .r10 = regs.r10,
        .r9 = regs.r9,
        .r8 = regs.r8,
        .rax = regs.rax,
        .rcx = regs.rcx,
        .rdx = regs.rdx,
        .rsi = regs.rsi,
        .rdi = regs.rdi,
        .rip = regs.rip,
        .cs = regs.cs,
        .eflags = regs.eflags,
        .rsp = regs.rsp,
        .ss = regs.ss,
        .signal_mask = tracee->signal_mask,
    };
}

int errand_start(struct tracee *tracee, long (*entry)(void *), void *argument, uintptr_t stack_top,
                 const uint32_t *tracer)
{
    struct errand *errand = errand_at(stack_top);
    struct user_regs_struct regs = tracee->regs;
    int status;

    if (tracee->halt)
        return halt_call(tracee, entry, argument, &tracee->halt_result); /* made here and now */
    pack(errand, tracee);
    errand->tracer = tracer;
    errand->entry = entry;
    errand->argument = argument;
    tracee_aim(&regs, (uintptr_t)errand_run, (uintptr_t)errand, (uintptr_t)errand - 8);
    status = tracee_set_registers(tracee, &regs);
    if (status == 0)
        status = tracee_set_signal_mask(tracee, ~0ull);
    if (status == 0)
        status = tracee_let_run(tracee, PTRACE_CONT, 0);
    if (status < 0 && tracee->state == TRACEE_STOPPED) {
        int restored = tracee_put_back(tracee);

        return restored < 0 ? restored : status;
    }
    return status;
}

/* A stop that nobody asked for, on the way. SIGSTOP is passed on: the kernel keeps the group stop,
 * undoes it should SIGCONT come, and the thread goes on stopped when it is let go. */
static int go_on(struct tracee *tracee, int wait_status)
{
    if (wait_status >> 16 == EVENT_STOP)
        return tracee_let_run(tracee, PTRACE_CONT, 0);
    if (WSTOPSIG(wait_status) != SIGSTOP)
        return -EFAULT; /* it crashed */
    return tracee_let_run(tracee, PTRACE_CONT, SIGSTOP);
}

static int crashed(struct tracee *tracee, struct errand *errand)
{
    int restored = tracee_put_back(tracee);

    errand->state = ERRAND_CRASHED;
    return restored < 0 ? restored : -EFAULT;
}

int errand_recall(struct tracee *tracee, uintptr_t stack_top)
{
    struct errand *errand = errand_at(stack_top);
    int got, status;

    if (tracee->halt)
        return 0;
    while ((got = tracee_wait_report(tracee, &errand->state, &status)) > 0) {
        got = go_on(tracee, status);
        if (got < 0)
            break;
    }
    if (got < 0)
        return tracee->state == TRACEE_STOPPED ? crashed(tracee, errand) : got;
    return tracee_interrupt(tracee);
}

static int wait_stopped(struct tracee *tracee)
{
    int got, status;

    while ((got = tracee_wait_report(tracee, NULL, &status)) > 0) {
        if (status >> 16 == EVENT_STOP)
            return 0;
        if (WSTOPSIG(status) != SIGSTOP)
            return -EFAULT;
        got = tracee_pass_signal_on(tracee, SIGSTOP);
        if (got < 0)
            break;
    }
    return got;
}

int errand_finish(struct tracee *tracee, uintptr_t stack_top, long *result)
{
    int status, restored;

    if (tracee->halt) {
        *result = tracee->halt_result;
        return 0;
    }
    if (errand_at(stack_top)->state == ERRAND_CRASHED)
        return -EFAULT;
    status = wait_stopped(tracee);
    if (tracee->state != TRACEE_STOPPED)
        return status;
    *result = errand_at(stack_top)->result;
    restored = tracee_put_back(tracee);
    return status ? status : restored;
}
