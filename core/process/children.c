/*
 * children.c - record_child: children that have ended and have not been waited for.
 *
 * Always true: at the restore they exist, and have ended, before anything else of the program does:
 * the memory that a fork copies is still empty, and the SIGCHLD of their end is taken back, since
 * one that was pending is in the record itself.
 */
#include "core/process/children.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/proc_text.h"
#include "core/process/process_image_reading.h"
#include "core/process/rebuild.h"

#define CHILDREN_BYTES      16384
#define STAT_BYTES          1024
#define KERNEL_SIGSET_BYTES 8
#define CALLS_CHILD         8 /* at most, of what a child does before it ends */

/* Fields of /proc/PID/stat, counted from 1. */
#define FIELD_STATE   3
#define FIELD_GROUP   5
#define FIELD_THREADS 20
#define FIELD_STATUS  52

/* The name, which is the second field, may hold anything. */
static const char *stat_field(const char *stat, int number)
{
    const char *at = strrchr(stat, ')');

    for (int field = 2; at != NULL && field < number; field++)
        at = strchr(at + 1, ' ');
    return at != NULL ? at + 1 : "";
}

static uint64_t stat_number(const char *stat, int number)
{
    const char *at = stat_field(stat, number);

    return text_number(&at, 10);
}

/* An agent of before an exec is a zombie that nobody can wait for by accident. */
static bool is_agent(const char *stat)
{
    return strncmp(strchr(stat, '(') + 1, AGENT_NAME ")", sizeof AGENT_NAME) == 0;
}

static void add_child(struct children *children, int pid, int child)
{
    struct record_child record = {.pid = child, .state = CHILD_ENDED};
    char stat[STAT_BYTES];

    if (proc_read(child, "stat", stat, sizeof stat) <= 0 || strchr(stat, '(') == NULL ||
        is_agent(stat))
        return;
    if (*stat_field(stat, FIELD_STATE) != 'Z' || stat_number(stat, FIELD_THREADS) > 1) {
        children->living = child;
        if (sys_call(SYS_kcmp, pid, child, KCMP_VM, 0, 0) == 0)
            children->sharing = child;
        return;
    }
    record.status = (uint32_t)stat_number(stat, FIELD_STATUS);
    record.flags = stat_number(stat, FIELD_GROUP) == (uint64_t)child ? CHILD_LEADS_GROUP : 0u;
    children->ended_all++;
    if (children->ended_count < CHILDREN_ENDED_MAX)
        children->ended[children->ended_count++] = record;
}

void children_add(struct children *children, int pid, int tid, int except)
{
    char name[48], text[CHILDREN_BYTES];
    const char *at = text;
    ssize_t length;

    format_text(name, sizeof name, "task/%d/children", tid);
    length = proc_read(pid, name, text, sizeof text);
    if (length < 0 && length != -E2BIG)
        return; /* the thread is gone, or the kernel keeps no such file */
    while (*at >= '0' && *at <= '9') {
        int child = (int)text_number(&at, 10);

        if (child != except)
            add_child(children, pid, child);
        while (*at == ' ')
            at++;
    }
}

int capture_children(struct capture_run *run)
{
    struct children *children = arena_alloc(run->capture->scratch, sizeof *children, 8);

    if (children == NULL)
        return problem_set(run->why, -ENOMEM, "no memory for the list of children");
    memset(children, 0, sizeof *children);
    run->ended_children = children;
    for (uint32_t i = 0; i < run->capture->thread_count; i++)
        children_add(children, run->capture->pid, run->capture->threads[i].tid, sys_getpid());
    if (children->ended_all > CHILDREN_ENDED_MAX)
        return problem_set(run->why, STATUS_LIMIT,
                           "%u children have ended and have not been waited for; %u can be "
                           "checkpointed",
                           children->ended_all, CHILDREN_ENDED_MAX);
    for (uint32_t i = 0; i < children->ended_count; i++)
        record_put(run->out, RECORD_CHILD, &children->ended[i], sizeof children->ended[i], NULL, 0);
    return 0;
}

