/*
 * loop.c - the agent's life: wait for the program's end, a request, the interval; take
 * checkpoints; end.
 *
 * Always true: the agent ends soon after the program has ended, has called exec, or has been taken
 * over. It never waits without a time limit, nor does it run in circles when it cannot wait.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "core/agent/tasks.h"
#include "core/base/format_text.h"
#include "core/base/sys.h"

#define NS_PER_MS         1000000ull
#define TICK_NS           1000000000ull /* longest wait: has the program called exec? */
#define RETRY_FIRST_NS    (5 * NS_PER_MS)
#define RETRY_LAST_NS     (100 * NS_PER_MS)
#define FAILURE_LAST_NS   (10000 * NS_PER_MS)
#define STRAGGLER_TICK_NS (20 * NS_PER_MS)
#define LONG_PAUSE_NS     (50 * NS_PER_MS)
#define LONG_DEFERRAL_NS  (30000 * NS_PER_MS)
#define CHILD_DEFERRAL_NS (1000 * NS_PER_MS) /* at least: a command may take its time */
#define SOURCES_MAX       (3 + AGENT_CLIENTS)
#define PAUSE_SHARE       10 /* the program runs at least so many times as long as it is stopped */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t doubled(uint64_t first_ns, uint32_t times, uint64_t last_ns)
{
    while (times-- > 0 && first_ns < last_ns)
        first_ns *= 2;
    return smaller(first_ns, last_ns);
}

/* Writing to a file without a name fails nowhere: nobody would know before the restore. */
static void look_for_name(struct agent *agent, uint64_t now_ns)
{
    struct problem note;
    struct stat file;

    if (agent->removal_reported || now_ns < agent->look_for_name_ns)
        return;
    agent->look_for_name_ns = now_ns + TICK_NS;
    if (sys_fstat(agent->pool.fd, &file) < 0 || file.st_nlink > 0)
        return;
    agent->removal_reported = true;
    (void)problem_set(&note, -ENOENT,
                      "pool '%s' was removed: what is saved from now on cannot be resumed; the "
                      "program goes on; start it again on another pool",
                      agent->pool.path);
    report_once(agent, -ENOENT, note.text);
}

static void succeeded(struct agent *agent, uint64_t began_ns, uint64_t now_ns)
{
    uint64_t pause_ns = agent->last_pause_ns;

    agent->deferrals = agent->failures = 0;
    agent->over_watermark = false;
    agent->earliest_ns = now_ns + PAUSE_SHARE * pause_ns;
    agent->next_ns = larger(began_ns + agent->link->interval_ns, agent->earliest_ns);
    report_forget(agent);
    look_for_name(agent, now_ns);
    if (pause_ns > LONG_PAUSE_NS && !agent->long_pause_reported) {
        struct problem note;

        agent->long_pause_reported = true;
        (void)problem_set(&note, 0,
                          "the program was stopped for %u ms by a checkpoint (reported once; "
                          "`pheap inspect POOL generations` has all)",
                          (unsigned)(pause_ns / NS_PER_MS));
        report_once(agent, 1, note.text);
    }
}

/* Some programs always have a child: that is said once, and soon. */
static uint64_t deferral_to_tell_ns(const struct agent *agent)
{
    if (!agent->waits_for_child)
        return LONG_DEFERRAL_NS;
    return agent->said_so ? UINT64_MAX : larger(agent->link->interval_ns, CHILD_DEFERRAL_NS);
}

static void deferred(struct agent *agent, uint64_t now_ns, const struct problem *why)
{
    if (agent->deferrals++ == 0)
        agent->deferred_since_ns = now_ns;
    agent->deferred_total++;
    agent->next_ns = now_ns + larger(doubled(RETRY_FIRST_NS, agent->deferrals - 1, RETRY_LAST_NS),
                                     agent->patience.wait_ns);
    agent->patience.wait_ns = 0;
    agent->earliest_ns = agent->next_ns;
    if (now_ns - agent->deferred_since_ns > deferral_to_tell_ns(agent)) {
        struct problem note;

        agent->said_so |= agent->waits_for_child;
        (void)problem_set(&note, STATUS_DEFERRED, "no checkpoint for %u s: %s",
                          (unsigned)((now_ns - agent->deferred_since_ns) / (1000 * NS_PER_MS)),
                          why->text);
        report_once(agent, STATUS_DEFERRED, note.text);
    }
}

static void failed(struct agent *agent, uint64_t now_ns, const struct problem *why)
{
    uint64_t interval_ns = larger(agent->link->interval_ns, RETRY_LAST_NS);
    struct problem note;

    agent->deferrals = 0; /* what is put off is tried again soon, what is refused on request only */
    agent->next_ns =
        now_ns + doubled(interval_ns, agent->failures++, larger(interval_ns, FAILURE_LAST_NS));
    agent->earliest_ns = agent->next_ns;
    (void)problem_set(&note, why->status, "no checkpoint: %s; the program goes on", why->text);
    report_once(agent, why->status, note.text);
}

static void try_checkpoint(struct agent *agent)
{
    struct problem why = {0, ""};
    uint64_t began_ns = sys_clock_ns(CLOCK_MONOTONIC), now_ns;
    int status = checkpoint_take(agent, &why);

    now_ns = sys_clock_ns(CLOCK_MONOTONIC);
    if (status == 0)
        succeeded(agent, began_ns, now_ns);
    else if (status == STATUS_DEFERRED || status == STATUS_ENDED)
        deferred(agent, now_ns, &why);
    else
        failed(agent, now_ns, &why);
    control_checkpoint_done(agent, status, &why);
    termination_checkpoint_done(agent, status, &why);
}

