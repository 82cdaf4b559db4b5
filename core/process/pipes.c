/*
 * pipes.c - pipes with both ends inside the program, with what has been written and not yet read;
 * ends of pipes to other processes, inherited and mostly forgotten; and named pipes, opened again
 * by path, with what was unread if the program reads them.
 *
 * The other process of a pipe to outside is gone when a restore takes place, and the restored end
 * shows just that: end of file, or EPIPE. (Standard streams are stdio_files.c's.)
 *
 * Always true: looking at a pipe's content does not take it out: it is duplicated with tee(2) into
 * a pipe of our own. A pipe is made once at the restore and each of its ends used once.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "core/process/descriptors.h"

static int pipe_obstacle(struct descriptor_run *run, const struct open_description *description,
                         const char *what)
{
    return problem_set(run->run->why, STATUS_UNSUPPORTED,
                       "fd %u: %s: %s cannot be checkpointed yet", description->number,
                       description->link, what);
}

/* Reads what tee gives; returns the number of bytes. */
static long read_copy(int from, uint32_t capacity, uint8_t *content, uint32_t bytes)
{
    int copy[2];
    long got = sys_call(SYS_pipe2, copy, O_CLOEXEC | O_NONBLOCK);
    long used = 0;

    if (got < 0)
        return got;
    got = sys_call(SYS_fcntl, copy[1], F_SETPIPE_SZ, capacity);
    if (got >= 0)
        got = sys_call(SYS_tee, from, copy[1], bytes, 2 /* SPLICE_F_NONBLOCK */);
    while (got > 0 && used < (long)bytes) {
        got = sys_read(copy[0], content + used, bytes - (size_t)used);
        if (got > 0)
            used += got;
    }
    (void)sys_close(copy[0]);
    (void)sys_close(copy[1]);
    return got < 0 && got != -EAGAIN ? got : used;
}

static int capture_content(struct descriptor_run *run, const struct open_description *reader,
                           struct record_pipe *record)
{
    struct capture_run *capture = run->run;
    int fd = descriptor_borrow(capture, reader->number);
    int pending = 0;
    uint8_t *content = NULL;
    long got;

    if (fd < 0)
        return fd;
    got = sys_call(SYS_fcntl, fd, F_GETPIPE_SZ);
    record->capacity = got > 0 ? (uint32_t)got : 0;
    if (got >= 0)
        got = sys_call(SYS_ioctl, fd, FIONREAD, &pending);
    if (got >= 0 && pending > 0) {
        content = arena_alloc(capture->capture->scratch, (size_t)pending, 16);
        got =
            content != NULL ? read_copy(fd, record->capacity, content, (uint32_t)pending) : -ENOMEM;
        if (got >= 0 && got != pending)
            got = -EIO;
    }
    (void)sys_close(fd);
    if (got < 0)
        return problem_set(capture->why, (int)got, "fd %u: content of a pipe: %s", reader->number,
                           status_text((int)got));
    record->content_bytes = (uint32_t)pending;
    record_put(capture->out, RECORD_PIPE, record, sizeof *record, content, (size_t)pending);
    return 0;
}

static const struct open_description *find_end(const struct descriptor_run *run,
                                               const struct open_description *description,
                                               uint32_t access, uint32_t *count)
{
    const struct open_description *found = NULL;

    *count = 0;
    for (uint32_t i = 0; i < run->count; i++) {
        const struct open_description *one = &run->descriptions[i];

        if (one->stat.st_ino != description->stat.st_ino ||
            one->stat.st_dev != description->stat.st_dev || (one->open_flags & O_ACCMODE) != access)
            continue;
        found = one;
        ++*count;
    }
    return found;
}

/* The pipe's id: known already, or that of the record that is put now, read through `reader`. */
static int pipe_id(struct descriptor_run *run, const struct open_description *reader,
                   uint64_t *value)
{
    struct record_pipe pipe = {.id = run->pipe_count, .named = reader->link[0] == '/'};

    for (uint32_t i = 0; i < run->pipe_count; i++) {
        if (run->pipe_inodes[i] != reader->stat.st_ino)
            continue;
        *value = i;
        return 0;
    }
    *value = run->pipe_count;
    run->pipe_inodes[run->pipe_count++] = reader->stat.st_ino;
    return capture_content(run, reader, &pipe);
}

static int capture_named(struct descriptor_run *run, const struct open_description *description,
                         struct record_description *record)
{
    const char *obstacle = file_obstacle(description);
    const struct open_description *reader;
    uint32_t count;
    int status;

    if (obstacle != NULL)
        return problem_set(run->run->why, STATUS_UNSUPPORTED,
                           "fd %u: %s %s cannot be checkpointed yet", description->number,
                           description->link, obstacle);
    record->kind = DESCRIPTION_FIFO;
    record->value = RECORD_ID_NONE;
    if (description->open_flags & O_PATH)
        return 1;
    reader = find_end(run, description, O_RDWR, &count);
    if (reader == NULL)
        reader = find_end(run, description, O_RDONLY, &count);
    if (reader == NULL)
        return 1;
    status = pipe_id(run, reader, &record->value);
    return status == 0 ? 1 : status;
}