int read_child(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_child *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->pid < 2 || record->pid >= TID_LIMIT ||
        record->state != CHILD_ENDED || record->status > 0xffff ||
        image->child_count == CHILDREN_ENDED_MAX)
        return damaged(reading, "impossible child");
    image->children[image->child_count++] = record;
    return 0;
}

/* Dies of the signal of which it died: without a core file, or one for a program at a pipe, for
 * which the kernel takes a limit of 1. */
static void add_death(struct batch *batch, const struct record_child *child)
{
    const uint64_t action[4] = {0}, unblocked = 0, no_core[2] = {1, 1};
    uint64_t signal = child->status & 0x7f;

    batch_add(batch, "child", SYS_setrlimit,
              BATCH_ARGS(RLIMIT_CORE, batch_data(batch, no_core, sizeof no_core)));
    batch_may_fail(batch);
    batch_add(batch, "child", SYS_rt_sigaction,
              BATCH_ARGS(signal, batch_data(batch, action, sizeof action), 0, KERNEL_SIGSET_BYTES));
    batch_may_fail(batch); /* SIGKILL */
    batch_add(batch, "child", SYS_rt_sigprocmask,
              BATCH_ARGS(SIG_SETMASK, batch_data(batch, &unblocked, sizeof unblocked), 0,
                         KERNEL_SIGSET_BYTES));
    batch_may_fail(batch);
    batch_add(batch, "child", SYS_kill, BATCH_ARGS((uint64_t)child->pid, signal));
    batch_may_fail(batch);
}

/* Those of a restore in a user namespace would hide the exit status from the program's agent. */
static void add_no_capabilities(struct batch *batch)
{
    const struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct none[2] = {{0}};

    batch_add(batch, "child", SYS_capset,
              BATCH_ARGS(batch_data(batch, &header, sizeof header),
                         batch_data(batch, none, sizeof none)));
}

static void rebuild_child(struct rebuild *rebuild, const struct record_child *child)
{
    struct batch *batch = rebuild->batch;
    uint64_t pid = batch_data(batch, &child->pid, sizeof child->pid);
    const uint64_t args[11] = {/* struct clone_args */
                               [4] = SIGCHLD,
                               [8] = pid,
                               [9] = 1};
    const char *what = rebuild_text(rebuild, "ended child %d", child->pid);
    size_t forked = batch_add(batch, what, SYS_clone3,
                              BATCH_ARGS(batch_data(batch, args, sizeof args), sizeof args));

    add_no_capabilities(batch);
    if (child->flags & CHILD_LEADS_GROUP) {
        batch_add(batch, "child", SYS_setpgid, BATCH_ARGS(0, 0));
        batch_may_fail(batch);
    }
    if (child->status & 0x7f)
        add_death(batch, child);
    batch_add(batch, "child", SYS_exit_group, BATCH_ARGS(child->status >> 8 & 0xff));
    batch_fork(batch, forked, child->pid);
    batch_add(batch, what, SYS_waitid,
              BATCH_ARGS(P_PID, (uint64_t)child->pid, 0, WEXITED | WNOWAIT, 0));
}

void rebuild_children(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;
    struct batch *batch = rebuild->batch;
    const uint64_t mask = 1ull << (SIGCHLD - 1), action[4] = {0}, now[2] = {0, 0};

    if (image->child_count == 0)
        return;
    batch_add(
        batch, "SIGCHLD", SYS_rt_sigaction, /* ignored: nobody could be waited for */
        BATCH_ARGS(SIGCHLD, batch_data(batch, action, sizeof action), 0, KERNEL_SIGSET_BYTES));
    for (uint32_t i = 0; i < image->child_count; i++)
        rebuild_child(rebuild, image->children[i]);
    batch_add(batch, "SIGCHLD", SYS_rt_sigtimedwait,
              BATCH_ARGS(batch_data(batch, &mask, sizeof mask), 0,
                         batch_data(batch, now, sizeof now), KERNEL_SIGSET_BYTES));
    batch_may_fail(batch);
}

void children_size(const struct process_image *image, size_t *calls, size_t *data)
{
    *calls += image->child_count * (size_t)(CALLS_CHILD + 2) + 4;
    *data += image->child_count * 256ul + 128;
}
