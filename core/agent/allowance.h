/*
 * allowance.h - what the resource limits that the agent was born with leave it. They are copies of
 * the program's at that moment: what the program does to its own later does not reach the agent.
 *
 * Always true: where a limit leaves too little the program is told why there are no checkpoints,
 * and nothing else happens to it: no limit's signal reaches it, and none that ends the agent does
 * so unannounced, but within a checkpoint that takes seconds more of it than the one before.
 */
#ifndef PHEAP_AGENT_ALLOWANCE_H
#define PHEAP_AGENT_ALLOWANCE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

struct allowance {
    uint64_t descriptors;   /* that the agent may have open */
    uint64_t processor_ns;  /* that it may use in all; UINT64_MAX: no limit */
    uint64_t checkpoint_ns; /* that the last checkpoint has used */
    bool may_be_urgent;     /* at real-time priority in a freeze */
};

/* Raises what may be raised. -EMFILE: it is too little for an agent. */
MUST_CHECK int allowance_take(struct allowance *allowance, struct problem *why);

/* How many clients may be connected at once, of at most `most`. */
int allowance_clients(const struct allowance *allowance, int most);

/* STATUS_LIMIT: what is left of the processor time is for waiting and for the end mark. */
MUST_CHECK int allowance_checkpoint_begins(const struct allowance *allowance, struct problem *why);
/* began_ns: allowance_used_ns() before it. */
void allowance_checkpoint_ends(struct allowance *allowance, uint64_t began_ns);
uint64_t allowance_used_ns(void);

#endif
