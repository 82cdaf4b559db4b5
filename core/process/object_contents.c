/*
 * object_contents.c - what objects hold, copied into the record inside the freeze.
 *
 * It is read through a descriptor of the program's or, if the object is only mapped, by way of
 * /proc/PID/map_files or, where that is not permitted, in memory. Holes stay holes but in the last
 * case.
 *
 * Always true: no file offset of the program's is moved: contents are read through an open file
 * description of our own.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "core/base/format_text.h"
#include "core/process/descriptors.h"
#include "core/process/objects.h"

#define PART_BYTES (1u << 20)
#define HUGE_PAGE  (2u << 20)

/* An open file description of our own: a descriptor, -ENOENT for memory that has none. */
static int open_object(struct capture_run *run, const struct object *object)
{
    char path[80];
    int borrowed, fd;

    if (object->record.kind == OBJECT_SHM)
        return sys_open(object->name, O_RDONLY | O_CLOEXEC, 0);
    if (object->number == RECORD_ID_NONE) {
        format_text(path, sizeof path, "/proc/%d/map_files/%lx-%lx", run->capture->pid,
                    (unsigned long)object->mapping->start, (unsigned long)object->mapping->end);
        fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
        return fd >= 0 || !object->mapping->shared ? fd : -ENOENT;
    }
    borrowed = descriptor_borrow(run, object->number);
    if (borrowed < 0)
        return borrowed;
    format_text(path, sizeof path, "/proc/self/fd/%d", borrowed);
    fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
    (void)sys_close(borrowed);
    return fd;
}

static int too_much(const struct capture_run *run, const struct object *object)
{
    return problem_set(run->why, STATUS_UNSUPPORTED,
                       "shared memory and files without a name (%s, %lu bytes) are more than the "
                       "%lu MiB that a checkpoint can hold",
                       object->name, (unsigned long)object->record.size,
                       (unsigned long)(OBJECT_BYTES_MAX >> 20));
}

/* Room in the record for a part of an object's content. NULL: run->why says what is too much. */
static void *content_room(struct capture_run *run, const struct object *object, uint64_t offset,
                          uint64_t bytes)
{
    struct record_object_content record = {.object = object->record.id, .offset = offset};
    void *room;

    run->objects->bytes += bytes;
    if (run->objects->bytes > OBJECT_BYTES_MAX) {
        (void)too_much(run, object);
        return NULL;
    }
    room = record_room(run->out, RECORD_OBJECT_CONTENT, &record, sizeof record, bytes);
    if (room == NULL)
        (void)problem_set(run->why, STATUS_LIMIT, "the process record is full at %s", object->name);
    return room;
}

static uint64_t part_of(uint64_t bytes)
{
    return bytes < PART_BYTES ? bytes : PART_BYTES;
}

static int put_parts(struct capture_run *run, const struct object *object, int fd, uint64_t at,
                     uint64_t end)
{
    int status = 0;

    for (uint64_t bytes; status == 0 && at < end; at += bytes) {
        void *room;

        bytes = part_of(end - at);
        room = content_room(run, object, at, bytes);
        if (room == NULL)
            return run->why->status;
        status = sys_pread_all(fd, room, bytes, at);
    }
    return status;
}

static int put_content(struct capture_run *run, const struct object *object, int fd)
{
    uint64_t size = object->record.size;
    long data = 0, hole = 0;
    int status = 0;

    while (status == 0 && (uint64_t)hole < size) {
        data = sys_call(SYS_lseek, fd, hole, SEEK_DATA);
        if (data == -ENXIO)
            break;
        hole = data < 0 ? data : sys_call(SYS_lseek, fd, data, SEEK_HOLE);
        if (hole < 0)
            return (int)hole;
        status = put_parts(run, object, fd, (uint64_t)data,
                           (uint64_t)hole < size ? (uint64_t)hole : size);
    }
    return status;
}

