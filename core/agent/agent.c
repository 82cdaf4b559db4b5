/*
 * agent.c - see agent.h: the agent's memory and its birth.
 *
 * Always true: the agent shares the program's address space and nothing else. It runs with all
 * signals blocked on the thread-local storage of the thread that started it, so nothing in core/
 * touches errno, locks of libc, malloc or stdio. All its memory is in one reservation that fork
 * does not copy and no image holds.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "core/agent/companion.h"
#include "core/base/limits.h"
#include "core/base/sys.h"

#define RESERVE_BYTES       (64ull << 30)
#define RESERVE_BYTES_MIN   (96ull << 20)
#define RESERVE_SHARE       8            /* of RLIMIT_AS and RLIMIT_DATA */
#define WINDOW_BYTES        (1ull << 40) /* of a larger pool the rest is not mapped, see persist.h */
#define WINDOW_ALIGN        (2ull << 20) /* of a huge page */
#define CORE_SHARE          32
#define CORE_BYTES_MIN      (16ull << 20)
#define WRITER_BYTES_MIN    (32ull << 20) /* what image_writer_create() takes at least */
#define STACK_BYTES         (512u << 10)
#define START_WAIT_SLICE_NS 50000000

static uintptr_t carve(struct arena *arena, uintptr_t start, uint64_t bytes)
{
    uintptr_t end = start + (bytes & ~(uint64_t)(PAGE_BYTES - 1));

    *arena = (struct arena){start, start, start, end};
    return end;
}

/* wanted, or less where address space or data are limited: the program needs some too. */
static uint64_t share_of_limit(uint64_t wanted)
{
    uint64_t space = limit_of(RLIMIT_AS), data = limit_of(RLIMIT_DATA);
    uint64_t limit = space < data ? space : data;

    if (limit != UINT64_MAX && limit / RESERVE_SHARE < wanted)
        return limit / RESERVE_SHARE;
    return wanted;
}

/* Reserves the agent's memory, with the window at its end if all is granted; else it is empty. */
static int reserve(struct arena *whole, struct address_range *window, bool with_window)
{
    uint64_t window_bytes = with_window ? share_of_limit(WINDOW_BYTES) : 0;
    uint64_t bytes = share_of_limit(RESERVE_BYTES);
    int status;

    if (bytes < RESERVE_BYTES_MIN)
        bytes = RESERVE_BYTES_MIN;
    if (with_window)
        bytes += window_bytes + WINDOW_ALIGN;
    status = arena_create(whole, bytes);
    if (status < 0)
        return status;
    window->start = window->end = whole->reserved_end;
    if (with_window && whole->reserved_end - whole->base >= bytes)
        window->start = (window->end - window_bytes) & ~(uintptr_t)(WINDOW_ALIGN - 1);
    return 0;
}

/* Reserves the agent's memory and lays it out, see agent_state.h. */
static int make_agent(struct agent **out, struct agent_link *link)
{
    struct address_range window;
    struct arena whole, core;
    uint64_t bytes, core_bytes, writer_bytes;
    struct agent *agent;
    uintptr_t at;
    int status = reserve(&whole, &window, link->pmem.copy != NULL);

    if (status < 0)
        return status;
    bytes = window.start - whole.base;
    core_bytes = bytes / CORE_SHARE > CORE_BYTES_MIN ? bytes / CORE_SHARE : CORE_BYTES_MIN;
    at = bytes < RESERVE_BYTES_MIN ? 0 : carve(&core, whole.base, core_bytes);
    agent = at ? arena_alloc(&core, sizeof *agent, 64) : NULL;
    if (!agent) {
        arena_destroy(&whole);
        return -ENOMEM;
    }
    (void)sys_madvise((void *)whole.base, whole.reserved_end - whole.base, MADV_DONTFORK);
    (void)sys_madvise((void *)whole.base, whole.reserved_end - whole.base, MADV_DONTDUMP);
    bytes -= core_bytes;
    writer_bytes = bytes / 4 > WRITER_BYTES_MIN ? bytes / 4 : WRITER_BYTES_MIN;
    at = carve(&agent->pool_arena, at, bytes / 4 * 3 - writer_bytes);
    at = carve(&agent->writer_arena, at, writer_bytes);
    carve(&agent->scratch, at, window.start - at);
    agent->window = window;
    agent->whole = whole;
    agent->core = core;
    agent->link = link;
    agent->program_pid = sys_getpid();
    agent->listen_fd = -1;
    agent->pool.fd = -1;
    *out = agent;
    return 0;
}

static void tell_starter(struct agent_link *link, int state)
{
    __atomic_store_n(&link->state, state, __ATOMIC_RELEASE);
    (void)sys_call(SYS_futex, &link->state, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0);
}

