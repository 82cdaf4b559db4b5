/*
 * freeze.c - see freeze.h.
 *
 * Always true: a thread in the table with state RUNNING or STOPPED is ours, and is let go before
 * anything else is done; NONE and GONE are not. Threads may vanish at any point (exit_group, exec,
 * kill): that ends at most the attempt. System calls are mended in our own memory alone: after an
 * exec the threads are another program's, and are let go as they are.
 */
#include "core/agent/freeze.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "core/agent/tasks.h"
#include "core/base/sys.h"

#define TRACEES_FIRST 32
#define WAIT_SLICE_NS 500000
#define SIGCHLD_MASK  (1ull << (SIGCHLD - 1))
#define SIGTERM_MASK  (1ull << (SIGTERM - 1))
#define SCANS_MAX     64

void freeze_create(struct freeze *freeze, struct arena *arena, struct restart_table *restarts,
                   int pid, struct halt_table *halts)
{
    memset(freeze, 0, sizeof *freeze);
    freeze->arena = arena;
    freeze->restarts = restarts;
    freeze->pid = pid;
    freeze->halts = halts;
}

/* The old table is left behind: sizes double, so that is no more than one table. */
static bool make_room(struct freeze *freeze)
{
    uint32_t capacity = freeze->capacity ? freeze->capacity * 2 : TRACEES_FIRST;
    struct tracee *table;

    if (freeze->count < freeze->capacity)
        return true;
    table = arena_alloc(freeze->arena, capacity * sizeof *table, 64);
    if (!table)
        return false;
    if (freeze->capacity)
        memcpy(table, freeze->tracees, freeze->capacity * sizeof *table);
    for (uint32_t i = freeze->capacity; i < capacity; i++) {
        table[i].xstate = arena_alloc(freeze->arena, TRACEE_XSTATE_BYTES_MAX, 64);
        if (!table[i].xstate)
            return false;
    }
    freeze->tracees = table;
    freeze->capacity = capacity;
    return true;
}

static bool is_known(const struct freeze *freeze, int tid)
{
    for (uint32_t i = 0; i < freeze->count; i++)
        if (freeze->tracees[i].tid == tid)
            return true;
    return false;
}

static int why_not_permitted(struct freeze *freeze, int tid, struct problem *why)
{
    int64_t tracer = task_status_number(freeze->pid, tid, "TracerPid:");
    char name[TASK_NAME_BYTES];

    if (tracer > 0) {
        task_name((int)tracer, name);
        return problem_set(why, STATUS_NOT_PERMITTED,
                           "thread %d is traced by process %d (%s), which has to detach first", tid,
                           (int)tracer, name);
    }
    return problem_set(why, STATUS_NOT_PERMITTED,
                       "ptrace of thread %d is not permitted; look at kernel.yama.ptrace_scope, "
                       "seccomp, and whether the program switched PR_SET_DUMPABLE off; "
                       "PHEAP_FREEZE=signal does without ptrace",
                       tid);
}

/* Asks a thread that is new to halt itself. 0 also when it is gone. */
static int halt_thread(struct freeze *freeze, int tid, struct problem *why)
{
    struct halt_table *halts = freeze->halts;
    int status = halt_begin(halts, &freeze->tracees[freeze->count], freeze->pid, tid);

    freeze->count += status == 0;
    switch (status) {
    case 0:
    case -ESRCH:
        return 0;
    case STATUS_DEFERRED:
        return problem_set(why, status, "thread %d blocks signal %d, by which it is to be stopped",
                           tid, halts->signal);
    case STATUS_REFUSED:
        return problem_set(why, status,
                           "the program took away the handler of signal %d, by which its threads "
                           "are to be stopped (PHEAP_FREEZE=signal)",
                           halts->signal);
    case -EAGAIN:
        return problem_set(why, STATUS_REFUSED,
                           "thread %d cannot be stopped by a signal: the program may queue no more "
                           "signals (RLIMIT_SIGPENDING)",
                           tid);
    default:
        return problem_set(why, status, "cannot stop thread %d by a signal: %s", tid,
                           status_text(status));
    }
}