/* What the program went on from is damaged: it must not go on. */
static void kill_misled(struct agent *agent, const struct problem *damage)
{
    struct problem note;

    (void)problem_set(&note, STATUS_DAMAGED,
                      "%s: generation %lu is damaged: %s; the program that went on from it is "
                      "killed; pheap restore -g takes an older generation",
                      agent->pool.path, (unsigned long)agent->link->resumed_generation,
                      damage->text);
    report_once(agent, STATUS_DAMAGED, note.text);
    (void)sys_call(SYS_pidfd_send_signal, agent->pidfd, SIGKILL, 0, 0);
}

/* pheap-restore still builds the program: whoever waits for it is told by a program that runs. */
static bool is_being_restored(const struct agent *agent)
{
    return task_status_number(agent->program_pid, agent->program_pid, "TracerPid:") > 0;
}

static void verify_some(struct agent *agent)
{
    struct verification *verification = &agent->verification;
    struct problem damage;

    if (!verify_is_under_way(verification))
        return;
    verification->may_begin = verification->may_begin || !is_being_restored(agent);
    if (verification->may_begin && verify_step(verification, &agent->pool, &damage) < 0) {
        verify_end(verification);
        agent->misled = true;
        kill_misled(agent, &damage);
    }
}

static bool is_due(const struct agent *agent, uint64_t now_ns)
{
    if (agent->freeze.count > 0)
        return false; /* stragglers first */
    if (verify_is_under_way(&agent->verification))
        return false;
    if (agent->requested && agent->deferrals == 0)
        return true;
    if (agent->over_watermark && now_ns >= agent->earliest_ns)
        return true;
    return (agent->link->interval_ns || agent->requested) && now_ns >= agent->next_ns;
}

static uint64_t wait_ns(const struct agent *agent)
{
    uint64_t now_ns = sys_clock_ns(CLOCK_MONOTONIC);
    uint64_t due_ns = agent->over_watermark ? agent->earliest_ns : agent->next_ns;
    uint64_t left_ns = due_ns > now_ns ? due_ns - now_ns : 0;

    if (agent->freeze.count > 0)
        return STRAGGLER_TICK_NS;
    if (verify_is_under_way(&agent->verification))
        return agent->verification.may_begin ? 0 : NS_PER_MS;
    if (!agent->link->interval_ns && !agent->requested && !agent->over_watermark)
        left_ns = TICK_NS;
    return smaller(smaller(left_ns, TICK_NS), watermark_wait_ns(agent, now_ns));
}

/* What there is to wait for, the pidfd first; no empty entries: the kernel refuses to wait for more
 * than RLIMIT_NOFILE at once. */
static unsigned sources(const struct agent *agent, struct pollfd out[SOURCES_MAX])
{
    unsigned count = 0;

    out[count++] = (struct pollfd){agent->pidfd, POLLIN, 0};
    out[count++] = (struct pollfd){agent->signal_fd, POLLIN, 0};
    if (agent->listen_fd >= 0 && !agent->listener_rests)
        out[count++] = (struct pollfd){agent->listen_fd, POLLIN, 0};
    for (int i = 0; i < AGENT_CLIENTS; i++)
        if (agent->clients[i].fd >= 0)
            out[count++] = (struct pollfd){agent->clients[i].fd, POLLIN, 0};
    return count;
}

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / (1000 * NS_PER_MS)), (long)(ns % (1000 * NS_PER_MS))};
}

/* The kernel refuses to wait for descriptors: somebody has lowered the agent's own limit, or a
 * filter forbids it. The program's end is looked for then. */
static bool wait_blindly(const struct agent *agent, uint64_t left_ns)
{
    const struct timespec time = time_of(smaller(left_ns, RETRY_LAST_NS));

    (void)sys_call(SYS_nanosleep, &time, 0);
    return task_has_ended(agent->program_pid, agent->pidfd);
}

/* True when the program has ended. */
static bool wait_for_something(struct agent *agent)
{
    struct pollfd polls[SOURCES_MAX];
    unsigned count = sources(agent, polls);
    uint64_t left_ns = wait_ns(agent);
    struct timespec time;
    char signals[512]; /* struct signalfd_siginfo: 128 bytes each */
    bool ended;
    long got;

    if (agent->listener_rests)
        left_ns = smaller(left_ns, RETRY_LAST_NS);
    time = time_of(left_ns);
    got = sys_call(SYS_ppoll, polls, count, &time, 0, 8);
    ended = got > 0 && polls[0].revents != 0;
    if (got < 0 && got != -EINTR)
        ended = wait_blindly(agent, left_ns);
    while (sys_read(agent->signal_fd, signals, sizeof signals) > 0)
        ;
    return ended;
}

void agent_loop(struct agent *agent)
{
    uint64_t checked_ns = sys_clock_ns(CLOCK_MONOTONIC), now_ns;

    agent->next_ns = checked_ns + agent->link->interval_ns;
    for (;;) {
        bool ended = wait_for_something(agent);

        (void)freeze_settle(&agent->freeze);
        if (ended) {
            agent->ended = true;
            agent_note_end(agent);
            return;
        }
        control_serve(agent);
        if (agent->let_go)
            return;
        now_ns = sys_clock_ns(CLOCK_MONOTONIC);
        if (now_ns - checked_ns >= TICK_NS || is_due(agent, now_ns)) {
            checked_ns = now_ns;
            if (task_has_exec_ed(agent->program_pid))
                return; /* the new program wants nothing of us */
        }
        mailbox_serve(agent);
        termination_serve(agent);
        verify_some(agent);
        watermark_look(agent);
        if (is_due(agent, now_ns))
            try_checkpoint(agent);
    }
}
