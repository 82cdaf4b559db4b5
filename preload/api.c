/*
 * api.c - the functions of core/pheap.h.
 *
 * Always true: errno is as the caller had it: nothing here calls libc.
 */
#include "core/pheap.h"

#include <errno.h>
#include "preload/program.h"

#define CHECKPOINT_TIMEOUT_MS 60000
#define SIGRTMAX_KERNEL       64

_Static_assert((int)PHEAP_ERROR_UNSUPPORTED == (int)STATUS_UNSUPPORTED, "as in status.h");
_Static_assert((int)PHEAP_ERROR_DEFERRED == (int)STATUS_DEFERRED, "as in status.h");
_Static_assert((int)PHEAP_ERROR_NOT_PERMITTED == (int)STATUS_NOT_PERMITTED, "as in status.h");

#pragma GCC visibility push(default)

int64_t pheap_checkpoint(void)
{
    int64_t number =
        program_owns_pool() ? agent_checkpoint(&program.link, CHECKPOINT_TIMEOUT_MS) : -ESRCH;

    return number == -ESRCH ? PHEAP_ERROR_NO_POOL : number;
}

uint64_t pheap_resumed_generation(void)
{
    return __atomic_load_n(&program.link.resumed_generation, __ATOMIC_RELAXED);
}

int pheap_on_resume(int signal_number)
{
    if (signal_number < 0 || signal_number > SIGRTMAX_KERNEL)
        return -EINVAL;
    program.resume_signal = signal_number;
    return 0;
}

const char *pheap_error_text(int64_t error)
{
    return error == PHEAP_ERROR_NO_POOL ? "this process has no pool" : status_text((int)error);
}
