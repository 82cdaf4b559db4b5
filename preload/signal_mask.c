/*
 * signal_mask.c - PHEAP_FREEZE=signal: the program's threads do not block the signal by which they
 * are stopped, though they may ask for it: many programs have threads that block all signals, to
 * leave them to others. The program is not told; without the option its masks are as it asks.
 *
 * As glibc's own, down to the two signals that nobody may block.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include "core/base/sys.h"
#include "preload/program.h"

#define KERNEL_MASK 8                                     /* bytes */
#define OF_LIBC     (1ull << (32 - 1) | 1ull << (33 - 1)) /* SIGCANCEL, SIGSETXID */

static uint64_t kept_unblocked(int how)
{
    int number = program.link.halt_signal;

    return number && how != SIG_UNBLOCK && program_owns_pool() ? 1ull << (number - 1) : 0;
}

static long set_mask(int how, const sigset_t *set, sigset_t *old)
{
    uint64_t mask = 0;

    if (set) {
        memcpy(&mask, set, sizeof mask);
        mask &= ~(OF_LIBC | kept_unblocked(how));
    }
    return sys_call(SYS_rt_sigprocmask, how, set ? &mask : NULL, old, KERNEL_MASK);
}

#pragma GCC visibility push(default)

int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    return (int)-set_mask(how, set, old);
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    long status = set_mask(how, set, old);

    if (status < 0)
        errno = (int)-status;
    return status < 0 ? -1 : 0;
}
