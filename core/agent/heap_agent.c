/*
 * heap_agent.c - see heap_agent.h.
 *
 * Always true: of the program's descriptors it has those of the pool alone, and with them the
 * pool's lock, as long as it may write to the pool. It ends soon after the program has: the next
 * opening waits for that. Its thread-local storage is its own, since the thread that opened the
 * heap may end; nothing in core/ uses more of it than an address, the stack protector's canary and
 * zeroed variables.
 */
#include "core/agent/heap_agent.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "core/agent/companion.h"
#include "core/agent/tasks.h"
#include "core/base/limits.h"
#include "core/base/sys.h"
#include "core/base/valgrind.h"

#define STACK_BYTES        (512u << 10)
#define TLS_BYTES          (64u << 10) /* what lies below the thread pointer */
#define TLS_HEAD_BYTES     4096u       /* and above */
#define TLS_SELF           0           /* words of the head, by the x86-64 ABI and glibc */
#define TLS_SELF_TOO       2
#define TLS_CANARY         5
#define TICK_NS            1000000000ull /* has the program called exec? */
#define CHECKPOINT_WAIT_NS 5000000000ull
#define BLIND_NS           100000000
#define NS_PER_MS          1000000
#define KEPT_MAX           3
#define HEAP_AGENT_NAME    "pheap-heap"

struct heap_agent {
    struct pheap *heap;
    uint64_t interval_ns, next_ns;
    int program_pid, pidfd;
};

/* --- beginning --- */

static void keep_descriptors(const int *kept, int count)
{
    int from = 0;

    for (;;) {
        int next = INT32_MAX;

        for (int i = 0; i < count; i++)
            if (kept[i] >= from && kept[i] < next)
                next = kept[i];
        if (next > from)
            (void)sys_call(SYS_close_range, from, next == INT32_MAX ? ~0u : (unsigned)next - 1, 0);
        if (next == INT32_MAX)
            return;
        from = next + 1;
    }
}

static int separate(struct heap_agent *agent)
{
    const struct rlimit64 no_core = {0, 0};
    const struct persist *persist = &agent->heap->pool.persist;
    const int kept[KEPT_MAX] = {agent->heap->pool.fd, agent->heap->service.event_fd,
                                persist->dax.window ? persist->dax.fd : -1};

    keep_descriptors(kept, KEPT_MAX);
    (void)sys_call(SYS_setsid);
    (void)sys_call(SYS_chdir, "/");
    (void)sys_call(SYS_prctl, PR_SET_NAME, HEAP_AGENT_NAME, 0, 0, 0);
    (void)sys_call(SYS_prlimit64, 0, RLIMIT_CORE, &no_core, 0);
    (void)limit_raise(RLIMIT_NOFILE);
    (void)limit_raise(RLIMIT_FSIZE);
    (void)limit_raise(RLIMIT_CPU);
    agent->pidfd = (int)sys_call(SYS_pidfd_open, agent->program_pid, 0);
    return agent->pidfd < 0 ? agent->pidfd : 0;
}

