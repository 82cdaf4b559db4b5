/*
 * descriptors.c - which descriptor numbers are open and which of them share one open file
 * description (an offset and status flags), as dup and fork make them.
 *
 * Always true: every descriptor of the program is in the record or the capture fails with its
 * number and kind. At the restore all temporary numbers lie above the program's, so that no
 * descriptor is overwritten before it is in its place.
 */
#include "core/process/descriptors.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/process/halt.h"
#include "core/process/objects.h"
#include "core/process/proc_text.h"

#define DIRECTORY_BYTES  4096
#define IN_TRANSIT       2   /* descriptors at once, and more with half-made pipes */
#define WATCH_TEXT_BYTES 128 /* of fdinfo, about, a watch */
#define SETFL_FLAGS      (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME)

static const struct description_kind *const capture_kinds[] = {
    &object_kind,  &socket_kind, &stdio_kind,       &pipe_kind,
    &inotify_kind, &event_kind,  &regular_file_kind};

int descriptor_info(struct capture_run *run, uint32_t number)
{
    char name[48];
    ssize_t bytes;

    format_text(name, sizeof name, "fdinfo/%u", number);
    bytes = proc_read(run->capture->pid, name, run->text, CAPTURE_TEXT_BYTES);
    if (bytes < 0 && bytes != -E2BIG)
        return problem_set(run->why, (int)bytes, "fd %u: /proc/%d/%s: %s", number,
                           run->capture->pid, name, status_text((int)bytes));
    return 0;
}

const char *descriptor_watches(struct descriptor_run *run, uint32_t number)
{
    struct capture_run *capture = run->run;
    size_t size = WATCH_TEXT_BYTES * ((size_t)run->descriptor_count + 8);
    ssize_t bytes = -E2BIG;
    char name[48], *text;

    format_text(name, sizeof name, "fdinfo/%u", number);
    while (bytes == -E2BIG) {
        text = arena_alloc(capture->capture->scratch, size, 16);
        bytes = text != NULL ? proc_read(capture->capture->pid, name, text, size) : -ENOMEM;
        size *= 2;
    }
    if (bytes >= 0)
        return text;
    (void)problem_set(capture->why, (int)bytes, "fd %u: what it watches: %s", number,
                      status_text((int)bytes));
    return NULL;
}

int descriptor_borrow(struct capture_run *run, uint32_t number)
{
    int fd;

    if (run->capture->threads && run->capture->threads[0].halt) {
        fd = halt_lend(&run->capture->threads[0], (int)number);
        return fd >= 0 ? fd
                       : problem_set(run->why, fd,
                                     "fd %u: the program cannot hand it over (%s), and its agent "
                                     "may not fetch it",
                                     number, status_text(fd));
    }
    if (run->pidfd < 0)
        run->pidfd = (int)sys_call(SYS_pidfd_open, run->capture->pid, 0);
    if (run->pidfd < 0)
        return problem_set(run->why, run->pidfd, "pidfd_open: %s", status_text(run->pidfd));
    fd = (int)sys_call(SYS_pidfd_getfd, run->pidfd, number, 0);
    return fd >= 0 ? fd
                   : problem_set(run->why, fd, "fd %u: pidfd_getfd: %s", number, status_text(fd));
}