/* Seizes and interrupts a thread that is new. 0 also when it is gone or a zombie. */
static int take_thread(struct freeze *freeze, int tid, struct problem *why)
{
    struct tracee *tracee;
    char state;
    int status;

    if (!make_room(freeze))
        return problem_set(why, -ENOMEM, "no memory for %u threads", freeze->count + 1);
    if (freeze->halts)
        return halt_thread(freeze, tid, why);
    tracee = &freeze->tracees[freeze->count];
    status = tracee_seize(tracee, tid, 0);
    if (status == -EPERM) {
        state = task_state(freeze->pid, tid);
        if (state == 'Z' || state == 'X' || state == 0)
            status = -ESRCH;
        else
            return why_not_permitted(freeze, tid, why);
    }
    if (status == -ESRCH)
        return 0;
    if (status < 0)
        return problem_set(why, status, "cannot seize thread %d: %s", tid, status_text(status));
    freeze->count++;
    status = tracee_interrupt(tracee);
    return status == -ESRCH ? 0 : status; /* ended meanwhile: tracee_poll() tells */
}

struct scan {
    struct freeze *freeze;
    struct problem *why;
    uint32_t taken;
};

static int scan_thread(void *context, int tid)
{
    struct scan *scan = context;
    uint32_t before = scan->freeze->count;
    int status;

    if (is_known(scan->freeze, tid))
        return 0;
    status = take_thread(scan->freeze, tid, scan->why);
    scan->taken += scan->freeze->count - before;
    return status;
}

/* The number of threads that were new, or negative. */
static int scan_threads(struct freeze *freeze, struct problem *why)
{
    struct scan scan = {freeze, why, 0};
    int status = tasks_each(freeze->pid, scan_thread, &scan);

    if (status == -ESRCH)
        return problem_set(why, STATUS_ENDED, "process %d has ended", freeze->pid);
    return status < 0 ? status : (int)scan.taken;
}

static uint32_t poll_all(struct freeze *freeze)
{
    uint32_t running = 0;

    for (uint32_t i = 0; i < freeze->count; i++)
        if (freeze->tracees[i].state == TRACEE_RUNNING)
            running += tracee_poll(&freeze->tracees[i]) == 0;
    return running;
}

static void wait_for_report(const struct freeze *freeze, uint32_t arrived, uint64_t longest_ns)
{
    const uint64_t mask = SIGCHLD_MASK;
    struct timespec time = {0, (long)(longest_ns < WAIT_SLICE_NS ? longest_ns : WAIT_SLICE_NS)};

    if (freeze->halts)
        halt_wait(freeze->halts, arrived, (uint64_t)time.tv_nsec);
    else
        (void)sys_call(SYS_rt_sigtimedwait, &mask, NULL, &time, sizeof mask);
}

static uint32_t arrivals(const struct freeze *freeze)
{
    return freeze->halts ? __atomic_load_n(&freeze->halts->arrived, __ATOMIC_ACQUIRE) : 0;
}

/* Reads the registers of a stopped thread and mends its system call, at once: should we be killed,
 * it goes on with what it has. Done again it changes nothing. */
static int mend(struct freeze *freeze, struct tracee *tracee)
{
    int status = tracee->regs_read ? 0 : tracee_read_registers(tracee);

    if (status < 0 || tracee->halt)
        return status; /* halted: the kernel has told the thread already */
    status =
        syscall_restart_fix(freeze->restarts, tracee, freeze->pid, sys_clock_ns(CLOCK_MONOTONIC));
    return status == 0 && tracee->regs_changed ? tracee_write_registers(tracee) : status;
}

static bool is_to_mend(const struct tracee *tracee)
{
    return tracee->state == TRACEE_STOPPED && !tracee->regs_read;
}

/* Those that have stopped since the last time. */
static int mend_stopped(struct freeze *freeze, struct problem *why)
{
    uint32_t i = 0;

    while (i < freeze->count && !is_to_mend(&freeze->tracees[i]))
        i++;
    if (i < freeze->count && task_has_exec_ed(freeze->pid))
        return problem_set(why, STATUS_ENDED, "the program has called exec");
    for (; i < freeze->count; i++) {
        struct tracee *tracee = &freeze->tracees[i];
        int status = is_to_mend(tracee) ? mend(freeze, tracee) : 0;

        if (status < 0)
            return problem_set(why, status == -ESRCH ? STATUS_DEFERRED : status,
                               "thread %d: cannot read its registers: %s", tracee->tid,
                               status_text(status));
    }
    return 0;
}

static int wait_all_stopped(struct freeze *freeze, uint64_t deadline_ns, struct problem *why)
{
    for (;;) {
        uint32_t arrived = arrivals(freeze), running = poll_all(freeze);
        int status = mend_stopped(freeze, why);
        uint64_t now_ns = sys_clock_ns(CLOCK_MONOTONIC);

        if (status < 0 || running == 0)
            return status;
        if (now_ns >= deadline_ns)
            return problem_set(why, STATUS_DEFERRED,
                               "%u of %u threads could not be stopped in time", running,
                               freeze->count);
        wait_for_report(freeze, arrived, deadline_ns - now_ns);
    }
}

