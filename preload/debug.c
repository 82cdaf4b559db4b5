/*
 * debug.c - what a user asks for to find a fault: PHEAP_HARDEN=1 explains touches of guard pages,
 * PHEAP_STATS=1 prints statistics at exit.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/heap/heap.h"
#include "preload/program.h"

/* ---- faults ------------------------------------------------------------------------------ */

/* Comes back for what is none of the heap's: then the fault is met again, and ends the program as
 * it would have. One that was sent by kill() is not met again, so it is sent anew. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    int saved_errno = errno;

    (void)context;
    if (info->si_code > 0)
        heap_explain_fault(info->si_addr);
    (void)signal(number, SIG_DFL);
    if (info->si_code <= 0)
        (void)raise(number);
    errno = saved_errno;
}

void program_explain_faults(void)
{
    struct sigaction ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction now;

    if (sigaction(SIGSEGV, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        (void)sigaction(SIGSEGV, &ours, NULL);
}

/* ---- statistics -------------------------------------------------------------------------- */

static struct stat stderr_at_start;
static int stats_pid; /* of the process that asked; not of its children */

void program_note_stderr(void)
{
    if (sys_call(SYS_fstat, 2, &stderr_at_start) < 0)
        stderr_at_start = (struct stat){0};
}

/* A daemon may have opened a data file in its place. */
static bool stderr_is_the_same(void)
{
    struct stat now;

    return stderr_at_start.st_ino != 0 && sys_call(SYS_fstat, 2, &now) == 0 &&
           now.st_dev == stderr_at_start.st_dev && now.st_ino == stderr_at_start.st_ino;
}

static void print_statistics(int status, void *unused)
{
    char title[128];

    (void)status;
    (void)unused;
    if (stats_pid != sys_getpid() || !stderr_is_the_same())
        return;
    format_text(title, sizeof title, "pheap: statistics of %s, process %d\n",
                program_invocation_short_name, stats_pid);
    program_write_statistics(title);
}

static void print_statistics_at_quick_exit(void)
{
    print_statistics(0, NULL);
}

void program_print_statistics_at_exit(void)
{
    stats_pid = sys_getpid();
    program_note_stderr();
    (void)on_exit(print_statistics, NULL);
    (void)at_quick_exit(print_statistics_at_quick_exit);
}