/* The numbers in /proc/PID/fd, the first `limit` of them; returns how many there are. */
static int each_number(struct capture_run *run, uint32_t *numbers, uint32_t limit)
{
    char path[64], buffer[DIRECTORY_BYTES] __attribute__((aligned(8)));
    uint32_t count = 0;
    struct stat stat;
    long bytes;
    int fd;

    format_text(path, sizeof path, "/proc/%d/fd", run->capture->pid);
    if (numbers == NULL && sys_stat(path, &stat) == 0 && stat.st_size > 0)
        return (int)stat.st_size; /* Linux 6.2 */
    fd = sys_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return problem_set(run->why, fd, "%s: %s", path, status_text(fd));
    while ((bytes = sys_call(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < bytes;) {
            struct kernel_dirent *entry = (struct kernel_dirent *)(void *)(buffer + at);
            const char *name = entry->name;

            at += entry->bytes;
            if (name[0] == '.')
                continue;
            if (numbers != NULL && count < limit)
                numbers[count] = (uint32_t)text_number(&name, 10);
            count++;
        }
    }
    (void)sys_close(fd);
    return bytes < 0 ? (int)bytes : (int)count;
}

static char *keep_text(struct capture_run *run, const char *text, size_t length)
{
    char *copy = arena_alloc(run->capture->scratch, length + 1, 1);

    if (copy != NULL)
        memcpy(copy, text, length + 1);
    return copy;
}

/* A socket is all but told by a descriptor of it, at a tenth of what /proc costs: a server may
 * have thousands. 1: it is one. */
static int describe_socket(struct capture_run *run, uint32_t number, struct open_description *out)
{
    int fd = descriptor_borrow(run, number);
    long status = fd < 0 ? fd : sys_fstat(fd, &out->stat);
    char link[32];

    if (fd < 0)
        return fd;
    if (status == 0 && S_ISSOCK(out->stat.st_mode))
        status = sys_call(SYS_fcntl, fd, F_GETFL);
    (void)sys_close(fd);
    if (status < 0)
        return problem_set(run->why, (int)status, "fd %u: %s", number, status_text((int)status));
    if (!S_ISSOCK(out->stat.st_mode))
        return 0;
    out->open_flags = (uint32_t)status;
    out->link = keep_text(
        run, link, format_text(link, sizeof link, "socket:[%lu]", (unsigned long)out->stat.st_ino));
    return out->link != NULL ? 1 : -ENOMEM;
}

static int describe_by_name(struct capture_run *run, uint32_t number, struct open_description *out)
{
    char path[64];
    int status;

    format_text(path, sizeof path, "fd/%u", number);
    status = proc_readlink(run->capture->pid, path, run->text, CAPTURE_TEXT_BYTES);
    if (status < 0)
        return problem_set(run->why, status, "fd %u: %s", number, status_text(status));
    out->link = keep_text(run, run->text, (size_t)status);
    if (out->link == NULL)
        return problem_set(run->why, -ENOMEM, "no memory for the list of descriptors");
    status = descriptor_info(run, number);
    if (status < 0)
        return status;
    out->open_flags = (uint32_t)proc_number(run->text, "flags", 8) & ~(uint32_t)O_CLOEXEC;
    out->offset = proc_number(run->text, "pos", 10);
    return capture_file_locks(run, number);
}

static int describe(struct capture_run *run, uint32_t number, struct open_description *out)
{
    int status = describe_socket(run, number, out);

    out->number = number;
    out->standard = number <= 2 ? (int)number : -1;
    return status == 0 ? describe_by_name(run, number, out) : status < 0 ? status : 0;
}

static bool is_same_description(int pid, const struct open_description *a,
                                const struct open_description *b)
{
    if (a->stat.st_ino != b->stat.st_ino || a->stat.st_dev != b->stat.st_dev ||
        a->open_flags != b->open_flags || a->offset != b->offset)
        return false;
    return sys_call(SYS_kcmp, pid, pid, KCMP_FILE, a->number, b->number) == 0;
}

/* Its index, new or known. */
static uint32_t add_description(struct descriptor_run *run, const struct open_description *one)
{
    uint32_t *list = &run->lists[(one->stat.st_ino ^ one->stat.st_dev) & run->list_mask];
    int pid = run->run->capture->pid;

    for (uint32_t i = *list; i != RECORD_ID_NONE; i = run->descriptions[i].next_alike) {
        if (!is_same_description(pid, &run->descriptions[i], one))
            continue;
        if (run->descriptions[i].standard < 0)
            run->descriptions[i].standard = one->standard;
        return i;
    }
    run->descriptions[run->count] = *one;
    run->descriptions[run->count].next_alike = *list;
    *list = run->count;
    return run->count++;
}

static const char *what_to_do(const char *link)
{
    static const char *const gpus[] = {"/dev/nvidia", "/dev/dri/", "/dev/kfd"};

    if (text_starts_with(link, "anon_inode:[io_uring]"))
        return "start the program with pheap run --deny io_uring, and it does without";
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++)
        if (text_starts_with(link, gpus[i]))
            return "what lies in a GPU cannot be saved; run the program without it";
    return "close it, or run the program without it";
}

