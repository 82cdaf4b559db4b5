/*
 * allowance.c - see allowance.h.
 *
 *     NOFILE       raised; below what a checkpoint takes there is no agent
 *     FSIZE        raised; the signal is blocked, a write beyond the limit fails
 *     CPU          raised, since it counts for each process; before it ends the agent, no
 * checkpoints RTTIME       the agent is not urgent: a long freeze would end it AS, DATA     not
 * raised: what the agent takes of them the program lacks (agent.c takes a share) NPROC        the
 * clone fails (agent.c) CORE         0: an agent leaves no core
 */
#include "core/agent/allowance.h"

#include <errno.h>
#include <sched.h>
#include "core/base/limits.h"
#include "core/base/sys.h"

#define NS_PER_S 1000000000ull
/* Open at once in a checkpoint: the program's pidfd, signals, the pool and its second description,
 * the listener, what tells written pages, /proc files of the capture; without clients. */
#define DESCRIPTORS_MIN   9u
#define PROCESSOR_SHARE   4 /* of the limit is kept for waiting and the end */
#define PROCESSOR_NS_KEPT (2 * NS_PER_S)

static void take_processor_time(struct allowance *allowance)
{
    uint64_t limit_s = limit_raise(RLIMIT_CPU);

    allowance->processor_ns = limit_s < UINT64_MAX / NS_PER_S ? limit_s * NS_PER_S : UINT64_MAX;
}

/* The program's policy is inherited too. */
static void take_urgency(struct allowance *allowance)
{
    const struct sched_param none = {0};

    allowance->may_be_urgent = limit_raise(RLIMIT_RTTIME) == UINT64_MAX;
    if (!allowance->may_be_urgent)
        (void)sys_call(SYS_sched_setscheduler, 0, SCHED_OTHER, &none);
}

int allowance_take(struct allowance *allowance, struct problem *why)
{
    const struct rlimit64 no_core = {0, 0};

    (void)sys_call(SYS_prlimit64, 0, RLIMIT_CORE, &no_core, 0);
    (void)limit_raise(RLIMIT_FSIZE);
    take_processor_time(allowance);
    take_urgency(allowance);
    allowance->descriptors = limit_raise(RLIMIT_NOFILE); /* the program may raise its own later */
    if (allowance->descriptors > DESCRIPTORS_MIN)
        return 0;
    return problem_set(why, -EMFILE,
                       "no checkpoints: they take %u descriptors, and the hard limit, "
                       "RLIMIT_NOFILE, is %lu; raise it (ulimit -Hn)",
                       DESCRIPTORS_MIN + 1, (unsigned long)allowance->descriptors);
}

int allowance_clients(const struct allowance *allowance, int most)
{
    uint64_t left = allowance->descriptors - DESCRIPTORS_MIN;

    return left < (uint64_t)most ? (int)left : most;
}

uint64_t allowance_used_ns(void)
{
    return sys_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int allowance_checkpoint_begins(const struct allowance *allowance, struct problem *why)
{
    uint64_t all_ns = allowance->processor_ns, kept_ns = all_ns / PROCESSOR_SHARE;

    if (kept_ns > PROCESSOR_NS_KEPT)
        kept_ns = PROCESSOR_NS_KEPT;
    if (all_ns == UINT64_MAX || allowance_used_ns() + allowance->checkpoint_ns + kept_ns < all_ns)
        return 0;
    return problem_set(why, STATUS_LIMIT,
                       "its agent has used up its processor time (RLIMIT_CPU is %lu s for each "
                       "process)",
                       (unsigned long)(all_ns / NS_PER_S));
}

void allowance_checkpoint_ends(struct allowance *allowance, uint64_t began_ns)
{
    allowance->checkpoint_ns = allowance_used_ns() - began_ns;
}
