/*
 * process_image.c - reads a process record into arrays and checks every field.
 *
 * Two passes over the items: the first counts kinds, so that the arrays can be made; the second
 * fills them and checks each item by itself. Relations between items are checked at the end.
 *
 * Always true: no count, length or id of the record is used before it has been compared with what
 * the record itself can hold.
 */
#include "core/process/process_image.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/process/process_image_reading.h"
#include "core/process/tracee.h"

int damaged(struct reading *reading, const char *what)
{
    return problem_set(reading->why, STATUS_DAMAGED, "process record: %s (item kind %u, %u bytes)",
                       what, reading->item.kind, reading->item.bytes);
}

bool is_path(const char *path)
{
    return path != NULL && path[0] == '/' && strlen(path) < 4096;
}

static bool is_range(uint64_t start, uint64_t end)
{
    return start < end && end <= PROCESS_ADDRESS_LIMIT && ((start | end) & (PAGE_BYTES - 1)) == 0 &&
           start >= PAGE_BYTES;
}

static int read_process(struct reading *reading)
{
    const struct record_process *process = record_fixed(&reading->item, sizeof *process);

    if (process == NULL || reading->image->process != NULL)
        return damaged(reading, "bad process item");
    if (process->version < RECORD_FORMAT_OLDEST || process->version > RECORD_FORMAT_VERSION)
        return problem_set(reading->why, STATUS_NEWER_FORMAT,
                           "process record version %u: this pheap reads %u to %u", process->version,
                           RECORD_FORMAT_OLDEST, RECORD_FORMAT_VERSION);
    if (process->pid < 2 || process->kernel_release[sizeof process->kernel_release - 1] != 0 ||
        process->resume_entry >= PROCESS_ADDRESS_LIMIT)
        return damaged(reading, "impossible process item");
    reading->image->process = process;
    return 0;
}

static int read_layout(struct reading *reading)
{
    struct process_image *image = reading->image;

    image->layout = record_fixed(&reading->item, sizeof *image->layout);
    if (image->layout == NULL)
        return damaged(reading, "short memory layout");
    image->auxv = reading->item.payload + sizeof *image->layout;
    image->auxv_bytes = reading->item.bytes - (uint32_t)sizeof *image->layout;
    return image->auxv_bytes % 16 == 0 && image->auxv_bytes <= 4096
               ? 0
               : damaged(reading, "impossible auxiliary vector");
}

static int read_kernel_mapping(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_kernel_mapping *mapping = &image->kernel_mappings[image->kernel_mapping_count];

    mapping->record = record_fixed(&reading->item, sizeof *mapping->record);
    mapping->name = record_string(&reading->item, sizeof *mapping->record);
    if (mapping->record == NULL || mapping->name == NULL ||
        !is_range(mapping->record->start, mapping->record->end))
        return damaged(reading, "impossible kernel mapping");
    if (image->kernel_mapping_count > 0 && mapping->record->start < mapping[-1].record->end)
        return damaged(reading, "kernel mappings overlap");
    image->kernel_mapping_count++;
    return 0;
}

static int read_file(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_file *file = &image->files[image->file_count];

    file->record = record_fixed(&reading->item, sizeof *file->record);
    file->path = record_string(&reading->item, sizeof *file->record);
    if (file->record == NULL || !is_path(file->path) || file->record->id != image->file_count ||
        file->record->build_id_bytes > RECORD_BUILD_ID_BYTES)
        return damaged(reading, "impossible file");
    image->file_count++;
    return 0;
}

