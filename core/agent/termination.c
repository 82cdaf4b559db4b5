/*
 * termination.c - PHEAP_ON_TERM: a checkpoint, and then SIGTERM again, for good. The program's side
 * and the states are in preload/on_term.c.
 *
 * Always true: the request is taken out of the program's memory before the cut, so a resumed
 * program knows nothing of it. No thread runs between the cut and the end but the one that ends
 * the program, so nothing is done twice.
 */
#include <signal.h>
#include "core/agent/agent_state.h"
#include "core/base/sys.h"

#define END_LONGEST_NS 1000000000u /* for one thread to die of SIGTERM */

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

static void send_term(struct agent *agent, uint32_t answer)
{
    __atomic_store_n(&agent->link->termination, answer, __ATOMIC_RELEASE);
    (void)sys_call(SYS_pidfd_send_signal, agent->pidfd, SIGTERM, 0, 0);
}

/* What stands in their way is said: the program's clients will see it. */
static void guard_connections(struct agent *agent)
{
    const struct kept_connections *connections = &agent->connections;
    int status =
        connections->count > 0 ? connections_guard(connections, agent->pool.super.uuid) : 0;
    struct problem note;

    if (connections->lost > 0) {
        (void)problem_set(&note, connections->lost_since,
                          "%u TCP connections are not kept: %s (--tcp-established takes "
                          "CAP_NET_ADMIN, and plain TCP)",
                          connections->lost, status_text(connections->lost_since));
        report_once(agent, connections->lost_since, note.text);
    }
    if (status != 0) {
        (void)problem_set(&note, status,
                          "the packet filter (nf_tables): %s; a connection is lost when something "
                          "comes in for it before the program is resumed, unless you drop it",
                          status_text(status));
        report_once(agent, status, note.text);
    }
}

void termination_end(struct agent *agent)
{
    guard_connections(agent);
    agent->terminates = false;
    agent->terminated = true;
    send_term(agent, AGENT_TERMINATION_SAVED);
    freeze_release_to_end(&agent->freeze, END_LONGEST_NS);
    connections_close(&agent->connections);
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
    if (status == STATUS_DEFERRED) { /* other reasons have been said */
        (void)problem_set(&note, status, "SIGTERM, and no checkpoint: %s", why->text);
        report_once(agent, status, note.text);
    }
    send_term(agent, AGENT_TERMINATION_REFUSED);
}
