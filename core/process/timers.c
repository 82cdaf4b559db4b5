/*
 * timers.c - setitimer and timer_create timers, with the time that was left of them.
 *
 * Always true: a timer that had expired and not been delivered yet fires at once after a restore
 * (one nanosecond left), never earlier than it would have.
 */
#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"

#define NS_PER_S           1000000000ull
#define NOTIFY_THREAD_ID   4  /* SIGEV_THREAD_ID */
#define CREATE_RESTORE_IDS 77 /* PR_TIMER_CREATE_RESTORE_IDS, Linux 6.15 */

static uint64_t timespec_ns(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_nsec;
}

static uint64_t timeval_ns(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * NS_PER_S + (uint64_t)time->tv_usec * 1000;
}

/* "signal: 27/00007ffd..." and "notify: signal/tid.123" of /proc/PID/timers. */
static void timer_notification(const char *text, struct record_posix_timer *timer)
{
    const char *at = proc_field(text, "signal");

    if (at != NULL) {
        timer->signal = (int32_t)text_number(&at, 10);
        if (*at == '/') {
            at++;
            timer->value = text_number(&at, 16);
        }
    }
    at = proc_field(text, "notify");
    if (at == NULL)
        return;
    timer->notify = text_starts_with(at, "none") ? 1 : text_starts_with(at, "thread") ? 2 : 0;
    while (*at != 0 && *at != '\n' && *at != '/')
        at++;
    if (text_starts_with(at, "/tid.")) {
        timer->notify |= NOTIFY_THREAD_ID;
        at += 5;
        timer->tid = (int32_t)text_number(&at, 10);
    }
}

/*
 * One entry after the other: "ID: ..." begins each. Fills ids for the parasite when out is
 * NULL, else writes the items with the times that the parasite has read.
 */
static int each_posix_timer(struct capture_run *run, struct record_writer *out)
{
    ssize_t bytes = proc_read(run->capture->pid, "timers", run->text, CAPTURE_TEXT_BYTES);
    struct parasite_report *report = run->report;
    uint32_t count = 0;

    if (bytes == -ENOENT)
        return 0;
    if (bytes < 0)
        return problem_set(run->why, (int)bytes, "/proc/%d/timers: %s", run->capture->pid,
                           status_text((int)bytes));
    for (const char *at = proc_field(run->text, "ID"); at != NULL; at = proc_field(at, "ID")) {
        struct record_posix_timer timer = {.id = (int32_t)text_number(&at, 10)};

        if (count == PARASITE_POSIX_TIMERS_MAX)
            return problem_set(run->why, STATUS_LIMIT, "more than %d timers (timer_create)",
                               PARASITE_POSIX_TIMERS_MAX);
        if (out != NULL && count < report->posix_timer_count) {
            timer_notification(at, &timer);
            timer.clock = (int32_t)proc_number(at, "ClockID", 10);
            timer.left_ns = timespec_ns(&report->posix_timers[count].it_value);
            timer.interval_ns = timespec_ns(&report->posix_timers[count].it_interval);
            record_put(out, RECORD_POSIX_TIMER, &timer, sizeof timer, NULL, 0);
        }
        report->posix_timer_ids[count++] = timer.id;
    }
    report->posix_timer_count = count;
    return 0;
}

int capture_timer_ids(struct capture_run *run)
{
    return each_posix_timer(run, NULL);
}

int capture_timers(struct capture_run *run)
{
    for (uint32_t which = 0; which < 3; which++) {
        const struct itimerval *timer = &run->report->interval_timers[which];
        struct record_interval_timer record = {
            .which = which,
            .left_ns = timeval_ns(&timer->it_value),
            .interval_ns = timeval_ns(&timer->it_interval),
        };

        if (record.left_ns != 0)
            record_put(run->out, RECORD_INTERVAL_TIMER, &record, sizeof record, NULL, 0);
    }
    return run->report->posix_timer_count > 0 ? each_posix_timer(run, run->out) : 0;
}

static void rebuild_interval_timer(struct rebuild *rebuild,
                                   const struct record_interval_timer *timer)
{
    uint64_t value[4] = {timer->interval_ns / NS_PER_S, timer->interval_ns % NS_PER_S / 1000,
                         timer->left_ns / NS_PER_S, timer->left_ns % NS_PER_S / 1000};

    batch_add(rebuild->batch, "interval timer", SYS_setitimer,
              BATCH_ARGS(timer->which, batch_data(rebuild->batch, value, sizeof value), 0));
}

/* struct sigevent: value, signal, notify, thread id; 64 bytes. */
static uint64_t sigevent_data(struct batch *batch, const struct record_posix_timer *timer)
{
    uint64_t event[8] = {timer->value};
    int32_t parts[3] = {timer->signal, timer->notify, timer->tid};

    memcpy(&event[1], parts, sizeof parts);
    return batch_data(batch, event, sizeof event);
}

/*
 * Timer ids come back: Linux 6.15 takes the wanted id from where it would write the new one.
 * Before, ids count up from 0 in a new process; /proc/PID/timers lists the newest first, so the
 * list is gone through backwards. A program that had deleted timers is refused there: timer_settime
 * finds no such id.
 */
static void rebuild_posix_timer(struct rebuild *rebuild, const struct record_posix_timer *timer)
{
    struct batch *batch = rebuild->batch;
    uint64_t id = batch_data(batch, &timer->id, sizeof timer->id);
    uint64_t value[4] = {timer->interval_ns / NS_PER_S, timer->interval_ns % NS_PER_S,
                         timer->left_ns / NS_PER_S, timer->left_ns % NS_PER_S};

    batch_add(batch, "timer", SYS_timer_create,
              BATCH_ARGS((uint64_t)(int64_t)timer->clock, sigevent_data(batch, timer), id));
    batch_add(batch, "timer with its old id", SYS_timer_settime,
              BATCH_ARGS((uint64_t)timer->id, 0, batch_data(batch, value, sizeof value), 0));
}

void rebuild_timers(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;

    for (uint32_t i = 0; i < image->interval_timer_count; i++)
        rebuild_interval_timer(rebuild, image->interval_timers[i]);
    if (image->posix_timer_count == 0)
        return;
    batch_add(rebuild->batch, "timer ids", SYS_prctl, BATCH_ARGS(CREATE_RESTORE_IDS, 1));
    batch_may_fail(rebuild->batch);
    for (uint32_t i = image->posix_timer_count; i-- > 0;)
        rebuild_posix_timer(rebuild, image->posix_timers[i]);
    batch_add(rebuild->batch, "timer ids", SYS_prctl, BATCH_ARGS(CREATE_RESTORE_IDS, 0));
    batch_may_fail(rebuild->batch);
}
