/*
 * attributes.c - what the kernel keeps for threads and the process beside their memory: scheduling,
 * CPUs, timer slack, the signal at the parent's death; dumpable, subreaper, the OOM killer's score.
 *
 * A thread that may run on all CPUs is bound to none by a restore, which may be on another machine.
 * What needs a privilege that the restored program has not is left as it is: such a setting makes
 * a program faster or safer, and it runs without.
 */
#include <errno.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <string.h>
#include <sys/prctl.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/proc_text.h"
#include "core/process/process_image_reading.h"
#include "core/process/rebuild.h"

#define CPU_BYTES_MAX 1024u
#define IO_OF_PROCESS 1 /* IOPRIO_WHO_PROCESS */
#define DEADLINE      6u
#define RESET_ON_FORK 0x40000000u /* of sched_setscheduler() */

static uint32_t count_bits(const uint8_t *bytes, uint32_t size)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < size; i++)
        for (uint32_t bits = bytes[i]; bits != 0; bits &= bits - 1)
            count++;
    return count;
}

/* How many CPUs are online: "0-3,6". */
static uint32_t online_cpus(void)
{
    char text[256];
    const char *at = text;
    uint32_t count = 0;

    if (sys_read_file("/sys/devices/system/cpu/online", text, sizeof text) < 0)
        return 0;
    while (*at >= '0' && *at <= '9') {
        uint64_t first = text_number(&at, 10), last = first;

        if (*at == '-') {
            at++;
            last = text_number(&at, 10);
        }
        count += (uint32_t)(last - first) + 1;
        if (*at == ',')
            at++;
    }
    return count;
}

int capture_thread_attributes(struct capture_run *run, int tid,
                              const struct parasite_thread *report)
{
    struct record_thread_attributes record = {.tid = tid};
    struct sched_attr scheduling = {.size = sizeof scheduling};
    uint8_t cpus[CPU_BYTES_MAX];
    long bytes = sys_call(SYS_sched_getaffinity, tid, sizeof cpus, cpus);
    long status = sys_call(SYS_sched_getattr, tid, &scheduling, sizeof scheduling, 0);
    long io = sys_call(SYS_ioprio_get, IO_OF_PROCESS, tid);

    if (status != 0 || bytes < 0)
        return problem_set(run->why, (int)(status != 0 ? status : bytes),
                           "scheduling of thread %d: %s", tid,
                           status_text((int)(status != 0 ? status : bytes)));
    if (run->online_cpus == 0)
        run->online_cpus = online_cpus();
    if (count_bits(cpus, (uint32_t)bytes) >= run->online_cpus)
        bytes = 0;
    record.policy = scheduling.sched_policy;
    record.flags = scheduling.sched_flags;
    record.priority = scheduling.sched_priority;
    record.runtime = scheduling.sched_runtime;
    record.deadline = scheduling.sched_deadline;
    record.period = scheduling.sched_period;
    record.death_signal = (uint32_t)report->death_signal;
    record.timer_slack_ns = report->timer_slack_ns;
    record.io_priority = io > 0 ? (uint32_t)io : 0;
    record_put(run->out, RECORD_THREAD_ATTRIBUTES, &record, sizeof record, cpus, (size_t)bytes);
    return 0;
}

int capture_process_attributes(struct capture_run *run)
{
    struct record_process_attributes record = {
        .dumpable = (uint32_t)run->report->dumpable,
        .subreaper = (uint32_t)run->report->subreaper,
        .huge_pages_off = (uint32_t)run->report->huge_pages_off,
    };
    const char *at = run->text;

    if (proc_read(run->capture->pid, "oom_score_adj", run->text, CAPTURE_TEXT_BYTES) > 0)
        record.oom_score_adj = (int32_t)text_number(&at, 10);
    record_put(run->out, RECORD_PROCESS_ATTRIBUTES, &record, sizeof record, NULL, 0);
    return 0;
}

int read_thread_attributes(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_thread_attributes *record = record_fixed(&reading->item, sizeof *record);
    struct image_thread *thread;

    if (record == NULL || image->thread_count == 0)
        return damaged(reading, "attributes of no thread");
    thread = &image->threads[image->thread_count - 1];
    if (record->tid != thread->record->tid || thread->attributes != NULL ||
        record->death_signal > RECORD_SIGNALS ||
        reading->item.bytes - sizeof *record > CPU_BYTES_MAX)
        return damaged(reading, "impossible attributes of a thread");
    thread->attributes = record;
    thread->cpus = reading->item.payload + sizeof *record;
    thread->cpu_bytes = reading->item.bytes - (uint32_t)sizeof *record;
    return 0;
}