static int capture_description(struct descriptor_run *run, uint32_t id)
{
    struct open_description *description = &run->descriptions[id];
    struct record_description record = {
        .id = id,
        .open_flags = description->open_flags,
        .offset = description->offset,
        .device = description->stat.st_dev,
        .inode = description->stat.st_ino,
    };

    for (size_t i = 0; i < sizeof capture_kinds / sizeof *capture_kinds; i++) {
        int status = capture_kinds[i]->capture(run, description, &record);

        if (status < 0)
            return status;
        if (status > 0) {
            description->is_file = record.kind == DESCRIPTION_REGULAR;
            record_put(run->run->out, RECORD_DESCRIPTION, &record, sizeof record, description->link,
                       strlen(description->link) + 1);
            return 0;
        }
    }
    return problem_set(run->run->why, STATUS_UNSUPPORTED,
                       "fd %u: %s cannot be checkpointed yet; %s", description->number,
                       description->link, what_to_do(description->link));
}

static void sort_numbers(uint32_t *numbers, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) { /* they come sorted: the kernel walks its table */
        uint32_t number = numbers[i], at = i;

        for (; at > 0 && numbers[at - 1] > number; at--)
            numbers[at] = numbers[at - 1];
        numbers[at] = number;
    }
}

static int capture_numbers(struct descriptor_run *run)
{
    const struct parasite_report *report = run->run->report;

    for (uint32_t i = 0; i < report->descriptor_count; i++) {
        struct open_description one = {0};
        int status = describe(run->run, report->descriptors[i], &one);

        if (status != 0)
            return status;
        run->descriptors[i] = (struct record_descriptor){
            .number = report->descriptors[i],
            .description = add_description(run, &one),
            .close_on_exec = report->close_on_exec[i],
        };
    }
    return 0;
}

int capture_descriptor_numbers(struct capture_run *run)
{
    struct arena *scratch = run->capture->scratch;
    int count = each_number(run, NULL, 0);
    uint32_t *numbers;

    if (count < 0)
        return count;
    numbers = arena_alloc(scratch, ((size_t)count + 1) * sizeof *numbers, 8);
    run->report->close_on_exec = arena_alloc(scratch, (size_t)count + 1, 8);
    if (numbers == NULL || run->report->close_on_exec == NULL)
        return problem_set(run->why, -ENOMEM, "no memory for the list of %d descriptors", count);
    if (each_number(run, numbers, (uint32_t)count) != count)
        return problem_set(run->why, STATUS_DEFERRED, "the list of descriptors changes");
    sort_numbers(numbers, (uint32_t)count);
    run->report->descriptors = numbers;
    run->report->descriptor_count = (uint32_t)count;
    return 0;
}

/* Room for as many descriptions as there are descriptors. */
static struct descriptor_run *new_run(struct capture_run *run, uint32_t count)
{
    struct arena *scratch = run->capture->scratch;
    struct descriptor_run *made = arena_alloc(scratch, sizeof *made, 16);

