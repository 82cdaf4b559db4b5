/*
 * processors.h - where the agent works: on processors that no thread of the program runs on, while
 * there are such. Else the scheduler now and then puts it where one runs, which then waits.
 */
#ifndef PHEAP_AGENT_PROCESSORS_H
#define PHEAP_AGENT_PROCESSORS_H

#include <stdbool.h>
#include <stdint.h>

#define PROCESSORS_MAX 1024u

struct processors {
    uint64_t allowed[PROCESSORS_MAX / 64]; /* to the agent, when it began; all 0: not known */
    bool narrowed;
};

void processors_learn(struct processors *processors);

/*
 * From here to processors_widen(): for as long as a checkpoint takes, since threads move. threads:
 * how many the program is known to have had; one that has many is not looked at, or no further.
 */
void processors_keep_off(struct processors *processors, int program_pid, uint32_t threads);
void processors_widen(struct processors *processors);

#endif
