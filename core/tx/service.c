/*
 * service.c - see service.h.
 */
#include "core/tx/service.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/wait.h>
#include "core/base/sys.h"

#define SLICE_NS 50000000u /* it may be killed meanwhile */

static void wake(const struct service *service)
{
    const uint64_t one = 1;

    (void)sys_write(service->event_fd, &one, sizeof one);
}

static uint32_t put_question(struct service *service)
{
    uint32_t number = __atomic_add_fetch(&service->asked, 1, __ATOMIC_ACQ_REL);

    wake(service);
    return number;
}

void service_kick(struct service *service)
{
    (void)put_question(service);
}

/* Whoever killed it left it as a zombie. */
static bool is_gone(struct service *service)
{
    if (service_runs(service) && sys_call(SYS_wait4, service->pid, 0, WNOHANG | __WALL, 0) == 0)
        return false;
    __atomic_store_n(&service->state, SERVICE_ENDED, __ATOMIC_RELEASE);
    return true;
}

int64_t service_ask(struct service *service, uint64_t timeout_ns)
{
    const struct timespec slice = {0, SLICE_NS};
    uint64_t deadline = sys_clock_ns(CLOCK_MONOTONIC) + timeout_ns;
    uint32_t number = put_question(service), answered;

    for (;;) {
        answered = __atomic_load_n(&service->answered, __ATOMIC_ACQUIRE);
        if ((int32_t)(answered - number) >= 0)
            return __atomic_load_n(&service->answer, __ATOMIC_RELAXED);
        if (is_gone(service))
            return -ESRCH;
        if (sys_clock_ns(CLOCK_MONOTONIC) >= deadline)
            return STATUS_DEFERRED;
        (void)sys_call(SYS_futex, &service->answered, FUTEX_WAIT_PRIVATE, answered, &slice);
    }
}

void service_stop(struct service *service)
{
    if (service->state == SERVICE_NONE)
        return;
    __atomic_store_n(&service->stop, 1, __ATOMIC_RELEASE);
    wake(service);
    if (service->pid > 0)
        (void)sys_call(SYS_wait4, service->pid, 0, __WALL, 0);
    sys_close(service->event_fd);
    if (service->memory)
        (void)sys_munmap(service->memory, service->memory_bytes);
    *service = (struct service){0};
}
