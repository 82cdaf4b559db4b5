/*
 * children.h - the child processes of a program: which live, and which have ended and have not been
 * waited for. Internal to the agent and core/process.
 *
 * A checkpoint holds one process. One that has ended is made again as what it is, an exit status
 * with a pid (struct record_child); a living one puts the checkpoint off, or is lost.
 */
#ifndef PHEAP_PROCESS_CHILDREN_H
#define PHEAP_PROCESS_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/process/record_format.h"

#define CHILDREN_ENDED_MAX 256
#define AGENT_NAME         "pheap-agent" /* of every agent, as /proc/PID/comm shows it */

struct children {
    int living;         /* pid of one, 0: none */
    int sharing;        /* pid of one that has the program's memory and not a copy of it, 0: none */
    uint32_t ended_all; /* of which as many as fit are here: */
    uint32_t ended_count;
    struct record_child ended[CHILDREN_ENDED_MAX];
};

/* Adds what thread tid of process pid has begotten: not process `except`, nor any agent. What
 * vanishes meanwhile is passed over. */
void children_add(struct children *children, int pid, int tid, int except);

#endif