    if (made == NULL)
        return NULL;
    *made = (struct descriptor_run){.run = run, .diag_fd = -1, .descriptor_count = count};
    for (made->list_mask = 1; made->list_mask < count; made->list_mask *= 2)
        ;
    made->lists = arena_alloc(scratch, (size_t)made->list_mask * sizeof *made->lists, 8);
    made->pipe_inodes = arena_alloc(scratch, ((size_t)count + 1) * 8, 8);
    made->descriptions = arena_alloc(scratch, ((size_t)count + 1) * sizeof *made->descriptions, 8);
    made->descriptors = arena_alloc(scratch, ((size_t)count + 1) * sizeof *made->descriptors, 8);
    if (!made->lists || !made->pipe_inodes || !made->descriptions || !made->descriptors)
        return NULL;
    memset(made->lists, 0xff, (size_t)made->list_mask * sizeof *made->lists);
    made->list_mask--;
    return made;
}

int capture_descriptions(struct capture_run *run)
{
    run->descriptors = new_run(run, run->report->descriptor_count);
    if (run->descriptors == NULL)
        return problem_set(run->why, -ENOMEM, "no memory for the list of %u descriptors",
                           run->report->descriptor_count);
    return capture_numbers(run->descriptors);
}

int capture_descriptors(struct capture_run *run)
{
    struct descriptor_run *descriptors = run->descriptors;
    int status = 0;

    for (uint32_t i = 0; i < descriptors->count && status == 0; i++)
        status = capture_description(descriptors, i);
    if (descriptors->diag_fd >= 0)
        (void)sys_close(descriptors->diag_fd);
    for (uint32_t i = 0; i < descriptors->descriptor_count && status == 0; i++)
        record_put(run->out, RECORD_DESCRIPTOR, &descriptors->descriptors[i],
                   sizeof descriptors->descriptors[i], NULL, 0);
    return status;
}

size_t opened_add(struct batch *batch, const char *what, long number, struct opened opened,
                  const uint64_t args[6])
{
    size_t index = batch_add(batch, what, number,
                             BATCH_ARGS(opened.value, args[1], args[2], args[3], args[4], args[5]));

    batch_refer(batch, 0, opened.how);
    return index;
}

size_t opened_call(struct batch *batch, const char *what, long number, struct opened opened,
                   uint64_t second, uint64_t third, uint64_t fourth)
{
    return opened_add(batch, what, number, opened, BATCH_ARGS(0, second, third, fourth));
}

struct opened opened_move_up(struct descriptor_rebuild *run, struct opened opened)
{
    struct batch *batch = run->rebuild->batch;
    size_t moved = opened_call(batch, "moving a descriptor (is RLIMIT_NOFILE too low?)", SYS_fcntl,
                               opened, F_DUPFD, run->temporary_fd, 0);

    if (!opened.keep)
        opened_call(batch, "close", SYS_close, opened, 0, 0, 0);
    return (struct opened){.value = moved, .how = BATCH_RESULT};
}

void opened_set_flags(struct batch *batch, struct opened opened, uint32_t open_flags)
{
    if (open_flags & SETFL_FLAGS)
        opened_call(batch, "status flags", SYS_fcntl, opened, F_SETFL, open_flags & SETFL_FLAGS, 0);
}

static const struct description_kind *kind_of(uint32_t kind)
{
    switch (kind) {
    case DESCRIPTION_STDIO:
    case DESCRIPTION_TERMINAL:
        return &stdio_kind;
    case DESCRIPTION_PIPE:
    case DESCRIPTION_BROKEN_PIPE:
    case DESCRIPTION_FIFO:
        return &pipe_kind;
    case DESCRIPTION_EVENTFD:
    case DESCRIPTION_EPOLL:
    case DESCRIPTION_TIMERFD:
    case DESCRIPTION_SIGNALFD:
    case DESCRIPTION_PIDFD:
        return &event_kind;
    case DESCRIPTION_SOCKET:
        return &socket_kind;
    case DESCRIPTION_OBJECT:
        return &object_kind;
    case DESCRIPTION_INOTIFY:
        return &inotify_kind;
    default:
        return &regular_file_kind;
    }
}

/* A standard stream goes to the restorer's own of the same number, even where the program had one
 * description for two of them: the person may have redirected them apart. */
