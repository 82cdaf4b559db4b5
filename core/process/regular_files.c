/*
 * regular_files.c - open files that have a path: regular files, directories, /dev/null and its
 * kin. Reopened by path with the same flags, the offset set.
 *
 * A standard stream whose file cannot be reached (a redirection into another user's directory) is
 * taken over from the restorer like a terminal.
 *
 * An inode's number is given to another file when its own is deleted; the time of birth tells them
 * apart, where the file system has it.
 *
 * Always true: a file that the program was appending to (O_APPEND, or its offset at the end, and
 * open for writing) is cut back at the restore to its length at the checkpoint, so what the program
 * writes again is there once. A file that is shorter than it was is refused: something is lost.
 */
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "core/process/descriptors.h"
#include "core/process/proc_text.h"

/* What open() is told again; creation and truncation have happened. */
#define REOPEN_FLAGS                                                                               \
    (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_PATH | O_DIRECTORY |      \
     O_NOATIME | O_NOFOLLOW)

#define MEMORY_DEVICES 1u /* major number of /dev/null, zero, full, random, urandom */

static bool is_plain_device(const struct stat *stat)
{
    unsigned device = minor(stat->st_rdev);

    return S_ISCHR(stat->st_mode) && major(stat->st_rdev) == MEMORY_DEVICES &&
           (device == 3 || device == 5 || device == 7 || device == 8 || device == 9);
}

const char *file_obstacle(const struct open_description *description)
{
    static const int modes[] = {R_OK, W_OK, R_OK | W_OK, R_OK | W_OK}; /* by O_ACCMODE */
    int mode = description->open_flags & O_PATH ? F_OK : modes[description->open_flags & O_ACCMODE];
    struct stat by_name;

    if (description->stat.st_nlink == 0)
        return "is a deleted file, which";
    if (sys_stat(description->link, &by_name) != 0 || by_name.st_ino != description->stat.st_ino ||
        by_name.st_dev != description->stat.st_dev)
        return "cannot be reached by its name any more and";
    if (sys_call(SYS_faccessat, AT_FDCWD, description->link, mode) != 0)
        return "may not be opened again by this user and";
    return NULL;
}

uint64_t file_birth_ns(const char *path)
{
    struct statx found;

    if (sys_call(SYS_statx, AT_FDCWD, path, 0, STATX_BTIME, &found) != 0 ||
        !(found.stx_mask & STATX_BTIME))
        return 0;
    return (uint64_t)found.stx_btime.tv_sec * 1000000000u + found.stx_btime.tv_nsec;
}

static int capture_regular(struct descriptor_run *run, const struct open_description *description,
                           struct record_description *record)
{
    const struct stat *stat = &description->stat;
    uint32_t access = description->open_flags & O_ACCMODE;
    const char *obstacle;

    if (description->link[0] != '/')
        return 0;
    if (S_ISREG(stat->st_mode))
        record->kind = DESCRIPTION_REGULAR;
    else if (S_ISDIR(stat->st_mode))
        record->kind = DESCRIPTION_DIRECTORY;
    else if (is_plain_device(stat))
        record->kind = DESCRIPTION_DEVICE;
    else
        return 0;
    obstacle = file_obstacle(description);
    if (obstacle != NULL && description->standard >= 0) {
        /* Whoever restores says where standard streams go. */
        record->kind = DESCRIPTION_STDIO;
        record->value = (uint64_t)description->standard;
        return 1;
    }
    if (obstacle != NULL)
        return problem_set(run->run->why, STATUS_UNSUPPORTED,
                           "fd %u: %s %s cannot be checkpointed yet", description->number,
                           description->link, obstacle);
    record->size = S_ISREG(stat->st_mode) ? (uint64_t)stat->st_size : 0;
    record->value = S_ISREG(stat->st_mode) ? file_birth_ns(description->link) : 0;
    if (S_ISREG(stat->st_mode) && access != O_RDONLY && !(description->open_flags & O_PATH) &&
        ((description->open_flags & O_APPEND) || description->offset == record->size))
        record->flags |= RECORD_CUT_BACK;
    return 1;
}

