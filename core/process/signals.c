/*
 * signals.c - record_signal_actions: what the program does on each signal; and signals that were
 * sent and not delivered yet.
 *
 * Always true: SIGKILL and SIGSTOP are asked for like the others and left out at the restore.
 */
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/rebuild.h"

#define KERNEL_SIGSET_BYTES 8

int capture_signal_actions(struct capture_run *run)
{
    record_put(run->out, RECORD_SIGNAL_ACTIONS, run->report->actions, sizeof run->report->actions,
               NULL, 0);
    return 0;
}

/* Reads one queue: a thread's own, or with `shared` the process's. The siginfos go to run->text. */
static int capture_queue(struct capture_run *run, int tid, bool shared)
{
    struct {
        uint64_t first;
        uint32_t flags;
        int32_t count;
    } ask = {0, shared, CAPTURE_TEXT_BYTES / RECORD_SIGINFO_BYTES};
    long got = sys_call(SYS_ptrace, PTRACE_PEEKSIGINFO, tid, &ask, run->text);

    if (got < 0)
        return problem_set(run->why, (int)got, "pending signals of thread %d: %s", tid,
                           status_text((int)got));
    if (got == ask.count)
        return problem_set(run->why, STATUS_LIMIT, "more than %d pending signals", ask.count);
    for (long i = 0; i < got; i++) {
        struct record_pending_signal record = {.tid = shared ? 0 : tid};

        memcpy(record.siginfo, run->text + i * RECORD_SIGINFO_BYTES, RECORD_SIGINFO_BYTES);
        memcpy(&record.signal, record.siginfo, sizeof record.signal); /* si_signo comes first */
        record_put(run->out, RECORD_PENDING_SIGNAL, &record, sizeof record, NULL, 0);
    }
    return 0;
}

int capture_pending_signals(struct capture_run *run)
{
    int status = capture_queue(run, run->capture->pid, true);

    for (uint32_t i = 0; i < run->capture->thread_count && status == 0; i++)
        status = capture_queue(run, run->capture->threads[i].tid, false);
    return status;
}

/* Everything is blocked until the threads' own masks are set, so what is sent now waits. */
void rebuild_pending_signals(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;
    uint64_t pid = (uint64_t)image->process->pid;

    for (uint32_t i = 0; i < image->pending_count; i++) {
        const struct record_pending_signal *pending = image->pending[i];
        uint64_t signal = (uint64_t)pending->signal;
        uint64_t info = batch_data(rebuild->batch, pending->siginfo, sizeof pending->siginfo);

        if (signal == SIGKILL || signal == SIGSTOP || signal == SIGTRAP)
            continue;
        if (pending->tid == 0)
            batch_add(rebuild->batch, "pending signal", SYS_rt_sigqueueinfo,
                      BATCH_ARGS(pid, signal, info));
        else
            batch_add(rebuild->batch, "pending signal", SYS_rt_tgsigqueueinfo,
                      BATCH_ARGS(pid, (uint64_t)pending->tid, signal, info));
    }
}

void rebuild_signal_actions(struct rebuild *rebuild)
{
    const struct record_signal_action *actions = rebuild->image->signals->actions;

    for (int signal = 1; signal <= RECORD_SIGNALS; signal++) {
        if (signal == SIGKILL || signal == SIGSTOP)
            continue;
        batch_add(rebuild->batch, "signal action", SYS_rt_sigaction,
                  BATCH_ARGS((uint64_t)signal,
                             batch_data(rebuild->batch, &actions[signal - 1], sizeof *actions), 0,
                             KERNEL_SIGSET_BYTES));
    }
}
