/*
 * termination.c - PHEAP_ON_TERM: a checkpoint, and then SIGTERM again, for good. The program's side
 * and the states are in preload/on_term.c.
 *
 * Always true: the request is taken out of the program's memory before the cut, so a resumed
 * program knows nothing of it.
 */
#include <signal.h>
#include "core/agent/agent_state.h"
#include "core/base/sys.h"

void termination_serve(struct agent *agent)
{
    uint32_t asked = AGENT_TERMINATION_ASKED;

    if (!__atomic_compare_exchange_n(&agent->link->termination, &asked, AGENT_TERMINATION_NONE,
                                     false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    if (!agent->terminates)
        agent->termination_deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + CHECKPOINT_PATIENCE_NS;
    agent->terminates = agent->requested = true;
}

void termination_checkpoint_done(struct agent *agent, int status, const struct problem *why)
{
    struct problem note;

    if (!agent->terminates)
        return;
    if (status == STATUS_DEFERRED &&
        sys_clock_ns(CLOCK_MONOTONIC) < agent->termination_deadline_ns) {
        agent->requested = true;
        return;
    }
    agent->terminates = false;
    agent->terminated = status == 0;
    if (status == STATUS_DEFERRED) { /* other reasons have been said */
        (void)problem_set(&note, status, "SIGTERM, and no checkpoint: %s", why->text);
        report_once(agent, status, note.text);
    }
    __atomic_store_n(&agent->link->termination,
                     status < 0 ? AGENT_TERMINATION_REFUSED : AGENT_TERMINATION_SAVED,
                     __ATOMIC_RELEASE);
    (void)sys_call(SYS_pidfd_send_signal, agent->pidfd, SIGTERM, 0, 0);
}