static void set_state(struct service *service, enum service_state state)
{
    __atomic_store_n(&service->state, state, __ATOMIC_RELEASE);
    (void)sys_call(SYS_futex, &service->state, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

/* --- the loop --- */

/* Where the kernel refuses to wait for descriptors, as when somebody has lowered our limit. */
static bool wait_blindly(const struct heap_agent *agent, int64_t timeout_ns)
{
    const struct timespec time = {0, timeout_ns < BLIND_NS ? timeout_ns : BLIND_NS};

    if (timeout_ns > 0)
        (void)sys_call(SYS_nanosleep, &time, 0);
    return task_has_ended(agent->program_pid, agent->pidfd);
}

/* Waits, if timeout_ns is not 0. */
static bool program_has_ended(const struct heap_agent *agent, int64_t timeout_ns)
{
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct pollfd ends[2] = {{.fd = agent->pidfd, .events = POLLIN},
                             {.fd = agent->heap->service.event_fd, .events = POLLIN}};
    uint64_t drained;
    long got = sys_call(SYS_ppoll, ends, 2, &timeout, 0, 0);

    if (got < 0 && got != -EINTR)
        return wait_blindly(agent, timeout_ns);
    if (got <= 0)
        return false;
    if (timeout_ns > 0 && ends[1].revents)
        (void)sys_read(ends[1].fd, &drained, sizeof drained);
    return ends[0].revents != 0;
}

/* Between pieces of a checkpoint: the next opening waits for the lock. */
static int end_with_program(void *context)
{
    return program_has_ended(context, 0) ? (int)STATUS_ENDED : 0;
}

static bool program_has_left(const struct heap_agent *agent)
{
    return sys_call(SYS_kcmp, agent->program_pid, sys_getpid(), KCMP_VM, 0, 0) > 0;
}

/* While a lock is waited for, which a thread may have held when the program was killed. As after a
 * kill of the agent itself, the next opening finds what was committed. */
static void end_without_program(void *context)
{
    const struct heap_agent *agent = context;

    if (program_has_ended(agent, 0) || program_has_left(agent))
        (void)sys_call(SYS_exit_group, 0);
}

static void take(struct heap_agent *agent)
{
    struct service *service = &agent->heap->service;
    uint32_t asked = __atomic_load_n(&service->asked, __ATOMIC_ACQUIRE);
    int64_t number = opened_checkpoint(agent->heap, CHECKPOINT_WAIT_NS, NULL);

    agent->next_ns = sys_clock_ns(CLOCK_MONOTONIC) + agent->interval_ns;
    __atomic_store_n(&service->answer, number, __ATOMIC_RELAXED);
    __atomic_store_n(&service->answered, asked, __ATOMIC_RELEASE);
    (void)sys_call(SYS_futex, &service->answered, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

static bool is_due(const struct heap_agent *agent, uint64_t now_ns)
{
    const struct service *service = &agent->heap->service;

    if (__atomic_load_n(&service->asked, __ATOMIC_ACQUIRE) != service->answered)
        return true;
    return agent->interval_ns > 0 && now_ns >= agent->next_ns && log_bytes(&agent->heap->log) > 0;
}

static int64_t wait_ns(const struct heap_agent *agent, uint64_t now_ns)
{
    if (agent->interval_ns == 0 || log_bytes(&agent->heap->log) == 0)
        return (int64_t)(agent->interval_ns > 0 && agent->interval_ns < TICK_NS ? agent->interval_ns
                                                                                : TICK_NS);
    if (agent->next_ns <= now_ns)
        return 1;
    return (int64_t)(agent->next_ns - now_ns < TICK_NS ? agent->next_ns - now_ns : TICK_NS);
}

static void serve(struct heap_agent *agent)
{
    const struct service *service = &agent->heap->service;

    for (;;) {
        uint64_t now_ns = sys_clock_ns(CLOCK_MONOTONIC);

        if (program_has_ended(agent, wait_ns(agent, now_ns)) || program_has_left(agent) ||
            __atomic_load_n(&service->stop, __ATOMIC_ACQUIRE))
            return;
        if (is_due(agent, sys_clock_ns(CLOCK_MONOTONIC)))
            take(agent);
    }
}

static int agent_main(void *argument)
{
    struct heap_agent *agent = argument;
    struct pheap *heap = agent->heap;

    if (separate(agent) == 0) {
        heap->step_context = agent;
        heap->step = end_with_program;
        lock_watch = (struct lock_watch){end_without_program, agent};
        heap->service.pid = sys_getpid();
        agent->next_ns = sys_clock_ns(CLOCK_MONOTONIC) + agent->interval_ns;
        set_state(&heap->service, SERVICE_RUNNING);
        serve(agent);
        opened_drop_writer(heap);
    }
    set_state(&heap->service, SERVICE_ENDED);
    return 0;
}

/* --- starting it --- */

/* [ stack | thread-local storage, its head at the end | struct heap_agent ] */
static struct heap_agent *make(struct service *service, uintptr_t *stack_top, uintptr_t *tls)
{
    const size_t bytes = STACK_BYTES + TLS_BYTES + 2 * TLS_HEAD_BYTES;
    const uintptr_t *mine = __builtin_thread_pointer();
    void *memory =
        sys_mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t *head;

    if (sys_failed((long)memory))
        return NULL;
    (void)sys_madvise(memory, bytes, MADV_DONTFORK);
    (void)sys_madvise(memory, bytes, MADV_DONTDUMP);
    service->memory = memory;
    service->memory_bytes = bytes;
    *stack_top = (uintptr_t)memory + STACK_BYTES;
    *tls = *stack_top + TLS_BYTES;
    head = (uintptr_t *)*tls;
    head[TLS_SELF] = head[TLS_SELF_TOO] = *tls;
    head[TLS_CANARY] = mine[TLS_CANARY];
    return (struct heap_agent *)(*tls + TLS_HEAD_BYTES);
}

static int wait_for_start(struct service *service, int pid)
{
    const struct timespec slice = {0, 50 * NS_PER_MS};

    while (__atomic_load_n(&service->state, __ATOMIC_ACQUIRE) == SERVICE_STARTING) {
        if (sys_call(SYS_wait4, pid, 0, WNOHANG | __WALL, 0) == pid)
            return -ECHILD;
        (void)sys_call(SYS_futex, &service->state, FUTEX_WAIT_PRIVATE, SERVICE_STARTING, &slice);
    }
    return service_runs(service) ? 0 : -ENOSYS;
}

/* What can be waited for, and has no descriptor in this process any more, is given back. */
int heap_agent_start(struct pheap *heap, uint64_t interval_ns)
{
    struct service *service = &heap->service;
    uintptr_t stack_top, tls;
    struct heap_agent *agent;
    long pid;
    int status;

    if (valgrind_is_running())
        return -ENOSYS; /* the clone would end the program */
    service->event_fd = (int)sys_call(SYS_eventfd2, 0, O_CLOEXEC | O_NONBLOCK);
    if (service->event_fd < 0)
        return service->event_fd;
    agent = make(service, &stack_top, &tls);
    if (!agent) {
        sys_close(service->event_fd);
        return -ENOMEM;
    }
    *agent = (struct heap_agent){
        .heap = heap, .interval_ns = interval_ns, .program_pid = sys_getpid(), .pidfd = -1};
    opened_drop_writer(heap);
    service->state = SERVICE_STARTING;
    pid = companion_clone(stack_top, tls, agent_main, agent);
    service->pid = (int)pid;
    status = pid < 0 ? (int)pid : wait_for_start(service, (int)pid);
    if (pid < 0)
        service->state = SERVICE_ENDED;
    if (status < 0)
        service_stop(service);
    return status;
}
