/*
 * event_files.c - eventfd, timerfd, signalfd, pidfd and epoll: descriptors that hold a little state
 * of the kernel's, all of it in /proc/PID/fdinfo.
 *
 * Always true: an epoll's watches are made last, when every watched descriptor is at its number.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include "core/base/format_text.h"
#include "core/process/children.h"
#include "core/process/descriptors.h"
#include "core/process/proc_text.h"

#define NS_PER_S     1000000000ull
#define SIGSET_BYTES 8
#define SEMAPHORE    1u /* EFD_SEMAPHORE */

/* "(12, 345)" */
static uint64_t time_pair_ns(const char *text, const char *key)
{
    const char *at = proc_field(text, key);
    uint64_t seconds;

    if (at == NULL || *at++ != '(')
        return 0;
    seconds = text_number(&at, 10);
    while (*at == ',' || *at == ' ')
        at++;
    return seconds * NS_PER_S + text_number(&at, 10);
}

static void capture_eventfd(const char *info, struct record_description *record)
{
    record->kind = DESCRIPTION_EVENTFD;
    record->value = proc_number(info, "eventfd-count", 16);
    record->offset = proc_number(info, "eventfd-semaphore", 10);
}

static void capture_timerfd(const char *info, struct record_description *record)
{
    record->kind = DESCRIPTION_TIMERFD;
    record->value = proc_number(info, "clockid", 10);
    record->offset = time_pair_ns(info, "it_value");
    record->size = time_pair_ns(info, "it_interval");
    if (record->offset == 0 && proc_number(info, "ticks", 10) > 0)
        record->offset = 1; /* expired and not read yet: it expires at once again */
}

