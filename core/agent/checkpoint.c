/*
 * checkpoint.c - one checkpoint: pre-copy, freeze, commit (DESIGN.md 6).
 *
 * Always true: when checkpoint_take() returns, every thread of the program runs (but for
 * stragglers, see freeze.h); a status other than 0 leaves the pool at its last generation. Inside
 * the freeze nothing waits for the disk unless the scratch is full.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "core/agent/tasks.h"
#include "core/base/limits.h"
#include "core/base/sys.h"
#include "core/process/objects.h"

#define STOP_NS             5000000ull /* for all threads to stop */
#define STOP_DOUBLINGS      3 /* a busy machine: the deadline grows after every fourth failure */
#define RECORD_BYTES_BASE   ((16u << 20) + OBJECT_BYTES_USUAL)
#define RECORD_BYTES_THREAD (16u << 10)

/* More is left to copy than a freeze should. */
static int too_much(struct agent *agent, struct problem *why)
{
    patience_exceeded(&agent->patience, agent->link->interval_ns, sys_clock_ns(CLOCK_MONOTONIC),
                      agent->precopy_ns);
    agent->is_put_off = true;
    return problem_set(why, STATUS_DEFERRED, "the program writes faster than its pages are copied");
}

/* Pages; 0: no limit. Rounds that look at everything do not get shorter. */
static uint64_t cut_limit(const struct agent *agent)
{
    if (!image_writer_tracks(agent->writer))
        return 0;
    return patience_limit(&agent->patience, agent->link->interval_ns,
                          sys_clock_ns(CLOCK_MONOTONIC));
}

/* As many rounds as help. What else takes long is done after the first, so that the next one finds
 * what the program has written meanwhile, and not the cut. */
static int precopy(struct agent *agent, struct problem *why)
{
    uint64_t began_ns = sys_clock_ns(CLOCK_MONOTONIC), limit;
    uint64_t before = UINT64_MAX, copied = UINT64_MAX;
    unsigned rounds = 0;

    do {
        int64_t pages = image_writer_precopy(agent->writer, &agent->precopy_space, why);

        if (pages < 0)
            return (int)pages;
        if (rounds == 0)
            process_capture_look(agent->capture_cache, &agent->link->memory_calls);
        mailbox_serve(agent);
        before = copied;
        copied = (uint64_t)pages;
    } while (patience_goes_on(++rounds, copied, before));
    agent->precopy_ns = sys_clock_ns(CLOCK_MONOTONIC) - began_ns;
    limit = cut_limit(agent);
    return limit && patience_left(copied, before) > limit ? too_much(agent, why) : 0;
}

/* A descriptor that was opened after the last look and closed again before this one is missed. */
static void mind_direct_io(struct agent *agent)
{
    if (!agent->does_direct_io)
        agent->does_direct_io = tasks_do_direct_io(agent->program_pid);
    if (agent->does_direct_io)
        image_writer_distrust_precopy(agent->writer);
}

static void make_capture(struct agent *agent, struct capture *capture,
                         const struct address_space *space)
{
    *capture = (struct capture){
        .pid = agent->program_pid,
        .threads = agent->freeze.tracees,
        .thread_count = agent->freeze.count,
        .space = space,
        .cache = agent->capture_cache,
        .memory_calls = &agent->link->memory_calls,
        .scratch = &agent->scratch,
        .call_stack_top = agent->call_stack_top,
        .tracer = &agent->self_tid,
        .resume_entry = agent->link->resume_entry,
        .slot = agent->link->slot,
        .rseq = agent->link->rseq,
        .saved = agent->saved_files,
        .halt_signal = agent->link->halt_signal,
        .connections =
            agent->terminates && agent->link->keeps_connections ? &agent->connections : NULL,
        .denies_io_uring = agent->link->denies_io_uring != 0,
        .inherited_filters = agent->link->inherited_filters,
    };
}

/* Room for what the capture may find, as far as a limit on address space leaves some: a program
 * with little of it has little to record, and what does not fit is refused by the capture. */
static size_t record_bytes_for(const struct agent *agent)
{
    size_t wanted = RECORD_BYTES_BASE + (size_t)agent->freeze.capacity * RECORD_BYTES_THREAD +
                    agent->record_more_bytes;
    size_t half = (agent->scratch.reserved_end - agent->scratch.base) / 2;

    return wanted < half ? wanted : half & ~(size_t)(PAGE_BYTES - 1);
}