/* Forgets the threads that are no longer ours. Their xstate buffers stay with the table. */
static void drop_gone(struct freeze *freeze)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < freeze->count; i++) {
        struct tracee *tracee = &freeze->tracees[i];

        if (tracee->state != TRACEE_RUNNING && tracee->state != TRACEE_STOPPED)
            continue;
        if (kept != i) {
            struct tracee moved = *tracee;

            *tracee = freeze->tracees[kept];
            freeze->tracees[kept] = moved;
        }
        kept++;
    }
    freeze->count = kept;
}

static int check_leader(struct freeze *freeze, struct problem *why)
{
    if (freeze->count > 0 && freeze->tracees[0].tid == freeze->pid)
        return 0;
    if (freeze->count == 0 || task_state(freeze->pid, freeze->pid) != 'Z')
        return problem_set(why, STATUS_ENDED, "process %d is ending", freeze->pid);
    return problem_set(why, STATUS_UNSUPPORTED,
                       "the program's main thread has ended while others go on: this cannot be "
                       "checkpointed yet");
}

/* Until a scan finds nothing new while all that is known is stopped: a stopped thread starts no
 * others. */
static int stop_all(struct freeze *freeze, uint64_t deadline_ns, struct problem *why)
{
    int status = take_thread(freeze, freeze->pid, why);

    for (int scans = 0; status == 0 && scans < SCANS_MAX; scans++) {
        int taken = scan_threads(freeze, why);

        if (taken < 0)
            return taken;
        status = wait_all_stopped(freeze, deadline_ns, why);
        if (status == 0 && taken == 0) {
            drop_gone(freeze);
            return check_leader(freeze, why);
        }
    }
    return status ? status : problem_set(why, STATUS_DEFERRED, "threads come and go too fast");
}

int freeze_stop(struct freeze *freeze, uint64_t patience_ns, struct problem *why)
{
    int status;

    if (!freeze_settle(freeze))
        return problem_set(why, STATUS_DEFERRED, "a thread has still not been stopped");
    wait_for_report(freeze, arrivals(freeze), 0); /* what is left of the last freeze */
    freeze->began_ns = sys_clock_ns(CLOCK_MONOTONIC);
    status = stop_all(freeze, freeze->began_ns + patience_ns, why);
    if (status < 0)
        freeze_release(freeze);
    return status;
}

/* Registers and system calls as the program had them. A thread that was killed fails here and stays
 * in the table until it has been waited for. */
static void give_back(struct freeze *freeze)
{
    bool is_ours = freeze->count > 0 && !task_has_exec_ed(freeze->pid);

    for (uint32_t i = 0; i < freeze->count; i++)
        if (freeze->tracees[i].state == TRACEE_STOPPED && is_ours)
            (void)mend(freeze, &freeze->tracees[i]);
}

static void let_go(struct tracee *tracee)
{
    if (tracee->state == TRACEE_STOPPED)
        (void)tracee_detach(tracee);
    else if (tracee->halt && tracee->state == TRACEE_RUNNING)
        halt_release(tracee);
}

/* Registers first, then all are let go at once. */
void freeze_release(struct freeze *freeze)
{
    give_back(freeze);
    for (uint32_t i = 0; i < freeze->count; i++)
        let_go(&freeze->tracees[i]);
    freeze->ended_ns = sys_clock_ns(CLOCK_MONOTONIC);
    drop_gone(freeze);
}

/* The program runs nothing else: a thread that is let go handles its signals first. */
void freeze_release_to_end(struct freeze *freeze, uint64_t longest_ns)
{
    uint64_t deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + longest_ns;
    uint32_t i = 0;

    give_back(freeze);
    while (i < freeze->count && (freeze->tracees[i].state != TRACEE_STOPPED ||
                                 (freeze->tracees[i].signal_mask & SIGTERM_MASK)))
        i++;
    if (i < freeze->count)
        let_go(&freeze->tracees[i]);
    while (i < freeze->count && sys_clock_ns(CLOCK_MONOTONIC) < deadline_ns) {
        char state = task_state(freeze->pid, freeze->pid);

        if (state == 'Z' || state == 'X' || state == 0)
            break;
        wait_for_report(freeze, arrivals(freeze), WAIT_SLICE_NS);
    }
    freeze_release(freeze);
}

bool freeze_settle(struct freeze *freeze)
{
    if (freeze->count == 0)
        return !freeze->halts || halt_settle(freeze->halts);
    (void)poll_all(freeze);
    freeze_release(freeze);
    return freeze->count == 0;
}