/* The restorer's stream of the same number, if it is open on the same file: then the two share
 * one offset, as before, and what a script writes behind the program's output stays behind it. */
static int same_stream(const struct process_image *image, const struct record_description *record,
                       struct stat *stat)
{
    for (uint32_t i = 0; i < image->descriptor_count && image->descriptors[i]->number <= 2; i++) {
        uint32_t n = image->descriptors[i]->number;
        long flags = sys_call(SYS_fcntl, n, F_GETFL);

        if (image->descriptors[i]->description == record->id && flags >= 0 &&
            ((uint32_t)flags & O_ACCMODE) == (record->open_flags & O_ACCMODE) &&
            sys_fstat((int)n, stat) == 0 && stat->st_ino == record->inode &&
            stat->st_dev == record->device)
            return (int)n;
    }
    return -1;
}

static struct opened open_by_path(struct batch *batch, const struct image_description *description)
{
    uint64_t path = batch_string(batch, description->path);
    uint64_t flags = (description->record->open_flags & REOPEN_FLAGS) | O_NOCTTY;

    return (struct opened){.value = batch_add(batch, description->path, SYS_openat,
                                              BATCH_ARGS((uint64_t)AT_FDCWD, path, flags)),
                           .how = BATCH_RESULT};
}

static struct opened open_regular(struct descriptor_rebuild *run,
                                  const struct image_description *description)
{
    const struct record_description *record = description->record;
    struct rebuild *rebuild = run->rebuild;
    struct batch *batch = rebuild->batch;
    struct stat stat;
    int stream =
        record->kind == DESCRIPTION_REGULAR ? same_stream(rebuild->image, record, &stat) : -1;
    struct opened opened;

    if (stream >= 0) {
        opened = (struct opened){.value = (uint64_t)rebuild->stdio_fd[stream], .keep = true};
        opened_set_flags(batch, opened, record->open_flags);
        if ((uint64_t)stat.st_size < record->size)
            return opened; /* emptied by the redirection: a new beginning, as it stands */
    } else {
        opened = open_by_path(batch, description);
    }
    if (record->flags & RECORD_CUT_BACK)
        opened_call(batch, description->path, SYS_ftruncate, opened, record->size, 0, 0);
    if (record->kind != DESCRIPTION_DEVICE && !(record->open_flags & O_PATH)) {
        opened_call(batch, description->path, SYS_lseek, opened, record->offset, 0 /* SEEK_SET */,
                    0);
        batch_expect(batch, (int64_t)record->offset);
    }
    return opened;
}

int regular_file_check(const struct process_image *image,
                       const struct image_description *description, struct problem *why)
{
    const struct record_description *record = description->record;
    struct stat stat;
    int status = sys_stat(description->path, &stat);

    if (process_image_content(image, record->device, record->inode) != NULL)
        return 0; /* it is put back, if need be: recovery/restore looks at it */
    if (status != 0)
        return problem_set(
            why, STATUS_CHANGED,
            "%s, which the program had open: %s; put it back, or start the program afresh",
            description->path, status_text(status));
    if (record->kind != DESCRIPTION_REGULAR)
        return 0;
    if (stat.st_ino != record->inode || !S_ISREG(stat.st_mode) ||
        record->value != file_birth_ns(description->path))
        return problem_set(why, STATUS_CHANGED,
                           "%s, which the program had open, is now another file; put the old one "
                           "back, or start the program afresh",
                           description->path);
    if ((uint64_t)stat.st_size < record->size && same_stream(image, record, &stat) < 0)
        return problem_set(why, STATUS_CHANGED,
                           "%s has %lu bytes now, %lu at the checkpoint: what is missing cannot be "
                           "made up; put it back, or try an older generation (-g)",
                           description->path, (unsigned long)stat.st_size,
                           (unsigned long)record->size);
    return 0;
}

const struct description_kind regular_file_kind = {capture_regular, open_regular};