/* The record's buffer lies at the bottom of the scratch and stays there, so that the freeze finds
 * its pages present; it grows with the threads. */
int checkpoint_make_record(struct agent *agent, struct record_writer *record, struct problem *why)
{
    size_t bytes = record_bytes_for(agent);

    if (bytes > agent->record_bytes) {
        arena_rewind(&agent->scratch, agent->scratch.base);
        agent->record_bytes = 0;
        agent->record = arena_alloc(&agent->scratch, bytes, PAGE_BYTES);
        if (!agent->record)
            return problem_set(why, -ENOMEM, "no memory for a process record of %zu bytes", bytes);
        agent->record_bytes = bytes;
        agent->scratch_mark = arena_mark(&agent->scratch);
    }
    arena_rewind(&agent->scratch, agent->scratch_mark);
    *record = (struct record_writer){.buffer = agent->record, .size = agent->record_bytes};
    return 0;
}

static int prepare(struct agent *agent, struct problem *why)
{
    struct capture capture;

    make_capture(agent, &capture, &agent->precopy_space);
    return process_capture_prepare(&capture, why);
}

/*
 * A living child would be lost: a shell has none between two commands. Who says that it may be
 * lost (--children=ignore) is not made to wait; but for one that writes to the same memory.
 */
static int check_children(struct agent *agent, struct problem *why)
{
    struct children *children = &agent->children;
    int status = tasks_children(agent->program_pid, agent->self_pid, children);
    int child = agent->link->ignores_children ? children->sharing : children->living;
    char name[TASK_NAME_BYTES];

    agent->waits_for_child = status == 0 && child != 0;
    if (status == -ESRCH)
        return problem_set(why, STATUS_ENDED, "process %d has ended", agent->program_pid);
    if (!agent->waits_for_child)
        return 0;
    task_name(child, name);
    return problem_set(why, STATUS_DEFERRED, "child process %d (%s) %s", child, name,
                       child == children->sharing
                           ? "shares the program's memory"
                           : "lives: a program is checkpointed when it has none, or with "
                             "pheap run --children=ignore, without them");
}

/* Everything that must see the program standing still. */
static int cut(struct agent *agent, struct record_writer *record, struct problem *why)
{
    uint64_t max_pages = cut_limit(agent);
    struct address_space space = agent->precopy_space;
    struct capture capture;
    int status;

    status = check_children(agent, why);
    if (status < 0)
        return status;
    status = maps_read(&space, "/proc/self/maps", &agent->scratch);
    if (status < 0)
        return problem_set(why, status, "cannot read /proc/self/maps: %s", status_text(status));
    garbage_of_stack(agent, &space);
    status = image_writer_cut(agent->writer, &space, max_pages, why);
    if (status == STATUS_DEFERRED)
        return too_much(agent, why);
    if (status == 0 && agent->link->checks_cuts)
        status = image_writer_check_cut(agent->writer, &space, agent->halts != NULL, why);
    if (status < 0)
        return status;
    make_capture(agent, &capture, &space);
    status = process_capture(&capture, record, why);
    if (status < 0)
        image_writer_abandon(agent->writer);
    return status;
}

static uint64_t stop_ns(const struct agent *agent)
{
    uint32_t doublings = agent->deferrals / 4;

    return STOP_NS << (doublings < STOP_DOUBLINGS ? doublings : STOP_DOUBLINGS);
}

/* While the program stands still nobody else should run in our place. Needs a privilege; without
 * it the pause may be longer on a busy machine. */
static void set_urgent(const struct agent *agent, bool urgent)
{
    const struct sched_param param = {.sched_priority = urgent ? 1 : 0};

    if (!agent->allowance.may_be_urgent)
        return;
    (void)sys_call(SYS_sched_setscheduler, 0, urgent ? SCHED_FIFO : SCHED_OTHER, &param);
}

static int freeze_and_cut(struct agent *agent, struct record_writer *record,
                          struct generation_entry *entry, struct problem *why)
{
    int status;