static int read_mapping(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_mapping *mapping = &image->mappings[image->mapping_count];
    const struct record_mapping *record = record_fixed(&reading->item, sizeof *record);

    mapping->record = record;
    mapping->name = record_string(&reading->item, sizeof *record);
    if (record == NULL || mapping->name == NULL || !is_range(record->start, record->end))
        return damaged(reading, "impossible mapping");
    if (image->mapping_count > 0 && record->start < mapping[-1].record->end)
        return damaged(reading, "mappings overlap");
    if (record->file != RECORD_ID_NONE &&
        record->file >=
            (record->flags & RECORD_MAPPING_OBJECT ? image->object_count : image->file_count))
        return damaged(reading, "mapping of an unknown file");
    if ((record->flags & RECORD_MAPPING_OBJECT) && record->file != RECORD_ID_NONE &&
        image->objects[record->file].record->kind == OBJECT_SYSV &&
        record->file_offset > record->start)
        return damaged(reading, "impossible mapping of shared memory");
    if (record->file == RECORD_ID_NONE && (record->flags & RECORD_MAPPING_SHARED))
        return damaged(reading, "shared anonymous mapping");
    if ((record->prot & ~7u) != 0 || record->file_offset % PAGE_BYTES != 0 ||
        (record->attributes & ~MEMORY_ATTRIBUTES_ALL) != 0)
        return damaged(reading, "impossible mapping");
    image->mapping_count++;
    return 0;
}

static int read_thread(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_thread *thread = &image->threads[image->thread_count];

    uint8_t bit;

    thread->record = record_fixed(&reading->item, sizeof *thread->record);
    if (thread->record == NULL || thread->record->tid < 2 || thread->record->tid >= TID_LIMIT ||
        thread->record->xstate_bytes > TRACEE_XSTATE_BYTES_MAX ||
        thread->record->xstate_bytes != reading->item.bytes - sizeof *thread->record ||
        thread->record->name[15] != 0)
        return damaged(reading, "impossible thread");
    thread->xstate = reading->item.payload + sizeof *thread->record;
    bit = (uint8_t)(1u << thread->record->tid % 8);
    if (reading->seen_tids[thread->record->tid / 8] & bit)
        return damaged(reading, "two threads with one id");
    reading->seen_tids[thread->record->tid / 8] |= bit;
    image->thread_count++;
    return 0;
}

static int read_description(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_description *description = &image->descriptions[image->description_count];
    const struct record_description *record = record_fixed(&reading->item, sizeof *record);

    description->record = record;
    description->path = record_string(&reading->item, sizeof *record);
    if (record == NULL || description->path == NULL || record->id != image->description_count ||
        record->kind < DESCRIPTION_REGULAR || record->kind > DESCRIPTION_PIDFD)
        return damaged(reading, "impossible open file");
    if ((record->kind <= DESCRIPTION_DEVICE || record->kind == DESCRIPTION_FIFO) &&
        !is_path(description->path))
        return damaged(reading, "open file without a path");
    if (record->kind == DESCRIPTION_STDIO && record->value > 2)
        return damaged(reading, "impossible standard stream");
    image->description_count++;
    return 0;
}

static int read_descriptor(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_descriptor *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->number >= PROCESS_DESCRIPTORS_MAX)
        return damaged(reading, "impossible descriptor");
    if (image->descriptor_count > 0 &&
        record->number <= image->descriptors[image->descriptor_count - 1]->number)
        return damaged(reading, "descriptors out of order");
    image->descriptors[image->descriptor_count++] = record;
    return 0;
}

static int read_pipe(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_pipe *pipe = &image->pipes[image->pipe_count];

    pipe->record = record_fixed(&reading->item, sizeof *pipe->record);
    if (pipe->record == NULL || pipe->record->id != image->pipe_count ||
        pipe->record->content_bytes != reading->item.bytes - sizeof *pipe->record ||
        pipe->record->content_bytes > pipe->record->capacity)
        return damaged(reading, "impossible pipe");
    pipe->content = reading->item.payload + sizeof *pipe->record;
    image->pipe_count++;
    return 0;
}

static int read_watch(struct reading *reading)
{
    const struct record_epoll_watch *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->number >= PROCESS_DESCRIPTORS_MAX)
        return damaged(reading, "impossible epoll watch");
    reading->image->watches[reading->image->watch_count++] = record;
    return 0;
}

static int read_interval_timer(struct reading *reading)
{
    const struct record_interval_timer *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->which > 2)
        return damaged(reading, "impossible interval timer");
    reading->image->interval_timers[reading->image->interval_timer_count++] = record;
    return 0;
}