static int put_mapping(struct capture_run *run, const struct object *object,
                       const struct mapping *mapping, int memory)
{
    uint64_t left = object->record.size - mapping->file_offset; /* behind it is no content */
    uint64_t end = mapping->end - mapping->start < left ? mapping->end : mapping->start + left;
    int status = 0;

    for (uint64_t bytes, at = mapping->start; status == 0 && at < end; at += bytes) {
        void *room;

        bytes = part_of(end - at);
        room = content_room(run, object, mapping->file_offset + at - mapping->start, bytes);
        if (room == NULL)
            return run->why->status;
        status = sys_pread_all(memory, room, bytes, at);
    }
    return status;
}

/* What an earlier mapping has shown is not put again. */
static bool is_put(struct address_range *done, const struct mapping *mapping)
{
    uint64_t end = mapping->file_offset + (mapping->end - mapping->start);

    if (mapping->file_offset >= done->start && end <= done->end)
        return true;
    if (mapping->file_offset == done->end)
        done->end = end;
    else if (done->end == 0)
        *done = (struct address_range){mapping->file_offset, end};
    return false;
}

/* The whole of the mappings, whose pages all come into being by that. */
static int put_memory(struct capture_run *run, const struct object *object)
{
    const struct address_space *space = run->capture->space;
    struct address_range done = {0, 0};
    int memory = sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
    int status = memory < 0 ? memory : 0;

    for (uint32_t i = 0; i < space->count && status == 0; i++) {
        const struct mapping *mapping = &space->mappings[i];

        if (mapping->kind == MAPPING_FILE && mapping->shared &&
            object_is(object, mapping->inode, mapping->name) && !is_put(&done, mapping))
            status = put_mapping(run, object, mapping, memory);
    }
    if (memory >= 0)
        (void)sys_close(memory);
    return status;
}

static uint64_t end_of_mappings(const struct address_space *space, const struct object *object)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];
        uint64_t mapped = mapping->file_offset + (mapping->end - mapping->start);

        if (mapping->kind == MAPPING_FILE && object_is(object, mapping->inode, mapping->name) &&
            mapped > end)
            end = mapped;
    }
    return end;
}

static void put_object(struct capture_run *run, const struct object *object)
{
    const char *name = object->shown != NULL ? object->shown : object->name;

    if (object->record.kind == OBJECT_MEMFD)
        name += strlen("/memfd:");
    record_put(run->out, RECORD_OBJECT, &object->record, sizeof object->record, name,
               strlen(name) + 1);
}

static int capture_opened(struct capture_run *run, struct object *object, int fd)
{
    struct record_object *record = &object->record;
    long seals = sys_call(SYS_fcntl, fd, F_GET_SEALS);
    struct stat stat;
    int status = sys_fstat(fd, &stat);

    if (status != 0)
        return status;
    if (stat.st_ino != object->inode)
        return -ESTALE;
    if (record->kind == OBJECT_MEMFD && stat.st_blksize >= HUGE_PAGE)
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "%s: a memfd of huge pages (MFD_HUGETLB) cannot be checkpointed",
                           object->name);
    if (run->objects->bytes + (uint64_t)stat.st_blocks * 512 > OBJECT_BYTES_MAX)
        return too_much(run, object); /* before it is copied */
    if (record->kind != OBJECT_SYSV) {
        record->size = (uint64_t)stat.st_size;
        record->mode = stat.st_mode & 07777;
    }
    if (record->kind == OBJECT_MEMFD && seals > 0)
        record->seals = (uint32_t)seals;
    put_object(run, object);
    return put_content(run, object, fd);
}

int capture_object(struct capture_run *run, struct object *object)
{
    int status = object->record.kind == OBJECT_SYSV ? sysv_describe(run, object) : 0;
    int fd = status == 0 ? open_object(run, object) : status;

    if (fd == -ENOENT) {
        if (object->record.kind != OBJECT_SYSV) {
            object->record.size = end_of_mappings(run->capture->space, object);
            object->record.mode = 0600;
        }
        put_object(run, object);
        status = put_memory(run, object);
    } else if (fd < 0) {
        status = fd;
    } else {
        status = capture_opened(run, object, fd);
        (void)sys_close(fd);
    }
    if (status == 0 || status == STATUS_UNSUPPORTED || status == STATUS_LIMIT)
        return status;
    return problem_set(run->why, STATUS_UNSUPPORTED,
                       "%s, which no name leads to, cannot be read for a checkpoint: %s",
                       object->name, status_text(status));
}
