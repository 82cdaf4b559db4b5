/*
 * signals.c - record_signal_actions: what the program does on each signal.
 *
 * Always true: SIGKILL and SIGSTOP are asked for like the others and left out at the restore.
 */
#include <signal.h>
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
