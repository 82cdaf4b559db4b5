/*
 * processors.c - see processors.h. Always true: the agent is kept to a part of what it was allowed
 * at its beginning, and never to nothing.
 */
#include "core/agent/processors.h"

#include <string.h>
#include "core/agent/tasks.h"
#include "core/base/status.h"
#include "core/base/sys.h"

#define THREADS_MAX 32u /* a look at one takes some microseconds */
#define WORDS       (PROCESSORS_MAX / 64)

struct look {
    int pid;
    uint32_t threads;
    uint64_t busy[WORDS];
};

void processors_learn(struct processors *processors)
{
    memset(processors, 0, sizeof *processors);
    if (sys_call(SYS_sched_getaffinity, 0, sizeof processors->allowed, processors->allowed) < 0)
        memset(processors->allowed, 0, sizeof processors->allowed);
}

static int note_thread(void *context, int tid)
{
    struct look *look = context;
    int processor;

    if (look->threads++ == THREADS_MAX)
        return STATUS_LIMIT;
    processor = task_processor(look->pid, tid);
    if (processor >= 0 && (uint32_t)processor < PROCESSORS_MAX)
        look->busy[processor / 64] |= 1ull << processor % 64;
    return 0;
}

static void set(const uint64_t *mask)
{
    (void)sys_call(SYS_sched_setaffinity, 0, WORDS * sizeof *mask, mask);
}

void processors_keep_off(struct processors *processors, int program_pid, uint32_t threads)
{
    struct look look = {.pid = program_pid};
    uint64_t left[WORDS], any = 0, off = 0;

    processors_widen(processors);
    if (threads > THREADS_MAX || tasks_each(program_pid, note_thread, &look) < 0)
        return;
    for (uint32_t i = 0; i < WORDS; i++) {
        left[i] = processors->allowed[i] & ~look.busy[i];
        any |= left[i];
        off |= processors->allowed[i] & look.busy[i];
    }
    if (any == 0 || off == 0)
        return;
    set(left);
    processors->narrowed = true;
}

void processors_widen(struct processors *processors)
{
    if (processors->narrowed)
        set(processors->allowed);
    processors->narrowed = false;
}