static int read_posix_timer(struct reading *reading)
{
    const struct record_posix_timer *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->id < 0)
        return damaged(reading, "impossible timer");
    reading->image->posix_timers[reading->image->posix_timer_count++] = record;
    return 0;
}

static int read_pending(struct reading *reading)
{
    const struct record_pending_signal *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->signal < 1 || record->signal > RECORD_SIGNALS)
        return damaged(reading, "impossible pending signal");
    reading->image->pending[reading->image->pending_count++] = record;
    return 0;
}

static int read_limits(struct reading *reading)
{
    reading->image->limits = record_fixed(&reading->item, sizeof *reading->image->limits);
    return reading->image->limits != NULL ? 0 : damaged(reading, "short limits");
}

static int read_lock(struct reading *reading)
{
    const struct record_file_lock *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || record->number >= PROCESS_DESCRIPTORS_MAX || record->kind < LOCK_FLOCK ||
        record->kind > LOCK_DESCRIPTION)
        return damaged(reading, "impossible file lock");
    reading->image->locks[reading->image->lock_count++] = record;
    return 0;
}

static int read_signal_actions(struct reading *reading)
{
    reading->image->signals = record_fixed(&reading->item, sizeof *reading->image->signals);
    return reading->image->signals != NULL ? 0 : damaged(reading, "short signal actions");
}

static int read_directory(struct reading *reading)
{
    reading->image->directory = record_string(&reading->item, 0);
    return is_path(reading->image->directory) ? 0 : damaged(reading, "impossible directory");
}

static int read_clocks(struct reading *reading)
{
    struct process_image *image = reading->image;

    if (image->clocks != NULL)
        return damaged(reading, "clocks a second time");
    image->clocks = record_fixed(&reading->item, sizeof *image->clocks);
    return image->clocks != NULL ? 0 : damaged(reading, "short clocks");
}

static int read_processor(struct reading *reading)
{
    struct process_image *image = reading->image;

    if (image->processor != NULL)
        return damaged(reading, "a processor a second time");
    image->processor = record_fixed(&reading->item, sizeof *image->processor);
    return image->processor != NULL ? 0 : damaged(reading, "short processor");
}

typedef int read_item(struct reading *reading);

static read_item *const readers[KINDS] = {
    [RECORD_PROCESS] = read_process,
    [RECORD_MEMORY_LAYOUT] = read_layout,
    [RECORD_KERNEL_MAPPING] = read_kernel_mapping,
    [RECORD_FILE] = read_file,
    [RECORD_MAPPING] = read_mapping,
    [RECORD_THREAD] = read_thread,
    [RECORD_SIGNAL_ACTIONS] = read_signal_actions,
    [RECORD_DIRECTORY] = read_directory,
    [RECORD_DESCRIPTION] = read_description,
    [RECORD_DESCRIPTOR] = read_descriptor,
    [RECORD_PIPE] = read_pipe,
    [RECORD_EPOLL_WATCH] = read_watch,
    [RECORD_INTERVAL_TIMER] = read_interval_timer,
    [RECORD_POSIX_TIMER] = read_posix_timer,
    [RECORD_PENDING_SIGNAL] = read_pending,
    [RECORD_LIMITS] = read_limits,
    [RECORD_FILE_LOCK] = read_lock,
    [RECORD_SOCKET] = read_socket,
    [RECORD_SOCKET_OPTION] = read_socket_option,
    [RECORD_SOCKET_MESSAGE] = read_socket_message,
    [RECORD_THREAD_ATTRIBUTES] = read_thread_attributes,
    [RECORD_PROCESS_ATTRIBUTES] = read_process_attributes,
    [RECORD_INOTIFY_WATCH] = read_inotify_watch,
    [RECORD_CHILD] = read_child,
    [RECORD_TERMINAL] = read_terminal,
    [RECORD_CLOCKS] = read_clocks,
    [RECORD_PROCESSOR] = read_processor,
    [RECORD_SAVED_FILE] = read_saved_file,
    [RECORD_SAVED_CONTENT] = read_saved_content,
    [RECORD_SAVED_VDSO] = read_saved_vdso,
    [RECORD_SOCKET_CONNECTION] = read_socket_connection,
    [RECORD_OBJECT] = read_object,
    [RECORD_OBJECT_CONTENT] = read_object_content,
};

