/*
 * first_process.h - pheap run as process 1 of a pid namespace, as in a container without an init.
 */
#ifndef PHEAP_TOOLS_FIRST_PROCESS_H
#define PHEAP_TOOLS_FIRST_PROCESS_H

#include "core/base/status.h"

/*
 * Starts a child that is to become the program, and stays as its parent, as pheap restore does: it
 * passes signals on, reaps, waits. Returns 0 in the child; 1 in the parent when the child has
 * ended, with *exit_status as a shell would say it; or a negative status.
 */
MUST_CHECK int first_process_stay(int *exit_status, struct problem *why);

#endif