/* Of a program that runs already: it goes on without an agent. */
static int prepare_late(struct agent *agent)
{
    struct problem why = {0, ""}, note;
    int status = agent_prepare(agent, &why);

    if (status >= 0 && why.status >= 0)
        return status;
    limit_explain(&why);
    (void)problem_set(&note, why.status, "%s%s", status < 0 ? "no checkpoints: " : "", why.text);
    report_once(agent, why.status, note.text);
    return status;
}

/*
 * A new program is told when everything is ready, so that what is wrong is said at its start. A
 * resumed one is told when the pool is ours: loading the pool takes time by its size, and the
 * restore has looked at the generation already.
 */
static int begin(struct agent *agent)
{
    bool resumed = agent->link->resumed_generation != 0;
    int status = agent_take_pool(agent, &agent->link->start_problem);

    if (status == 0 && !resumed)
        status = agent_prepare(agent, &agent->link->start_problem);
    if (status < 0)
        limit_explain(&agent->link->start_problem);
    tell_starter(agent->link, status < 0 ? status : 1);
    return status == 0 && resumed ? prepare_late(agent) : status;
}

static int agent_main(void *argument)
{
    struct agent *agent = argument;

    bool begun = begin(agent) == 0;

    if (begun)
        agent_loop(agent);
    pool_close(&agent->pool); /* before the memory goes, which may take long; and the program may
                                 live on: what is mapped of the pool goes now */
    if (begun)
        control_close(agent);
    if (begun || agent->link->state == 1)
        agent->link->agent_pid = 0;
    return begun ? 0 : 1;
}

/* Waits for the agent's answer; it may also die without one. */
static int wait_for_answer(struct agent_link *link, int pid)
{
    const struct timespec slice = {0, START_WAIT_SLICE_NS};
    int state;

    while ((state = __atomic_load_n(&link->state, __ATOMIC_ACQUIRE)) == 0) {
        if (sys_call(SYS_wait4, pid, 0, WNOHANG | __WALL, 0) == pid)
            return -ECHILD;
        (void)sys_call(SYS_futex, &link->state, FUTEX_WAIT_PRIVATE, 0, &slice, 0, 0);
    }
    if (state < 0)
        (void)sys_call(SYS_wait4, pid, 0, __WALL, 0);
    return state < 0 ? state : 0;
}

int agent_start(struct agent_link *link, struct problem *why)
{
    uintptr_t stack, call_stack;
    struct agent *agent;
    struct arena whole; /* a copy: the agent lies in it */
    int status = make_agent(&agent, link);
    long pid;

    if (status < 0)
        return problem_set(why, status, "no checkpoints: no address space for the agent: %s",
                           status_text(status));
    whole = agent->whole;
    stack = (uintptr_t)arena_alloc(&agent->core, STACK_BYTES, PAGE_BYTES);
    call_stack = (uintptr_t)arena_alloc(&agent->core, CAPTURE_STACK_BYTES, PAGE_BYTES);
    agent->call_stack_top = call_stack + CAPTURE_STACK_BYTES;
    halt_forget();
    status = link->by_signal ? halt_install(&agent->halts, &agent->core) : 0;
    if (status < 0) {
        arena_destroy(&whole);
        return problem_set(why, status,
                           "PHEAP_FREEZE=signal: no signal is free to stop the program's threads "
                           "by: %s",
                           status_text(status));
    }
    link->halt_signal = agent->halts ? agent->halts->signal : 0;
    report_remember_stderr(agent);
    link->agent_pid = 0;
    link->state = 0;
    link->committed_generation = 0;
    link->start_problem = (struct problem){0, ""};
    mailbox_resume(link);
    pid =
        stack && call_stack ? companion_clone(stack + STACK_BYTES, 0, agent_main, agent) : -ENOMEM;
    if (pid < 0) {
        status = problem_set(why, (int)pid, "no checkpoints: cannot start the agent: %s",
                             status_text((int)pid));
        arena_destroy(&whole);
        return status;
    }
    (void)sys_call(SYS_prctl, PR_SET_PTRACER, pid, 0, 0, 0); /* where Yama asks for it */
    __atomic_store_n(&link->agent_pid, (int32_t)pid, __ATOMIC_RELEASE);
    status = wait_for_answer(link, (int)pid);
    if (status < 0) {
        link->agent_pid = 0;
        if (status == -ECHILD)
            (void)problem_set(why, status, "no checkpoints: the agent died while it started");
        else
            (void)problem_set(why, link->start_problem.status, "%s", link->start_problem.text);
        arena_destroy(&whole);
    } else if (why) {
        *why = link->start_problem; /* a warning, or empty */
    }
    return status;
}