static int count_items(struct reading *reading, const void *record, size_t bytes)
{
    struct record_reader reader = {.buffer = record, .size = bytes};
    int got;

    while ((got = record_next(&reader, &reading->item)) > 0) {
        if (reading->item.kind >= KINDS || readers[reading->item.kind] == NULL)
            return problem_set(reading->why, STATUS_NEWER_FORMAT,
                               "process record: unknown item kind %u; a newer pheap wrote it",
                               reading->item.kind);
        reading->counts[reading->item.kind]++;
    }
    return got == 0 ? 0 : damaged(reading, "an item is longer than the record");
}

static void *array(struct arena *arena, uint32_t count, size_t size)
{
    return arena_alloc(arena, (count + 1) * size, 8);
}

static int make_arrays(struct reading *reading, struct arena *arena)
{
    struct process_image *image = reading->image;
    const uint32_t *counts = reading->counts;

    reading->seen_tids = arena_alloc(arena, TID_LIMIT / 8, 8);
    image->kernel_mappings =
        array(arena, counts[RECORD_KERNEL_MAPPING], sizeof *image->kernel_mappings);
    image->files = array(arena, counts[RECORD_FILE], sizeof *image->files);
    image->mappings = array(arena, counts[RECORD_MAPPING], sizeof *image->mappings);
    image->threads = array(arena, counts[RECORD_THREAD], sizeof *image->threads);
    image->descriptions = array(arena, counts[RECORD_DESCRIPTION], sizeof *image->descriptions);
    image->descriptors = array(arena, counts[RECORD_DESCRIPTOR], sizeof(void *));
    image->pipes = array(arena, counts[RECORD_PIPE], sizeof *image->pipes);
    image->sockets = array(arena, counts[RECORD_SOCKET], sizeof *image->sockets);
    image->socket_options =
        array(arena, counts[RECORD_SOCKET_OPTION], sizeof *image->socket_options);
    image->socket_messages =
        array(arena, counts[RECORD_SOCKET_MESSAGE], sizeof *image->socket_messages);
    image->inotify_watches =
        array(arena, counts[RECORD_INOTIFY_WATCH], sizeof *image->inotify_watches);
    image->objects = array(arena, counts[RECORD_OBJECT], sizeof *image->objects);
    image->object_parts = array(arena, counts[RECORD_OBJECT_CONTENT], sizeof *image->object_parts);
    image->watches = array(arena, counts[RECORD_EPOLL_WATCH], sizeof(void *));
    image->interval_timers = array(arena, counts[RECORD_INTERVAL_TIMER], sizeof(void *));
    image->posix_timers = array(arena, counts[RECORD_POSIX_TIMER], sizeof(void *));
    image->pending = array(arena, counts[RECORD_PENDING_SIGNAL], sizeof(void *));
    image->locks = array(arena, counts[RECORD_FILE_LOCK], sizeof(void *));
    image->contents = array(arena, counts[RECORD_SAVED_CONTENT], sizeof(void *));
    image->children = array(arena, counts[RECORD_CHILD], sizeof(void *));
    return reading->seen_tids && image->kernel_mappings && image->files && image->mappings &&
                   image->threads && image->descriptions && image->descriptors && image->pipes &&
                   image->sockets && image->socket_options && image->socket_messages &&
                   image->objects && image->object_parts && image->inotify_watches &&
                   image->watches && image->interval_timers && image->posix_timers &&
                   image->pending && image->locks && image->children && image->contents
               ? 0
               : problem_set(reading->why, -ENOMEM, "no memory for the process record");
}

static bool is_pipe(const struct process_image *image, uint64_t id, uint32_t named)
{
    return id < image->pipe_count && image->pipes[id].record->named == named;
}

