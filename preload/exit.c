/*
 * exit.c - how the agent learns that a program ends by itself: exit, return from main, quick_exit,
 * _exit and _Exit note the status before the process is gone. Everything else (a signal, a raw
 * system call) is a kill, and leaves the pool resumable.
 *
 * Always true: nothing is noted by a forked or vforked child, though the latter shares the memory.
 */
#include <stdlib.h>
#include <unistd.h>
#include "core/agent/control.h"
#include "core/base/sys.h"
#include "preload/program.h"

#define LAST_CHECKPOINT_TIMEOUT_MS 60000

static void note_exit(int status)
{
    struct agent_link *link = &program.link;

    if (!program_owns_pool())
        return;
    if (link->at_exit && !link->exit_noted)
        if (agent_request(link, CONTROL_CHECKPOINT, 0, 0, LAST_CHECKPOINT_TIMEOUT_MS) < 0)
            program_say("no checkpoint at exit; `pheap inspect` shows the last one before");
    link->exit_status = status;
    __atomic_store_n(&link->exit_noted, 1, __ATOMIC_RELEASE);
}

static void on_normal_exit(int status, void *unused)
{
    (void)unused;
    note_exit(status);
}

static void on_quick_exit(void)
{
    note_exit(0); /* its status is not told */
}

void program_watch_exit(void)
{
    /* Registered first, so called last. */
    (void)on_exit(on_normal_exit, NULL);
    (void)at_quick_exit(on_quick_exit);
}

#pragma GCC visibility push(default)

void _exit(int status)
{
    note_exit(status);
    for (;;)
        (void)sys_call(SYS_exit_group, status);
}

void _Exit(int status)
{
    _exit(status);
}
