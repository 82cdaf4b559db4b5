/*
 * heap_agent.h - the agent of a heap that a program has opened: takes its checkpoints.
 *
 * A companion process, as the agent of a checkpointed program is, but it looks at the heap's slot
 * alone and stops nobody: what keeps a cut whole is the heap's gate. So it needs no permission, and
 * all that it does can be done in the program instead.
 *
 * It takes a checkpoint when it is asked, and at each interval if something was committed since the
 * last. It ends when the heap is closed, when the program ends or calls exec; it takes no last one
 * then: the log has everything.
 */
#ifndef PHEAP_AGENT_HEAP_AGENT_H
#define PHEAP_AGENT_HEAP_AGENT_H

#include <stdint.h>
#include "core/base/status.h"
#include "core/tx/opened.h"

/* For a heap that was loaded for writing, before others know of it. interval_ns 0: only when
 * asked. An error: the heap has no agent, and is right without. -ENOSYS: so it is under Valgrind.
 */
MUST_CHECK int heap_agent_start(struct pheap *heap, uint64_t interval_ns);

#endif