static bool is_own_pid(const struct process_image *image, uint64_t pid)
{
    if (pid == (uint64_t)image->process->pid)
        return true;
    for (uint32_t i = 0; i < image->child_count; i++)
        if ((uint64_t)image->children[i]->pid == pid)
            return true;
    return false;
}

static int check_relations(struct reading *reading)
{
    const struct process_image *image = reading->image;

    reading->item = (struct record_item){0};
    if (!image->process || !image->layout || !image->signals || !image->limits ||
        !image->directory || image->thread_count == 0)
        return damaged(reading, "something is missing");
    if (image->process->thread_count != image->thread_count ||
        image->threads[0].record->tid != image->process->pid)
        return damaged(reading, "threads do not agree with the process");
    if (image->process->executable >= image->file_count)
        return damaged(reading, "no executable");
    for (uint32_t i = 0; i < image->descriptor_count; i++)
        if (image->descriptors[i]->description >= image->description_count)
            return damaged(reading, "descriptor of nothing");
    for (uint32_t i = 0; i < image->description_count; i++) {
        const struct record_description *record = image->descriptions[i].record;

        if (record->kind == DESCRIPTION_PIPE && !is_pipe(image, record->value, 0))
            return damaged(reading, "end of an unknown pipe");
        if (record->kind == DESCRIPTION_PIDFD && !is_own_pid(image, record->value))
            return damaged(reading, "pidfd of another process");
        if (record->kind == DESCRIPTION_FIFO && record->value != RECORD_ID_NONE &&
            !is_pipe(image, record->value, 1))
            return damaged(reading, "content of an unknown named pipe");
        if (record->kind == DESCRIPTION_OBJECT &&
            (record->value >= image->object_count ||
             image->objects[record->value].record->kind == OBJECT_SYSV))
            return damaged(reading, "descriptor of an unknown object");
    }
    for (uint32_t i = 0; i < image->watch_count; i++)
        if (image->watches[i]->epoll >= image->description_count ||
            image->descriptions[image->watches[i]->epoll].record->kind != DESCRIPTION_EPOLL)
            return damaged(reading, "watch of an unknown epoll");
    for (uint32_t i = 0; i < image->inotify_watch_count; i++) {
        uint32_t id = image->inotify_watches[i].record->inotify;

        if (id >= image->description_count ||
            image->descriptions[id].record->kind != DESCRIPTION_INOTIFY)
            return damaged(reading, "watch of an unknown inotify");
    }
    return check_sockets(reading);
}

int process_image_read(struct process_image *image, const void *record, size_t bytes,
                       struct arena *arena, struct problem *why)
{
    struct reading reading = {.image = image, .why = why};
    struct record_reader reader = {.buffer = record, .size = bytes};
    int status;

    memset(image, 0, sizeof *image);
    status = count_items(&reading, record, bytes);
    if (status == 0)
        status = make_arrays(&reading, arena);
    while (status == 0 && record_next(&reader, &reading.item) > 0)
        status = readers[reading.item.kind](&reading);
    return status == 0 ? check_relations(&reading) : status;
}

const struct image_file *process_image_file(const struct process_image *image,
                                            const struct record_mapping *mapping)
{
    return mapping->file != RECORD_ID_NONE && !(mapping->flags & RECORD_MAPPING_OBJECT)
               ? &image->files[mapping->file]
               : NULL;
}

const struct image_object *process_image_object(const struct process_image *image,
                                                const struct record_mapping *mapping)
{
    return mapping->file != RECORD_ID_NONE && (mapping->flags & RECORD_MAPPING_OBJECT)
               ? &image->objects[mapping->file]
               : NULL;
}

bool process_image_is_replaced(const struct process_image *image,
                               const struct record_mapping *mapping)
{
    const struct image_file *file = process_image_file(image, mapping);

    return file != NULL && file->is_replaced;
}

const struct image_mapping *process_image_mapping(const struct process_image *image,
                                                  uint64_t address)
{
    uint32_t low = 0, high = image->mapping_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (image->mappings[middle].record->end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == image->mapping_count || image->mappings[low].record->start > address)
        return NULL;
    return &image->mappings[low];
}
