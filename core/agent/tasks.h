/*
 * tasks.h - threads and children of a process, as /proc lists them.
 */
#ifndef PHEAP_AGENT_TASKS_H
#define PHEAP_AGENT_TASKS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/process/children.h"

#define TASK_NAME_BYTES 16

/* Called for each thread; a negative result ends the walk and is returned. */
typedef int task_visit(void *context, int tid);
MUST_CHECK int tasks_each(int pid, task_visit *visit, void *context);

/* The children of all its threads but `except` and other agents. */
MUST_CHECK int tasks_children(int pid, int except, struct children *out);

/* For when its pidfd cannot be waited for: it is gone, or a zombie to its last thread. */
bool task_has_ended(int pid, int pidfd);

/* Is the process's memory another than ours, its agent's? Then it has called exec. False of a
 * process that has ended. */
bool task_has_exec_ed(int pid);

/* The letter of /proc/PID/task/TID/stat (R, S, D, T, t, Z, X), or 0. */
char task_state(int pid, int tid);

/* The processor that a running thread is on, or waits for; -1: it sleeps, or is gone. */
int task_processor(int pid, int tid);

/* A number field of /proc/PID/task/TID/status, such as "TracerPid:"; -1 if it is not there. */
int64_t task_status_number(int pid, int tid, const char *field);

/* Whether it has a descriptor open for direct I/O (O_DIRECT). */
bool tasks_do_direct_io(int pid);

void task_name(int pid, char text[TASK_NAME_BYTES]);

#endif
