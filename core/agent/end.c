/*
 * end.c - the beginning and the end of a run in the pool's superblock.
 *
 * Always true: a run is marked ended only when exit, _exit or return from main was noted and the
 * process is gone; anything else leaves it resumable.
 */
#include "core/agent/agent_state.h"

#include <errno.h>

#include "core/base/sys.h"

#define KCMP_VM_TYPE 1 /* KCMP_VM */

/* Another memory: it has called exec. Where kcmp is missing, a value in our own memory is looked
 * for at its address in the program's. */
bool agent_program_has_exec_ed(const struct agent *agent)
{
    const struct agent_link *seen = NULL;
    struct iovec here = {&seen, sizeof seen},
                 there = {(void *)(uintptr_t)&agent->link, sizeof seen};
    long differs = sys_call(SYS_kcmp, agent->program_pid, agent->self_pid, KCMP_VM_TYPE, 0, 0);

    if (differs >= 0)
        return differs != 0;
    if (differs == -ESRCH)
        return false; /* it has ended: the pidfd tells */
    if (sys_call(SYS_process_vm_readv, agent->program_pid, &here, 1, &there, 1, 0) ==
        (long)sizeof seen)
        return seen != agent->link;
    return true;
}

static void begin_run(struct superblock *super, void *context)
{
    const struct agent_link *link = context;

    if (!link->resumed_generation && !(link->run_goes_on && super->run_state == RUN_STARTED)) {
        super->run_first_generation = super->next_generation;
        super->resumed_generation = 0;
        super->resume_count = 0;
    }
    super->run_state = RUN_STARTED;
    super->end_status = 0;
    super->slot = link->slot;
    if (link->keep)
        super->keep = link->keep;
}

int agent_note_run(struct agent *agent, struct problem *why)
{
    return pool_update(&agent->pool, begin_run, agent->link, why);
}

static void end_run(struct superblock *super, void *context)
{
    const struct agent_link *link = context;

    super->run_state = RUN_ENDED;
    super->end_status = (link->exit_status & 0xff) << 8; /* as wait() gives it */
}

/* The program is gone; its memory is still here. */
void agent_note_end(struct agent *agent)
{
    struct problem why;

    if (agent->link->exit_noted && pool_update(&agent->pool, end_run, agent->link, &why) < 0)
        report_once(agent, why.status, why.text);
}