static int capture_pipe(struct descriptor_run *run, const struct open_description *description,
                        struct record_description *record)
{
    const struct open_description *reader;
    uint32_t readers, writers;
    int status;

    if (!S_ISFIFO(description->stat.st_mode))
        return 0;
    if (description->link[0] == '/')
        return capture_named(run, description, record);
    reader = find_end(run, description, O_RDONLY, &readers);
    (void)find_end(run, description, O_WRONLY, &writers);
    if (readers == 0 || writers == 0) {
        record->kind = DESCRIPTION_BROKEN_PIPE;
        return 1;
    }
    if (readers != 1 || writers != 1)
        return pipe_obstacle(run, description, "a pipe that was opened more than once");
    record->kind = DESCRIPTION_PIPE;
    status = pipe_id(run, reader, &record->value);
    return status == 0 ? 1 : status;
}

static void fill_pipe(struct batch *batch, const struct image_pipe *pipe, struct opened writer)
{
    opened_call(batch, "capacity of a pipe", SYS_fcntl, writer, F_SETPIPE_SZ,
                pipe->record->capacity, 0);
    batch_may_fail(batch); /* a limit for unprivileged users; only a larger content needs it */
    if (pipe->record->content_bytes == 0)
        return;
    opened_call(batch, "content of a pipe", SYS_write, writer,
                batch_data(batch, pipe->content, pipe->record->content_bytes),
                pipe->record->content_bytes, 0);
    batch_expect(batch, pipe->record->content_bytes);
}

static void make_pipe(struct descriptor_rebuild *run, uint32_t id)
{
    const struct image_pipe *pipe = &run->rebuild->image->pipes[id];
    struct batch *batch = run->rebuild->batch;
    uint64_t ends = batch_room(batch, 8);

    batch_add(batch, "pipe", SYS_pipe2, BATCH_ARGS(ends, O_CLOEXEC));
    for (int i = 0; i < 2; i++)
        run->pipe_ends[id][i] = opened_move_up(
            run, (struct opened){.value = ends + 4u * (unsigned)i, .how = BATCH_INT_AT});
    fill_pipe(batch, pipe, run->pipe_ends[id][1]);
    run->pipe_made[id] = true;
}

static struct opened open_named_as(struct batch *batch, const char *path, uint64_t flags)
{
    uint64_t name = batch_string(batch, path);

    return (struct opened){
        .value = batch_add(batch, path, SYS_openat, BATCH_ARGS((uint64_t)AT_FDCWD, name, flags)),
        .how = BATCH_RESULT};
}

/* Both ends are held open by a private descriptor, so that no open() waits for the other side and
 * what is unread stays; it is closed with the others when all is there. */
static struct opened open_named(struct descriptor_rebuild *run,
                                const struct image_description *description)
{
    const struct record_description *record = description->record;
    struct batch *batch = run->rebuild->batch;
    struct opened holder;

    if (!(record->open_flags & O_PATH)) {
        holder = opened_move_up(
            run, open_named_as(batch, description->path, O_RDWR | O_NONBLOCK | O_CLOEXEC));
        if (record->value != RECORD_ID_NONE && !run->pipe_made[record->value]) {
            fill_pipe(batch, &run->rebuild->image->pipes[record->value], holder);
            run->pipe_made[record->value] = true;
        }
    }
    return open_named_as(batch, description->path,
                         record->open_flags & (O_ACCMODE | O_NONBLOCK | O_PATH));
}

int named_pipe_check(const struct image_description *description, struct problem *why)
{
    struct stat stat;

    if (sys_stat(description->path, &stat) == 0 && S_ISFIFO(stat.st_mode))
        return 0;
    return problem_set(why, STATUS_CHANGED,
                       "%s, a named pipe that the program had open, is there no more",
                       description->path);
}

/* One end of a new pipe whose other end is closed: end of file, or EPIPE, as when a peer dies. */
static struct opened open_broken(struct descriptor_rebuild *run, bool writes)
{
    struct batch *batch = run->rebuild->batch;
    uint64_t ends = batch_room(batch, 8);
    struct opened ours = {.value = ends + (writes ? 4u : 0u), .how = BATCH_INT_AT};
    struct opened other = {.value = ends + (writes ? 0u : 4u), .how = BATCH_INT_AT};

    batch_add(batch, "pipe", SYS_pipe2, BATCH_ARGS(ends, O_CLOEXEC));
    opened_call(batch, "close", SYS_close, other, 0, 0, 0);
    return ours;
}

static struct opened open_pipe(struct descriptor_rebuild *run,
                               const struct image_description *description)
{
    uint32_t id = (uint32_t)description->record->value;
    bool writes = (description->record->open_flags & O_ACCMODE) == O_WRONLY;

    struct opened opened;

    if (description->record->kind == DESCRIPTION_FIFO)
        return open_named(run, description);
    if (description->record->kind == DESCRIPTION_BROKEN_PIPE) {
        opened = open_broken(run, writes);
    } else {
        if (!run->pipe_made[id])
            make_pipe(run, id);
        opened = run->pipe_ends[id][writes];
    }
    opened_set_flags(run->rebuild->batch, opened, description->record->open_flags);
    return opened;
}

const struct description_kind pipe_kind = {capture_pipe, open_pipe};
