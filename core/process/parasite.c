/*
 * parasite.c - runs inside a stopped thread of the program, on a stack of the agent's.
 *
 * Always true: raw system calls that only read; no vector registers (compiled with
 * -mgeneral-regs-only, for the thread's own are not put back), no libc, no thread-local storage.
 */
#include "core/process/parasite.h"

#include <sys/prctl.h>
#include "core/base/sys.h"

#define KERNEL_SIGSET_BYTES 8

static long collect_thread(struct parasite_thread *report)
{
    long status = sys_call(SYS_sigaltstack, 0, &report->altstack);

    if (status == 0)
        status = sys_call(SYS_prctl, PR_GET_TID_ADDRESS, &report->clear_tid_address, 0, 0, 0);
    if (status == 0)
        status = sys_call(SYS_prctl, PR_GET_PDEATHSIG, &report->death_signal, 0, 0, 0);
    report->timer_slack_ns = (uint64_t)sys_call(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
    return status;
}

static long collect_process(struct parasite_report *report)
{
    long status = 0;

    report->brk = (uint64_t)sys_call(SYS_brk, 0);
    report->dumpable = (int32_t)sys_call(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0);
    report->huge_pages_off = (int32_t)sys_call(SYS_prctl, PR_GET_THP_DISABLE, 0, 0, 0, 0);
    (void)sys_call(SYS_prctl, PR_GET_CHILD_SUBREAPER, &report->subreaper, 0, 0, 0);
    for (int i = 0; i < RECORD_SIGNALS && status == 0; i++)
        status = sys_call(SYS_rt_sigaction, i + 1, 0, &report->actions[i], KERNEL_SIGSET_BYTES);
    for (int i = 0; i < 3 && status == 0; i++)
        status = sys_call(SYS_getitimer, i, &report->interval_timers[i]);
    for (uint32_t i = 0; i < report->posix_timer_count && status == 0; i++)
        status = sys_call(SYS_timer_gettime, report->posix_timer_ids[i], &report->posix_timers[i]);
    return status;
}

/* A borrowed descriptor does not tell, and /proc takes twenty times as long for each. */
static void collect_descriptors(struct parasite_report *report)
{
    for (uint32_t i = 0; i < report->descriptor_count; i++)
        report->close_on_exec[i] =
            sys_call(SYS_fcntl, report->descriptors[i], F_GETFD) == FD_CLOEXEC;
}

long parasite_collect(void *of_one_thread)
{
    struct parasite_thread *report = of_one_thread;
    long status = collect_thread(report);

    if (status == 0 && report->process)
        status = collect_process(report->process);
    if (status == 0 && report->process)
        collect_descriptors(report->process);
    return status;
}
