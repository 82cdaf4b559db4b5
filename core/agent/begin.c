/*
 * begin.c - the agent's first moments: it rids itself of all that it inherited, takes the pool, and
 * makes what it works with.
 *
 * Always true: the program's descriptors are closed before anything is opened; a pool is changed
 * (run state) only after everything else has succeeded.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>

#include "core/agent/tasks.h"
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/image/memory.h"

#define LOCK_PATIENCE_NS  2000000000ull
#define LOCK_RETRY_NS     2000000
#define PERMISSION_TRIES  50
#define STATUS_TIMEOUT_MS 200
#define SCRATCH_SHARE     32 /* of the reservation: pages copied inside the freeze */
#define SCRATCH_BYTES_MAX (64ull << 20)

/* A page that could not be read, a commit that has failed, or the agent's end. But not what
 * somebody has sent: a signal to all processes of a name or a service is meant for the program. */
static void take_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_code <= 0)
        return;
    memory_fault();
    persist_dax_fault(signal_number);
}

/* A page that the program has purged while it was copied is none. A pool that is cut short while it
 * is mapped is an error of the next commit. */
static void survive_faults(void)
{
    const uint64_t faults = 1ull << (SIGBUS - 1) | 1ull << (SIGSEGV - 1);
    const struct kernel_sigaction action = {
        .handler = (uintptr_t)take_fault,
        .flags = SA_SIGINFO | SA_NODEFER | SA_RESTORER,
        .restorer = (uintptr_t)sys_signal_return,
    };

    memory_in_place(NULL); /* a restored program has that of the agent before */
    (void)sys_call(SYS_rt_sigaction, SIGBUS, &action, 0, sizeof action.mask);
    (void)sys_call(SYS_rt_sigaction, SIGSEGV, &action, 0, sizeof action.mask);
    (void)sys_call(SYS_rt_sigprocmask, SIG_UNBLOCK, &faults, 0, sizeof faults);
}

/* The program's descriptors, directory and session are not the agent's: in the session of a
 * dead leader the agent would keep its pid from being taken again by a restore. Its signal
 * dispositions were copied: SIGCHLD must not be ignored, or stops are not reported. */
static int separate(struct agent *agent)
{
    const struct kernel_sigaction ignore_nothing = {0, 0, 0, 0};
    const uint64_t signals = (1ull << (SIGCHLD - 1)) | (1ull << (SIGURG - 1));
    int status = (int)sys_call(SYS_close_range, 0, ~0u, 0);

    if (status < 0)
        return status;
    (void)sys_call(SYS_rt_sigaction, SIGCHLD, &ignore_nothing, 0, sizeof ignore_nothing.mask);
    survive_faults();
    (void)sys_call(SYS_setsid);
    (void)sys_call(SYS_chdir, "/");
    (void)sys_call(SYS_prctl, PR_SET_NAME, AGENT_NAME, 0, 0, 0);
    agent->self_pid = sys_getpid();
    agent->self_tid = (uint32_t)sys_call(SYS_set_tid_address, &agent->self_tid);
    agent->pidfd = (int)sys_call(SYS_pidfd_open, agent->program_pid, 0);
    agent->signal_fd =
        (int)sys_call(SYS_signalfd4, -1, &signals, sizeof signals, O_CLOEXEC | O_NONBLOCK);
    return agent->pidfd < 0 ? agent->pidfd : agent->signal_fd < 0 ? agent->signal_fd : 0;
}

/* Is the program that the pool's present writer serves another one, and alive? Its pid, or 0. If it
 * is dead the writer lets go of the pool. */
static int living_user(const struct agent *agent)
{
    const struct control_request request = {.kind = CONTROL_YIELD};
    struct control_answer answer;
    struct problem ignored;
    struct pool seen;
    int status = pool_open(&seen, agent->link->pool_path, POOL_READ, &ignored);
    char state;

    if (status < 0)
        return 0;
    status = control_ask(seen.super.uuid, &request, &answer, STATUS_TIMEOUT_MS);
    pool_close(&seen);
    if (status < 0 || answer.pid == agent->program_pid)
        return 0;
    state = task_state(answer.pid, answer.pid);
    return state == 0 || state == 'Z' || state == 'X' ? 0 : answer.pid;
}

/* The writer's lock may still be with the agent of a program that has just ended, or has just
 * become this one: such an agent is on its way out. */
static int open_pool(struct agent *agent, struct problem *why)
{
    const struct timespec retry = {0, LOCK_RETRY_NS};
    uint64_t deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + LOCK_PATIENCE_NS;
    const char *path = agent->link->pool_path;
    int status, user = 0;

    while ((status = pool_open(&agent->pool, path, POOL_WRITE, why)) == STATUS_IN_USE) {
        user = living_user(agent);
        if (user > 0 || sys_clock_ns(CLOCK_MONOTONIC) >= deadline_ns)
            break;
        (void)sys_call(SYS_nanosleep, &retry, 0);
    }
    if (user > 0)
        return problem_set(why, STATUS_IN_USE, "%s is in use by process %d; give this one another",
                           path, user);
    if (status == 0)
        *why = (struct problem){0, ""}; /* of the tries before */
    if (status == 0 && agent->pool.super.log.extent_count > 0)
        return problem_set(why, STATUS_REFUSED,
                           "%s holds a heap that programs open by themselves, with a log of "
                           "transactions: give this one another pool",
                           path);
    return status;
}