static struct opened source_of(const struct rebuild *rebuild,
                               const struct image_description *description, uint32_t number,
                               struct opened opened)
{
    if (description->record->kind == DESCRIPTION_STDIO && number <= 2 &&
        rebuild->stdio_fd[number] >= 0)
        return (struct opened){.value = (uint64_t)rebuild->stdio_fd[number], .how = BATCH_VALUE};
    return opened;
}

const struct record_descriptor *descriptor_of(const struct process_image *image, uint32_t id)
{
    for (uint32_t i = 0; i < image->descriptor_count; i++)
        if (image->descriptors[i]->description == id)
            return image->descriptors[i];
    return NULL;
}

static void place(struct descriptor_rebuild *run, uint32_t id, struct opened opened)
{
    const struct process_image *image = run->rebuild->image;
    const struct image_description *description = &image->descriptions[id];
    struct batch *batch = run->rebuild->batch;

    for (uint32_t i = 0; i < image->descriptor_count; i++) {
        const struct record_descriptor *descriptor = image->descriptors[i];

        if (descriptor->description != id)
            continue;
        opened_call(batch,
                    rebuild_text(run->rebuild, "fd %u: %s", descriptor->number, description->path),
                    SYS_dup3, source_of(run->rebuild, description, descriptor->number, opened),
                    descriptor->number, descriptor->close_on_exec ? O_CLOEXEC : 0, 0);
    }
    opened_call(batch, "close", SYS_close, opened, 0, 0, 0);
}

int rebuild_descriptors(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;
    struct descriptor_rebuild run = {
        .rebuild = rebuild,
        .temporary_fd = (uint64_t)objects_fd(rebuild) + image->object_count,
        .pipe_ends =
            arena_alloc(rebuild->arena, (image->pipe_count + 1) * sizeof *run.pipe_ends, 8),
        .pipe_made = arena_alloc(rebuild->arena, image->pipe_count + 1, 1),
        .socket_ends =
            arena_alloc(rebuild->arena, (image->socket_count + 1) * sizeof *run.socket_ends, 8),
        .socket_made = arena_alloc(rebuild->arena, image->socket_count + 1, 1),
    };

    if (!run.pipe_ends || !run.pipe_made || !run.socket_ends || !run.socket_made)
        return problem_set(rebuild->why, -ENOMEM, "no memory for the descriptors");
    for (uint32_t i = 0; i < image->description_count; i++) {
        const struct image_description *description = &image->descriptions[i];
        struct opened opened = kind_of(description->record->kind)->open(&run, description);

        place(&run, i, opened_move_up(&run, opened));
    }
    rebuild_object_modes(rebuild);
    rebuild_inotify_watches(rebuild);
    rebuild_watches(rebuild);
    rebuild_file_locks(rebuild);
    return rebuild->batch->failed;
}

uint64_t descriptors_room(const struct process_image *image)
{
    return OBJECTS_FD + image->object_count + IN_TRANSIT;
}

int descriptors_check(const struct process_image *image, struct problem *why)
{
    int status = 0;

    for (uint32_t i = 0; i < image->description_count && status == 0; i++) {
        const struct image_description *description = &image->descriptions[i];

        if (description->record->kind == DESCRIPTION_FIFO)
            status = named_pipe_check(description, why);
        else if (kind_of(description->record->kind) == &regular_file_kind)
            status = regular_file_check(image, description, why);
    }
    if (status == 0)
        status = inotify_check(image, why);
    for (uint32_t i = 0; i < image->socket_count && status == 0; i++)
        status = socket_check(&image->sockets[i], why);
    return status;
}

const char *rebuild_text(struct rebuild *rebuild, const char *format, ...)
{
    char text[320];
    va_list args;
    size_t length;
    char *copy;

    va_start(args, format);
    length = format_text_v(text, sizeof text, format, args);
    va_end(args);
    copy = arena_alloc(rebuild->arena, length + 1, 1);
    if (copy == NULL)
        return "restore";
    memcpy(copy, text, length + 1);
    return copy;
}
