/*
 * inotify_files.c - inotify: what is watched, by path, and under which number.
 *
 * The kernel tells inodes, not paths. A path comes from an open descriptor of the same file, from
 * the working directory and what lies in it, from a few places that are watched often or, with
 * CAP_DAC_READ_SEARCH, from the file's handle. What is found nowhere makes the capture fail.
 *
 * Numbers of watches are given out upwards and never again. So at the restore the gaps are filled
 * with watches of something else that are removed at once; what they report is read away.
 *
 * Always true: a watch comes back under its own number, or the restore fails. Events that were
 * unread, and changes while the program was down, are not reported.
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>
#include "core/base/format_text.h"
#include "core/process/descriptors.h"
#include "core/process/proc_text.h"
#include "core/process/process_image_reading.h"

#define FILLER       "/proc/self/status"
#define WD_MAX       4096u
#define EVENTS_BYTES (WD_MAX * 2 * sizeof(struct inotify_event))
#define HANDLE_BYTES 128u

struct watched {
    uint64_t inode;
    uint64_t device;
    uint32_t wd, mask;
    struct {
        uint32_t bytes;
        int32_t type;
        uint8_t handle[HANDLE_BYTES];
    } handle; /* struct file_handle */
};

static uint64_t field(const char *line, const char *name)
{
    const char *at = strstr(line, name);

    if (at == NULL)
        return 0;
    at += strlen(name);
    return text_number(&at, 16);
}

static void take_handle(const char *line, struct watched *out)
{
    const char *at = strstr(line, "f_handle:");
    uint32_t bytes = (uint32_t)field(line, "fhandle-bytes:");

    if (at == NULL || bytes > HANDLE_BYTES)
        return;
    at += strlen("f_handle:");
    for (uint32_t i = 0; i < bytes && at[0] != 0 && at[1] != 0; i++, at += 2) {
        const char digits[3] = {at[0], at[1], 0}, *digit = digits;

        out->handle.handle[i] = (uint8_t)text_number(&digit, 16);
    }
    out->handle.bytes = bytes;
    out->handle.type = (int32_t)field(line, "fhandle-type:");
}

/* "inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 ..." */
static struct watched parse_watch(const char *line)
{
    uint64_t device = field(line, "sdev:");
    struct watched watched = {
        .wd = (uint32_t)field(line, "wd:"),
        .inode = field(line, "ino:"),
        .device = makedev(device >> 20, device & 0xfffff),
        .mask = (uint32_t)field(line, " mask:"),
    };

    take_handle(line, &watched);
    return watched;
}

static bool is_at(const struct watched *watched, const char *path)
{
    struct stat stat;

    return sys_stat(path, &stat) == 0 && stat.st_ino == watched->inode &&
           stat.st_dev == watched->device;
}

static bool find_open(struct descriptor_run *run, const struct watched *watched, char *path)
{
    for (uint32_t i = 0; i < run->count; i++) {
        const struct open_description *one = &run->descriptions[i];

        if (one->stat.st_ino != watched->inode || one->stat.st_dev != watched->device ||
            strlen(one->link) >= PATH_MAX || !is_at(watched, one->link))
            continue;
        memcpy(path, one->link, strlen(one->link) + 1);
        return true;
    }
    return false;
}

/* By the handle, on the file system of `place`. */
static bool find_by_handle(const struct watched *watched, const char *place, char *path)
{
    int mount = sys_open(place, O_RDONLY | O_CLOEXEC, 0);
    int fd = mount < 0 ? mount
                       : (int)sys_call(SYS_open_by_handle_at, mount, &watched->handle,
                                       O_PATH | O_CLOEXEC);
    char link[32];
    int length = fd;

    if (fd >= 0) {
        format_text(link, sizeof link, "/proc/self/fd/%d", fd);
        length = sys_readlink(link, path, PATH_MAX - 1);
        (void)sys_close(fd);
    }
    if (mount >= 0)
        (void)sys_close(mount);
    if (length <= 0)
        return false;
    path[length] = 0;
    return is_at(watched, path);
}

static bool find_path(struct descriptor_run *run, const struct watched *watched, char *path)
{
    static const char *const places[] = {"/",    "/etc",     "/tmp",    "/run",
                                         "/dev", "/dev/shm", "/var/log"};
    char folder[PATH_MAX];
    struct stat stat;

    if (find_open(run, watched, path))
        return true;
    if (proc_readlink(run->run->capture->pid, "cwd", folder, sizeof folder) < 0)
        return false;
    if (is_at(watched, folder)) {
        memcpy(path, folder, strlen(folder) + 1);
        return true;
    }
    if (find_by_handle(watched, folder, path) ||
        (find_in_folder(folder, watched->inode, path) && is_at(watched, path)))
        return true;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (is_at(watched, places[i])) {
            memcpy(path, places[i], strlen(places[i]) + 1);
            return true;
        }
        if (sys_stat(places[i], &stat) == 0 && stat.st_dev == watched->device &&
            find_by_handle(watched, places[i], path))
            return true;
    }
    return false;
}

static int put_watch(struct descriptor_run *run, const struct open_description *description,
                     uint32_t id, const struct watched *watched)
{
    struct record_inotify_watch record = {.inotify = id, .wd = watched->wd, .mask = watched->mask};
    char path[PATH_MAX];

    if (watched->wd > WD_MAX)
        return problem_set(run->run->why, STATUS_UNSUPPORTED,
                           "fd %u: an inotify with a watch number above %u cannot be checkpointed",
                           description->number, WD_MAX);
    if (!find_path(run, watched, path))
        return problem_set(run->run->why, STATUS_UNSUPPORTED,
                           "fd %u: inotify watches a file (inode %lu) whose path cannot be found, "
                           "which cannot be checkpointed",
                           description->number, (unsigned long)watched->inode);
    record_put(run->run->out, RECORD_INOTIFY_WATCH, &record, sizeof record, path, strlen(path) + 1);
    return 0;
}

