/*
 * on_term.c - PHEAP_ON_TERM: SIGTERM means a checkpoint, and then the end, so that whoever stops a
 * service or a job loses nothing.
 *
 * A handler of ours takes SIGTERM. What the program does about SIGTERM, by sigaction or signal, is
 * its wish: kept here, told to it when it asks, and done where there is no checkpoint to take: in
 * forked children, without an agent, and when the checkpoint is refused.
 *
 *     none --SIGTERM--> asked --[agent: cleared before the cut]--> none
 *     none --[agent: committed]--> saved --SIGTERM of the agent--> dies of SIGTERM
 *     none --[agent: refused]--> refused --SIGTERM of the agent--> the program's wish
 *
 * Always true: no image shows a termination under way; the handler never waits.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "core/base/sys.h"
#include "preload/program.h"

/* glibc's own, which a program calls by the name without underscores. */
int __sigaction(int number, const struct sigaction *action, struct sigaction *old);

static struct {
    bool active;
    struct sigaction wish;
} term;

/* With the signal's default action, in a process whose handler we are in: delivered at its end. */
static void die_by_default(int number)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    (void)__sigaction(number, &action, NULL);
    (void)sys_call(SYS_tgkill, sys_getpid(), sys_call(SYS_gettid), number);
}

static void do_wish(int number, siginfo_t *info, void *context)
{
    struct sigaction wish = term.wish;
    sigset_t before;

    if (wish.sa_handler == SIG_IGN)
        return;
    if (wish.sa_handler == SIG_DFL) {
        die_by_default(number);
        return;
    }
    if (wish.sa_flags & SA_RESETHAND)
        term.wish = (struct sigaction){.sa_handler = SIG_DFL};
    (void)sigprocmask(SIG_BLOCK, &wish.sa_mask, &before);
    if (wish.sa_flags & SA_SIGINFO)
        wish.sa_sigaction(number, info, context);
    else
        wish.sa_handler(number);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
}

static void on_term(int number, siginfo_t *info, void *context)
{
    struct agent_link *link = &program.link;
    int error = errno;
    int agent_pid = __atomic_load_n(&link->agent_pid, __ATOMIC_ACQUIRE);

    if (!program_owns_pool() || agent_pid <= 0) {
        do_wish(number, info, context);
    } else {
        switch (__atomic_exchange_n(&link->termination, AGENT_TERMINATION_NONE, __ATOMIC_ACQ_REL)) {
        case AGENT_TERMINATION_SAVED:
            die_by_default(number);
            break;
        case AGENT_TERMINATION_REFUSED:
            do_wish(number, info, context);
            break;
        default:
            __atomic_store_n(&link->termination, AGENT_TERMINATION_ASKED, __ATOMIC_RELEASE);
            (void)sys_call(SYS_kill, agent_pid, SIGURG);
        }
    }
    errno = error;
}

void program_watch_term(void)
{
    struct sigaction action = {.sa_sigaction = on_term, .sa_flags = SA_SIGINFO | SA_RESTART};

    sigemptyset(&action.sa_mask);
    term.active = __sigaction(SIGTERM, &action, &term.wish) == 0;
}

#pragma GCC visibility push(default)

int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    struct sigaction before = term.wish;

    if (number != SIGTERM || !term.active)
        return __sigaction(number, action, old);
    if (action)
        term.wish = *action;
    if (old)
        *old = before;
    return 0;
}

/* ssignal() is the C library's signal() by another name: it knows of siginterrupt(). */
sighandler_t signal(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

    if (number != SIGTERM || !term.active || handler == SIG_ERR)
        return ssignal(number, handler);
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, number);
    return sigaction(number, &action, &old) < 0 ? SIG_ERR : old.sa_handler;
}
