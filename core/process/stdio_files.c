/*
 * stdio_files.c - terminals, and pipes, sockets and named pipes that came as standard input,
 * output or error: their other ends lie outside, so the restorer's own take their places.
 *
 * Always true: a descriptor is taken over only if it is 0, 1 or 2, a dup of one of them, or a
 * terminal. Regular files as standard streams are none of this file's: they are reopened.
 */
#include <string.h>
#include <sys/sysmacros.h>
#include "core/process/descriptors.h"

#define MAJOR_TTY       4u
#define MAJOR_TTY_AUX   5u /* /dev/tty, /dev/console */
#define MAJOR_PTS_FIRST 136u
#define MAJOR_PTS_LAST  143u

static bool is_terminal(const struct stat *stat)
{
    unsigned device = major(stat->st_rdev);

    return S_ISCHR(stat->st_mode) &&
           (device == MAJOR_TTY || (device == MAJOR_TTY_AUX && minor(stat->st_rdev) < 2) ||
            (device >= MAJOR_PTS_FIRST && device <= MAJOR_PTS_LAST));
}

/* Is another end of this pipe among the program's own descriptors? */
static bool is_inner_pipe(const struct descriptor_run *run,
                          const struct open_description *description)
{
    for (uint32_t i = 0; i < run->count; i++) {
        const struct open_description *other = &run->descriptions[i];

        if (other->stat.st_ino == description->stat.st_ino &&
            other->stat.st_dev == description->stat.st_dev &&
            (other->open_flags & O_ACCMODE) != (description->open_flags & O_ACCMODE))
            return true;
    }
    return false;
}

static int capture_stdio(struct descriptor_run *run, const struct open_description *description,
                         struct record_description *record)
{
    mode_t mode = description->stat.st_mode;
    bool terminal = is_terminal(&description->stat);
    int status;

    if (!terminal && !S_ISSOCK(mode) && !S_ISFIFO(mode))
        return 0;
    if (S_ISFIFO(mode) && (description->standard < 0 || is_inner_pipe(run, description)))
        return 0;
    record->kind = description->standard >= 0 ? DESCRIPTION_STDIO : DESCRIPTION_TERMINAL;
    record->value = description->standard >= 0 ? (uint64_t)description->standard : 0;
    status = terminal ? capture_terminal(run, description) : 0;
    return status == 0 ? 1 : status;
}

static int any_terminal(const struct rebuild *rebuild)
{
    for (int i = 0; i < 3; i++)
        if (rebuild->stdio_fd[i] >= 0 && rebuild->stdio_terminal[i])
            return i;
    return -1;
}

static struct opened open_path(struct batch *batch, const char *path, uint64_t flags)
{
    uint64_t where = batch_string(batch, path);

    return (struct opened){
        .value = batch_add(batch, path, SYS_openat, BATCH_ARGS((uint64_t)AT_FDCWD, where, flags)),
        .how = BATCH_RESULT};
}

static struct opened open_stdio(struct descriptor_rebuild *run,
                                const struct image_description *description)
{
    const struct record_description *record = description->record;
    struct rebuild *rebuild = run->rebuild;
    int number = record->kind == DESCRIPTION_STDIO ? (int)record->value : any_terminal(rebuild);
    struct opened opened;

    if (record->kind == DESCRIPTION_TERMINAL && number < 0)
        return open_path(rebuild->batch, "/dev/tty", O_RDWR | O_NOCTTY);
    if (rebuild->stdio_fd[number] < 0)
        return open_path(rebuild->batch, "/dev/null", O_RDWR);
    opened = (struct opened){
        .value = (uint64_t)rebuild->stdio_fd[number], .how = BATCH_VALUE, .keep = true};
    if ((record->open_flags & O_NONBLOCK) && !(rebuild->stdio_flags[number] & O_NONBLOCK))
        opened_call(rebuild->batch, "status flags", SYS_fcntl, opened, F_SETFL,
                    (uint64_t)(rebuild->stdio_flags[number] | O_NONBLOCK), 0);
    return opened;
}

const struct description_kind stdio_kind = {capture_stdio, open_stdio};