/* The DAX back end where it can be had; whatever stands in its way, the other one is right too. */
static void choose_storage(struct agent *agent)
{
    struct persist *persist = &agent->pool.persist;
    const struct persist_pmem *pmem = &agent->link->pmem;
    bool on_dax = persist_may_use_dax(agent->pool.path, false);
    int status = 0;

    if (pmem->copy)
        status = persist_use_dax(persist, pmem, (void *)agent->window.start,
                                 agent->window.end - agent->window.start);
    if (on_dax && !pmem->copy)
        format_text(agent->storage, sizeof agent->storage, "file (on DAX, without %s)",
                    PERSIST_PMEM_LIBRARY);
    else if (on_dax && status < 0)
        format_text(agent->storage, sizeof agent->storage, "file (on DAX, not mapped: %s)",
                    status_text(status));
    else
        format_text(agent->storage, sizeof agent->storage, "%s%s", persist->ops->name,
                    status == 0 && pmem->copy && !on_dax ? " (forced)" : "");
}

static int watch_pool_mappings(struct agent *agent, struct problem *why)
{
    int status;

    agent->precopy_space = (struct address_space){.excluded_count = 1};
    agent->precopy_space.excluded[0].start = agent->whole.base;
    agent->precopy_space.excluded[0].end = agent->whole.reserved_end;
    status = maps_identify_pool(&agent->precopy_space, agent->pool.fd, &agent->scratch);
    if (status < 0)
        return problem_set(why, status, "cannot see how pool %s shows in /proc/self/maps: %s",
                           agent->pool.path, status_text(status));
    return 0;
}

/* Asking for soft-dirty bits protects the program's pages: only where they will be used. */
static void probe_kernel(struct agent *agent)
{
    struct kernel_features *features = &agent->features;
    bool by_protection;

    kernel_features_probe(features);
    processors_learn(&agent->processors);
    by_protection = features->pagemap_scan && features->userfaultfd_wp_async;
    if (agent->link->track == TRACKING_SOFT_DIRTY ||
        (agent->link->track == TRACKING_BEST && !by_protection))
        kernel_features_probe_soft_dirty(features);
}

int agent_save_files(struct agent *agent)
{
    const struct saved_options options = {.mapped = agent->link->self_contained != 0,
                                          .content_bytes = agent->link->files_bytes};

    if (!options.mapped && options.content_bytes == 0)
        return 0;
    if (agent->saved_files == NULL)
        return saved_files_create(&agent->saved_files, &agent->core, agent->writer, &options);
    saved_files_set(agent->saved_files, &options);
    return 0;
}

static int make_tools(struct agent *agent, struct problem *why)
{
    uint64_t scratch_bytes =
        (agent->window.start - agent->whole.base) / SCRATCH_SHARE & ~(uint64_t)0xffff;
    const struct image_writer_options options = {
        .features = &agent->features,
        .track = (enum tracking)agent->link->track,
        .scratch_bytes = scratch_bytes < SCRATCH_BYTES_MAX ? scratch_bytes : 0,
        .survives_faults = true,
    };
    int status;

    probe_kernel(agent);
    status = image_writer_create(&agent->writer, &agent->writer_arena, &agent->pool, &options, why);
    if (status < 0)
        return status;
    image_writer_set_garbage(agent->writer, garbage_find, agent);
    status = capture_cache_create(&agent->capture_cache, &agent->core);
    if (status == 0)
        status = agent_save_files(agent);
    if (status == 0)
        status = restart_table_create(&agent->restarts, &agent->core);
    if (status < 0)
        return problem_set(why, status, "no memory for the agent: %s", status_text(status));
    freeze_create(&agent->freeze, &agent->core, agent->restarts, agent->program_pid, agent->halts);
    if (agent->halts)
        halt_set_agent(agent->halts, agent->self_pid);
    return 0;
}

/*
 * Without the permission to trace no checkpoint succeeds, and nothing can be said on the program's
 * stderr either: found out now, the program itself can say it. Where Yama is, the program permits
 * us by name before it stores our pid.
 */
static void check_permission(struct agent *agent, struct problem *why)
{
    const struct timespec slice = {0, LOCK_RETRY_NS};
    int fd;

    for (int i = 0; i < PERMISSION_TRIES; i++) {
        if (__atomic_load_n(&agent->link->agent_pid, __ATOMIC_ACQUIRE) == agent->self_pid)
            break;
        (void)sys_call(SYS_nanosleep, &slice, 0);
    }
    fd = (int)sys_call(SYS_pidfd_getfd, agent->pidfd, 2, 0);
    if (fd >= 0)
        sys_close(fd);
    if (fd == -EPERM && !agent->halts)
        (void)problem_set(why, STATUS_NOT_PERMITTED,
                          "the agent may not trace this program, so there will be no checkpoints; "
                          "look at kernel.yama.ptrace_scope, seccomp and PR_SET_DUMPABLE; "
                          "PHEAP_FREEZE=signal does without ptrace");
}

int agent_take_pool(struct agent *agent, struct problem *why)
{
    int status = allowance_take(&agent->allowance, why);

    if (status < 0)
        return status;
    status = separate(agent);
    if (status < 0)
        return problem_set(why, status, "the agent cannot start: %s", status_text(status));
    status = open_pool(agent, why);
    if (status < 0)
        return status;
    choose_storage(agent);
    agent->link->committed_generation = agent->link->resumed_generation;
    control_listen(agent); /* who connects is answered by the loop */
    return 0;
}

int agent_prepare(struct agent *agent, struct problem *why)
{
    int status = watch_pool_mappings(agent, why);

    if (status == 0)
        status = pool_load(&agent->pool, &agent->pool_arena, agent->link->resumed_generation, why);
    if (status == 0)
        status = make_tools(agent, why);
    if (status == 0 && agent->link->resumed_generation)
        status = verify_begin(&agent->verification, &agent->core, agent->link->slot);
    if (status == 0)
        status = agent_note_run(agent, why);
    if (status < 0)
        return status;
    check_permission(agent, why);
    return 0;
}