    set_urgent(agent, true);
    status = freeze_stop(&agent->freeze, stop_ns(agent), why);
    if (status == 0) {
        entry->time_ns = sys_clock_ns(CLOCK_REALTIME);
        status = cut(agent, record, why);
        agent->freeze.ended_ns = sys_clock_ns(CLOCK_MONOTONIC);
        if (status < 0)
            connections_give_back(&agent->connections);
        if (status < 0 || !agent->terminates)
            freeze_release(&agent->freeze);
        entry->pause_ns = agent->freeze.ended_ns - agent->freeze.began_ns;
    }
    set_urgent(agent, false);
    return status;
}

/* What a program that is to end did after the cut would be done again when it is resumed: nothing
 * of it runs between the cut and its end. */
static void let_go(struct agent *agent, int status)
{
    if (status == 0) {
        termination_end(agent);
    } else {
        connections_give_back(&agent->connections);
        freeze_release(&agent->freeze);
    }
}

static int commit(struct agent *agent, const struct record_writer *record,
                  struct generation_entry *entry, struct problem *why)
{
    int status;

    entry->kind = GENERATION_PROCESS;
    entry->slot = agent->link->slot;
    status = image_writer_commit(agent->writer, entry, record->buffer, record->used, why);
    if (status < 0)
        return status;
    patience_committed(&agent->patience);
    agent->checkpoints++;
    agent->last_pause_ns = entry->pause_ns;
    agent->last_written_bytes = entry->written_bytes;
    agent->last_page_bytes = image_writer_stats(agent->writer)->written_bytes;
    agent->last_rewritten_bytes = image_writer_stats(agent->writer)->rewritten_bytes;
    agent->link->committed_generation = entry->number;
    return 0;
}

/* Much shared memory: the next attempt has room for twice as much, if there is any. */
static bool make_record_larger(struct agent *agent)
{
    size_t more =
        agent->record_more_bytes > 0 ? 2 * agent->record_more_bytes : 2 * OBJECT_BYTES_USUAL;
    size_t before = agent->record_more_bytes, bytes = record_bytes_for(agent);

    if (more > OBJECT_BYTES_MAX)
        return false;
    agent->record_more_bytes = more;
    if (record_bytes_for(agent) > bytes)
        return true;
    agent->record_more_bytes = before;
    return false;
}

static int take_once(struct agent *agent, bool *is_full, struct problem *why)
{
    struct generation_entry entry = {0};
    struct record_writer record = {0};
    int status = check_children(agent, why);

    if (status < 0)
        return status;
    processors_keep_off(&agent->processors, agent->program_pid, agent->freeze.capacity);
    status = checkpoint_make_record(agent, &record, why);
    if (status == 0)
        status = precopy(agent, why);
    if (status == 0)
        mind_direct_io(agent);
    if (status == 0)
        status = prepare(agent, why);
    if (status == 0)
        status = freeze_and_cut(agent, &record, &entry, why);
    *is_full = record.failed != 0;
    if (status < 0)
        return status;
    status = commit(agent, &record, &entry, why);
    if (agent->terminates)
        let_go(agent, status);
    return status;
}

static int take(struct agent *agent, struct problem *why)
{
    bool is_full = false;
    int status;

    agent->is_put_off = false;
    do
        status = take_once(agent, &is_full, why);
    while (status == STATUS_LIMIT && is_full && make_record_larger(agent));
    if (agent->is_put_off) /* many system calls: not while the program stands still */
        image_writer_put_off(agent->writer);
    return status;
}

/* A crash image gives way when there is no room: what can be resumed is worth more. */
static bool drop_crash_image(struct agent *agent)
{
    const struct superblock *super = &agent->pool.super;
    struct problem ignored;

    for (uint32_t i = super->generation_count; i-- > 0;)
        if (super->generations[i].kind == GENERATION_CRASH &&
            pool_drop(&agent->pool, super->generations[i].number, &ignored) == 0)
            return true;
    return false;
}

int checkpoint_take(struct agent *agent, struct problem *why)
{
    uint64_t began_ns = allowance_used_ns();
    int status = allowance_checkpoint_begins(&agent->allowance, why);

    if (status < 0)
        return status;
    status = take(agent, why);
    if ((status == -ENOSPC || status == -EDQUOT || status == -EFBIG) && drop_crash_image(agent))
        status = take(agent, why);
    processors_widen(&agent->processors);
    allowance_checkpoint_ends(&agent->allowance, began_ns);
    if (status < 0)
        limit_explain(why);
    return status;
}