int read_process_attributes(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_process_attributes *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || image->attributes != NULL || record->dumpable > 2 ||
        record->oom_score_adj < -1000 || record->oom_score_adj > 1000)
        return damaged(reading, "impossible attributes of the process");
    image->attributes = record;
    return 0;
}

/* With sched_setscheduler() where that can say it: it leaves the nice value as it is. */
static void rebuild_scheduling(struct batch *batch, const struct record_thread_attributes *record)
{
    struct sched_attr scheduling = {
        .size = sizeof scheduling,
        .sched_policy = record->policy,
        .sched_flags = record->flags,
        .sched_runtime = record->runtime,
        .sched_deadline = record->deadline,
        .sched_period = record->period,
    };
    uint64_t policy =
        record->policy | (record->flags & SCHED_FLAG_RESET_ON_FORK ? RESET_ON_FORK : 0u);

    if (record->policy == DEADLINE)
        batch_add(batch, "scheduling", SYS_sched_setattr,
                  BATCH_ARGS(0, batch_data(batch, &scheduling, sizeof scheduling), 0));
    else
        batch_add(batch, "scheduling", SYS_sched_setscheduler,
                  BATCH_ARGS(0, policy, batch_data(batch, &record->priority, 4)));
    batch_may_fail(batch);
}

void rebuild_thread_attributes(struct rebuild *rebuild, uint32_t index)
{
    const struct image_thread *thread = &rebuild->image->threads[index];
    const struct record_thread_attributes *record = thread->attributes;
    struct batch *batch = rebuild->batch;

    if (record == NULL)
        return;
    if (thread->cpu_bytes > 0) {
        batch_add(
            batch, "CPUs", SYS_sched_setaffinity,
            BATCH_ARGS(0, thread->cpu_bytes, batch_data(batch, thread->cpus, thread->cpu_bytes)));
        batch_may_fail(batch); /* a machine without these */
    }
    if (record->policy != 0 || record->flags != 0) /* not SCHED_OTHER */
        rebuild_scheduling(batch, record);
    if (record->io_priority != 0) {
        batch_add(batch, "io priority", SYS_ioprio_set,
                  BATCH_ARGS(IO_OF_PROCESS, 0, record->io_priority));
        batch_may_fail(batch);
    }
    if (record->timer_slack_ns != 0)
        batch_add(batch, "timer slack", SYS_prctl,
                  BATCH_ARGS(PR_SET_TIMERSLACK, record->timer_slack_ns));
    if (record->death_signal != 0)
        batch_add(batch, "signal at the parent's death", SYS_prctl,
                  BATCH_ARGS(PR_SET_PDEATHSIG, record->death_signal));
    if (index == 0 && rebuild->image->attributes != NULL &&
        rebuild->image->attributes->dumpable == 0)
        batch_add(batch, "dumpable", SYS_prctl, BATCH_ARGS(PR_SET_DUMPABLE, 0));
}

/* A lower one than the restorer's needs a privilege. */
static void rebuild_oom_score(struct batch *batch, int score)
{
    char text[16];
    size_t length = format_text(text, sizeof text, "%d", score);
    uint64_t path = batch_string(batch, "/proc/self/oom_score_adj");
    size_t opened = batch_add(batch, "oom_score_adj", SYS_openat,
                              BATCH_ARGS((uint64_t)AT_FDCWD, path, O_WRONLY | O_CLOEXEC));

    batch_add(batch, "oom_score_adj", SYS_write,
              BATCH_ARGS(opened, batch_data(batch, text, length), length));
    batch_refer(batch, 0, BATCH_RESULT);
    batch_may_fail(batch);
    batch_add(batch, "close", SYS_close, BATCH_ARGS(opened));
    batch_refer(batch, 0, BATCH_RESULT);
}

void rebuild_process_attributes(struct rebuild *rebuild)
{
    const struct record_process_attributes *record = rebuild->image->attributes;
    struct batch *batch = rebuild->batch;

    if (record == NULL)
        return;
    if (record->subreaper != 0)
        batch_add(batch, "child subreaper", SYS_prctl, BATCH_ARGS(PR_SET_CHILD_SUBREAPER, 1));
    if (record->huge_pages_off != 0)
        batch_add(batch, "huge pages", SYS_prctl, BATCH_ARGS(PR_SET_THP_DISABLE, 1));
    rebuild_oom_score(batch, record->oom_score_adj);
}