/* Is this number open, for the file with this inode? */
static bool is_watched(const struct descriptor_run *run, uint64_t inode, uint32_t number)
{
    uint32_t low = 0, high = run->descriptor_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (run->descriptors[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < run->descriptor_count && run->descriptors[low].number == number &&
           run->descriptions[run->descriptors[low].description].stat.st_ino == inode;
}

/* "tfd:        5 events:       19 data:                5  pos:0 ino:1b sdev:f" */
static int capture_watches(struct descriptor_run *run, const struct open_description *description,
                           uint32_t id)
{
    const char *at = descriptor_watches(run, description->number);

    if (at == NULL)
        return run->run->why->status;
    while ((at = proc_field(at, "tfd")) != NULL) {
        struct record_epoll_watch watch = {.epoll = id, .number = (uint32_t)text_number(&at, 10)};
        uint64_t inode = 0;

        for (; *at != 0 && *at != '\n'; at++) {
            if (text_starts_with(at, "events:")) {
                for (at += 7; *at == ' ';)
                    at++;
                watch.events = (uint32_t)text_number(&at, 16);
            } else if (text_starts_with(at, "data:")) {
                for (at += 5; *at == ' ';)
                    at++;
                watch.data = text_number(&at, 16);
            } else if (text_starts_with(at, "ino:")) {
                at += 4;
                inode = text_number(&at, 16);
            }
            if (*at == 0 || *at == '\n')
                break;
        }
        if (!is_watched(run, inode, watch.number))
            return problem_set(run->run->why, STATUS_UNSUPPORTED,
                               "fd %u: epoll watches a closed descriptor (%u) whose file is still "
                               "open elsewhere, which cannot be checkpointed",
                               description->number, watch.number);
        record_put(run->run->out, RECORD_EPOLL_WATCH, &watch, sizeof watch, NULL, 0);
    }
    return 0;
}

/* Who else it may lead to will be another process by then, or none. */
static int capture_pidfd(struct descriptor_run *run, const struct open_description *description,
                         struct record_description *record)
{
    const struct capture_run *capture = run->run;
    const char *at = proc_field(capture->text, "Pid");
    int pid = at != NULL ? (int)text_number(&at, 10) : 0;
    bool is_child = false;

    for (uint32_t i = 0; i < capture->ended_children->ended_count; i++)
        is_child |= capture->ended_children->ended[i].pid == pid;
    if ((pid != capture->capture->pid && !is_child) || (description->open_flags & O_EXCL))
        return problem_set(capture->why, STATUS_UNSUPPORTED,
                           "fd %u: a pidfd of process %d, which is not the program itself, cannot "
                           "be checkpointed; close it",
                           description->number, pid);
    record->kind = DESCRIPTION_PIDFD;
    record->value = (uint64_t)pid;
    return 1;
}

static int capture_event(struct descriptor_run *run, const struct open_description *description,
                         struct record_description *record)
{
    const char *link = description->link;
    bool epoll = strcmp(link, "anon_inode:[eventpoll]") == 0;
    int status;

    if (!text_starts_with(link, "anon_inode:") && !text_starts_with(link, "pidfd:"))
        return 0;
    status = descriptor_info(run->run, description->number);
    if (status != 0)
        return status;
    if (epoll) {
        record->kind = DESCRIPTION_EPOLL;
        status = capture_watches(run, description, record->id);
        return status == 0 ? 1 : status;
    }
    if (strcmp(link, "anon_inode:[pidfd]") == 0 || link[0] == 'p')
        return capture_pidfd(run, description, record);
    if (strcmp(link, "anon_inode:[eventfd]") == 0) {
        capture_eventfd(run->run->text, record);
    } else if (strcmp(link, "anon_inode:[timerfd]") == 0) {
        capture_timerfd(run->run->text, record);
    } else if (strcmp(link, "anon_inode:[signalfd]") == 0) {
        record->kind = DESCRIPTION_SIGNALFD;
        record->value = proc_number(run->run->text, "sigmask", 16);
    } else {
        return 0;
    }
    return 1;
}

static struct opened made(size_t call)
{
    return (struct opened){.value = call, .how = BATCH_RESULT};
}

static struct opened open_eventfd(struct batch *batch, const struct record_description *record)
{
    struct opened opened =
        made(batch_add(batch, "eventfd", SYS_eventfd2, BATCH_ARGS(0, record->offset & SEMAPHORE)));

    if (record->value != 0)
        opened_call(batch, "count of an eventfd", SYS_write, opened,
                    batch_data(batch, &record->value, sizeof record->value), 8, 0);
    return opened;
}

static struct opened open_timerfd(struct batch *batch, const struct record_description *record)
{
    uint64_t value[4] = {record->size / NS_PER_S, record->size % NS_PER_S,
                         record->offset / NS_PER_S, record->offset % NS_PER_S};
    struct opened opened =
        made(batch_add(batch, "timerfd", SYS_timerfd_create, BATCH_ARGS(record->value, 0)));

    if (record->offset != 0)
        opened_call(batch, "time of a timerfd", SYS_timerfd_settime, opened, 0,
                    batch_data(batch, value, sizeof value), 0);
    return opened;
}

static struct opened open_event(struct descriptor_rebuild *run,
                                const struct image_description *description)
{
    const struct record_description *record = description->record;
    struct batch *batch = run->rebuild->batch;
    struct opened opened;

    if (record->kind == DESCRIPTION_EVENTFD) {
        opened = open_eventfd(batch, record);
    } else if (record->kind == DESCRIPTION_TIMERFD) {
        opened = open_timerfd(batch, record);
    } else if (record->kind == DESCRIPTION_PIDFD) {
        opened = made(batch_add(batch, "pidfd", SYS_pidfd_open, BATCH_ARGS(record->value, 0)));
    } else if (record->kind == DESCRIPTION_SIGNALFD) {
        uint64_t mask = batch_data(batch, &record->value, sizeof record->value);

        opened = made(
            batch_add(batch, "signalfd", SYS_signalfd4, BATCH_ARGS(-1ul, mask, SIGSET_BYTES, 0)));
    } else {
        opened = made(batch_add(batch, "epoll", SYS_epoll_create1, BATCH_ARGS(0)));
    }
    opened_set_flags(batch, opened, record->open_flags);
    return opened;
}

void rebuild_watches(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;

    for (uint32_t i = 0; i < image->watch_count; i++) {
        const struct record_epoll_watch *watch = image->watches[i];
        const struct record_descriptor *epoll = descriptor_of(image, watch->epoll);
        struct epoll_event event = {.events = watch->events, .data.u64 = watch->data};

        if (epoll != NULL)
            batch_add(rebuild->batch, "epoll watch", SYS_epoll_ctl,
                      BATCH_ARGS(epoll->number, EPOLL_CTL_ADD, watch->number,
                                 batch_data(rebuild->batch, &event, sizeof event)));
    }
}

const struct description_kind event_kind = {capture_event, open_event};
