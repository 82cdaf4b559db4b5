/*
 * signals.c - record_signal_actions: what the program does on each signal; and signals that were
 * sent and not delivered yet.
 *
 * Always true: SIGKILL and SIGSTOP are asked for like the others and left out at the restore. No
 * generation is made of a program that is about to die of a signal: it would die again at each
 * restore. (While a thread is traced, a fatal signal waits in the queue until it is let go.)
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"

#define KERNEL_SIGSET_BYTES 8

int capture_signal_actions(struct capture_run *run)
{
    record_put(run->out, RECORD_SIGNAL_ACTIONS, run->report->actions, sizeof run->report->actions,
               NULL, 0);
    return 0;
}

/* What the kernel does not do by default is end the process. */
static bool ends_by_default(int signal)
{
    switch (signal) {
    case SIGCHLD:
    case SIGCONT:
    case SIGURG:
    case SIGWINCH:
    case SIGSTOP:
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
        return false;
    default:
        return true;
    }
}

static bool is_blocked(const struct capture *capture, int tid, int signal)
{
    for (uint32_t i = 0; i < capture->thread_count; i++)
        if ((tid == 0 || capture->threads[i].tid == tid) &&
            !(capture->threads[i].signal_mask >> (signal - 1) & 1))
            return false;
    return true;
}

/* Does the program die of this signal as soon as it is let go? */
static bool is_its_end(const struct capture_run *run, const struct record_pending_signal *record)
{
    int signal = record->signal;

    if (signal == SIGKILL)
        return true;
    return signal >= 1 && signal <= RECORD_SIGNALS && ends_by_default(signal) &&
           run->report->actions[signal - 1].handler == (uintptr_t)SIG_DFL &&
           !is_blocked(run->capture, record->tid, signal);
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
        if (is_its_end(run, &record))
            return problem_set(run->why, STATUS_DEFERRED, "the program is being ended by signal %d",
                               record.signal);
        record_put(run->out, RECORD_PENDING_SIGNAL, &record, sizeof record, NULL, 0);
    }
    return 0;
}

/* A thread that may not be traced does not tell what came with its signals: their numbers do. The
 * signal that halts it is the agent's own (of an attempt that came too late), and the program,
 * which has it at its default, does not see it either. */
static int capture_mask(struct capture_run *run, int tid, uint64_t mask)
{
    for (int signal = 1; signal <= RECORD_SIGNALS; signal++) {
        struct record_pending_signal record = {.tid = tid, .signal = signal};

        if (!(mask >> (signal - 1) & 1) || signal == run->capture->halt_signal)
            continue;
        memcpy(record.siginfo, &signal, sizeof signal); /* the rest is 0: SI_USER */
        if (is_its_end(run, &record))
            return problem_set(run->why, STATUS_DEFERRED, "the program is being ended by signal %d",
                               signal);
        record_put(run->out, RECORD_PENDING_SIGNAL, &record, sizeof record, NULL, 0);
    }
    return 0;
}

static int capture_masks(struct capture_run *run)
{
    const struct capture *capture = run->capture;
    int status = 0;

    for (uint32_t i = 0; i < capture->thread_count && status == 0; i++) {
        char name[64];

        format_text(name, sizeof name, "task/%d/status", capture->threads[i].tid);
        if (proc_read(capture->pid, name, run->text, CAPTURE_TEXT_BYTES) <= 0)
            return problem_set(run->why, -ESRCH, "/proc/%d/%s cannot be read", capture->pid, name);
        if (i == 0)
            status = capture_mask(run, 0, proc_number(run->text, "ShdPnd", 16));
        if (status == 0)
            status =
                capture_mask(run, capture->threads[i].tid, proc_number(run->text, "SigPnd", 16));
    }
    return status;
}

int capture_pending_signals(struct capture_run *run)
{
    int status;

    if (run->capture->threads[0].halt)
        return capture_masks(run);
    status = capture_queue(run, run->capture->pid, true);

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