/* The next watch above `after` in number: the text may have them in any order. */
static bool next_watch(const char *text, uint32_t after, struct watched *out)
{
    bool found = false;

    for (const char *at = strstr(text, "inotify wd:"); at != NULL;
         at = strstr(at + 1, "inotify wd:")) {
        uint32_t wd = (uint32_t)field(at, "wd:");

        if (wd <= after || (found && wd > out->wd))
            continue;
        *out = parse_watch(at);
        found = true;
    }
    return found;
}

static int capture_inotify(struct descriptor_run *run, const struct open_description *description,
                           struct record_description *record)
{
    struct watched watched = {0};
    const char *text;
    int status = 0;

    if (strcmp(description->link, "anon_inode:inotify") != 0)
        return 0;
    record->kind = DESCRIPTION_INOTIFY;
    text = descriptor_watches(run, description->number);
    if (text == NULL)
        return run->run->why->status;
    while (status == 0 && next_watch(text, watched.wd, &watched))
        status = put_watch(run, description, record->id, &watched);
    return status == 0 ? 1 : status;
}

int read_inotify_watch(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_inotify_watch *watch = &image->inotify_watches[image->inotify_watch_count];
    const struct record_inotify_watch *record = record_fixed(&reading->item, sizeof *record);

    watch->record = record;
    watch->path = record_string(&reading->item, sizeof *record);
    if (record == NULL || !is_path(watch->path) || record->wd == 0 || record->wd > WD_MAX)
        return damaged(reading, "impossible inotify watch");
    if (image->inotify_watch_count > 0 && record->inotify == watch[-1].record->inotify &&
        record->wd <= watch[-1].record->wd)
        return damaged(reading, "inotify watches out of order");
    image->inotify_watch_count++;
    return 0;
}

void inotify_size(const struct process_image *image, size_t *calls, size_t *data)
{
    for (uint32_t i = 0; i < image->inotify_watch_count; i++) {
        const struct image_inotify_watch *watch = &image->inotify_watches[i];
        bool follows = i > 0 && watch[-1].record->inotify == watch->record->inotify;
        uint32_t fillers = watch->record->wd - (follows ? watch[-1].record->wd : 0);

        *calls += 2ul * fillers + 4;
        *data += strlen(watch->path) + 32 + fillers * 48ul + (follows ? 0 : EVENTS_BYTES + 64);
    }
}

int inotify_check(const struct process_image *image, struct problem *why)
{
    for (uint32_t i = 0; i < image->inotify_watch_count; i++) {
        struct stat stat;

        if (sys_stat(image->inotify_watches[i].path, &stat) != 0)
            return problem_set(why, STATUS_CHANGED,
                               "%s, which the program watched (inotify), is gone",
                               image->inotify_watches[i].path);
    }
    return 0;
}

/* Its watches come when all files are open, or it would tell of that. */
static struct opened open_inotify(struct descriptor_rebuild *run,
                                  const struct image_description *description)
{
    (void)description;
    return (struct opened){.value = batch_add(run->rebuild->batch, "inotify", SYS_inotify_init1,
                                              BATCH_ARGS(IN_NONBLOCK)),
                           .how = BATCH_RESULT};
}

static void add_watch(struct batch *batch, uint32_t number, const char *path, uint32_t mask,
                      uint32_t wd)
{
    batch_add(batch, path, SYS_inotify_add_watch,
              BATCH_ARGS(number, batch_string(batch, path), mask));
    batch_expect(batch, wd);
}

/* The watches from *index on that are of one inotify, whose descriptor is `number`. */
static void rebuild_one(struct rebuild *rebuild, uint32_t *index, uint32_t number)
{
    const struct process_image *image = rebuild->image;
    uint32_t id = image->inotify_watches[*index].record->inotify;
    struct batch *batch = rebuild->batch;
    uint32_t next = 1;

    for (; *index < image->inotify_watch_count; ++*index) {
        const struct image_inotify_watch *watch = &image->inotify_watches[*index];

        if (watch->record->inotify != id)
            break;
        for (; next < watch->record->wd; next++) {
            add_watch(batch, number, FILLER, IN_ATTRIB, next);
            batch_add(batch, FILLER, SYS_inotify_rm_watch, BATCH_ARGS(number, next));
        }
        add_watch(batch, number, watch->path, watch->record->mask, next++);
    }
    batch_add(batch, "inotify", SYS_read,
              BATCH_ARGS(number, batch_room(batch, EVENTS_BYTES), EVENTS_BYTES));
    batch_may_fail(batch); /* there were no gaps */
}

void rebuild_inotify_watches(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;
    uint32_t index = 0;

    while (index < image->inotify_watch_count) {
        uint32_t id = image->inotify_watches[index].record->inotify;
        const struct record_descriptor *descriptor = descriptor_of(image, id);

        if (descriptor != NULL)
            rebuild_one(rebuild, &index, descriptor->number);
        else
            index++;
    }
    for (uint32_t i = 0; i < image->descriptor_count; i++) {
        const struct record_description *record =
            image->descriptions[image->descriptors[i]->description].record;

        if (record->kind == DESCRIPTION_INOTIFY)
            batch_add(rebuild->batch, "status flags", SYS_fcntl,
                      BATCH_ARGS(image->descriptors[i]->number, F_SETFL,
                                 record->open_flags & O_NONBLOCK));
    }
}

const struct description_kind inotify_kind = {capture_inotify, open_inotify};
