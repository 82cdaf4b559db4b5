/*
 * objects.c - see objects.h.
 *
 * What an object holds is read through a descriptor of the program's, or, if it is only mapped, by
 * way of /proc/PID/map_files or, where that is not permitted, in memory. Holes stay holes but in
 * the last case.
 *
 * Always true: an object is in the record once; whatever maps it or has it open refers to that. A
 * file offset of the program's is never moved: contents are read through an open file
 * description of our own.
 */
#include "core/process/objects.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <string.h>
#include <unistd.h>
#include "core/base/format_text.h"
#include "core/process/descriptors.h"
#include "core/process/proc_text.h"
#include "core/process/saved_files.h"

#define REOPEN_FLAGS (O_ACCMODE | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC | O_DIRECT | O_PATH)
#define SHM_FOLDER   "/dev/shm/"

bool object_is(const struct object *object, uint64_t inode, const char *name)
{
    return object->inode == inode && strcmp(object->name, name) == 0;
}

static uint32_t find_object(const struct object_table *table, uint64_t inode, const char *name)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (object_is(&table->objects[i], inode, name))
            return i;
    return RECORD_ID_NONE;
}

static void add_object(struct object_table *table, struct object object)
{
    object.record.id = table->count;
    if (find_object(table, object.inode, object.name) == RECORD_ID_NONE)
        table->objects[table->count++] = object;
}

static uint32_t kind_of_mapping(const struct capture_run *run, const struct mapping *mapping)
{
    const char *name = mapping->name;

    if (mapping->kind != MAPPING_FILE)
        return 0;
    if (saved_files_cover(run->capture->saved, mapping))
        return 0; /* from before it was deleted */
    if (text_starts_with(name, "/memfd:"))
        return OBJECT_MEMFD;
    if (mapping->shared && mapping->deleted && text_starts_with(name, "/dev/zero"))
        return OBJECT_SHARED_MEMORY;
    if (mapping->shared && !mapping->deleted && text_starts_with(name, SHM_FOLDER))
        return OBJECT_SHM;
    if (sysv_is_mapping(mapping))
        return OBJECT_SYSV;
    if (!mapping->deleted || text_starts_with(name, "/anon_hugepage") ||
        text_starts_with(name, "/dev/zero"))
        return 0;
    return OBJECT_FILE;
}

uint32_t object_of_mapping(const struct capture_run *run, const struct mapping *mapping)
{
    if (mapping->kind != MAPPING_FILE)
        return RECORD_ID_NONE;
    return find_object(run->objects, mapping->inode, mapping->name);
}

static const char *name_of(struct capture_run *run, const struct open_description *description)
{
    static const char deleted[] = " (deleted)";
    size_t length = strlen(description->link);
    char *name;

    if (description->stat.st_nlink != 0 || !text_ends_with(description->link, deleted))
        return description->link;
    length -= sizeof deleted - 1;
    name = arena_alloc(run->capture->scratch, length + 1, 1);
    if (name != NULL)
        memcpy(name, description->link, length);
    return name;
}

/* The kernel names what open(O_TMPFILE) makes "#" and the inode. */
static bool is_temporary(const struct open_description *description)
{
    char name[40];

    format_text(name, sizeof name, "/#%lu (deleted)", (unsigned long)description->stat.st_ino);
    return text_ends_with(description->link, name);
}

/* A standard stream without a name is the restorer's business, as it was. */
static uint32_t kind_of_description(const struct open_description *description)
{
    if (!S_ISREG(description->stat.st_mode) || description->stat.st_nlink != 0 ||
        description->link[0] != '/' || description->standard >= 0)
        return 0;
    if (text_starts_with(description->link, "/memfd:"))
        return OBJECT_MEMFD;
    return is_temporary(description) ? OBJECT_TEMPORARY : OBJECT_FILE;
}

static int list_objects(struct capture_run *run, struct object_table *table)
{
    const struct address_space *space = run->capture->space;
    const struct descriptor_run *descriptors = run->descriptors;

    table->objects =
        arena_alloc(run->capture->scratch,
                    (space->count + descriptors->count + 1ul) * sizeof *table->objects, 16);
    if (table->objects == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < descriptors->count; i++) {
        const struct open_description *description = &descriptors->descriptions[i];
        struct object object = {.record.kind = kind_of_description(description),
                                .inode = description->stat.st_ino,
                                .number = description->number};

        if (object.record.kind == 0)
            continue;
        object.name = name_of(run, description);
        if (object.name == NULL)
            return -ENOMEM;
        add_object(table, object);
    }
    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];
        struct object object = {.record.kind = kind_of_mapping(run, mapping),
                                .inode = mapping->inode,
                                .number = RECORD_ID_NONE,
                                .mapping = mapping,
                                .name = mapping->name};

        if (object.record.kind != 0)
            add_object(table, object);
    }
    return 0;
}

int capture_objects(struct capture_run *run)
{
    struct object_table *table = arena_alloc(run->capture->scratch, sizeof *table, 16);
    int status = table != NULL ? list_objects(run, table) : -ENOMEM;

    if (status != 0)
        return problem_set(run->why, status, "no memory for the list of files without a name");
    run->objects = table;
    for (uint32_t i = 0; i < table->count && status == 0; i++)
        status = capture_object(run, &table->objects[i]);
    return status;
}

static int capture_description_of(struct descriptor_run *run,
                                  const struct open_description *description,
                                  struct record_description *record)
{
    const char *name;
    uint32_t id;

    if (!S_ISREG(description->stat.st_mode) || description->link[0] != '/' ||
        description->standard >= 0)
        return 0;
    name = name_of(run->run, description);
    id = name != NULL ? find_object(run->run->objects, description->stat.st_ino, name)
                      : RECORD_ID_NONE;
    if (id == RECORD_ID_NONE)
        return 0;
    record->kind = DESCRIPTION_OBJECT;
    record->value = id;
    return 1;
}

/* A new file in the place of the deleted one, under its name if that is free, and deleted. */
static size_t make_deleted(struct rebuild *rebuild, const struct image_object *object)
{
    struct batch *batch = rebuild->batch;
    const char *path = object->name;
    struct stat stat;
    uint64_t name;
    size_t made;

    if (sys_call(SYS_newfstatat, AT_FDCWD, path, &stat, AT_SYMLINK_NOFOLLOW) != -ENOENT)
        path = rebuild_text(rebuild, "%s.pheap-%d-%u", object->name, rebuild->image->process->pid,
                            object->record->id);
    name = batch_string(batch, path);
    made = batch_add(
        batch, path, SYS_openat,
        BATCH_ARGS((uint64_t)AT_FDCWD, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    batch_add(batch, path, SYS_unlink, BATCH_ARGS(name));
    return made;
}

static size_t make_temporary(struct batch *batch, const struct image_object *object)
{
    char folder[4096];
    size_t length = (size_t)(strrchr(object->name, '/') - object->name);

    if (length >= sizeof folder)
        length = 0;
    memcpy(folder, object->name, length);
    memcpy(folder + length, "/", 2);
    return batch_add(batch, object->name, SYS_openat,
                     BATCH_ARGS((uint64_t)AT_FDCWD, batch_string(batch, folder),
                                O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
}

static size_t make_object(struct rebuild *rebuild, const struct image_object *object)
{
    struct batch *batch = rebuild->batch;
    uint64_t sealing = object->record->seals == F_SEAL_SEAL ? 0 : MFD_ALLOW_SEALING;

    switch (object->record->kind) {
    case OBJECT_FILE:
        return make_deleted(rebuild, object);
    case OBJECT_TEMPORARY:
        return make_temporary(batch, object);
    case OBJECT_SHM:
        return batch_add(batch, object->name, SYS_openat,
                         BATCH_ARGS((uint64_t)AT_FDCWD, batch_string(batch, object->name),
                                    O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    default:
        return batch_add(batch, object->name, SYS_memfd_create,
                         BATCH_ARGS(batch_string(batch, object->name), MFD_CLOEXEC | sealing));
    }
}

void rebuild_objects(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;
    struct batch *batch = rebuild->batch;

    for (uint32_t i = 0; i < image->object_count; i++) {
        const struct image_object *object = &image->objects[i];
        struct opened made = {.how = BATCH_RESULT};
        struct opened kept = {.value = objects_fd(rebuild) + i, .how = BATCH_VALUE};

        if (object->record->kind == OBJECT_SYSV) {
            rebuild_sysv_segment(rebuild, object);
            continue;
        }
        made.value = make_object(rebuild, object);
        opened_call(batch, object->name, SYS_dup2, made, kept.value, 0, 0);
        opened_call(batch, object->name, SYS_close, made, 0, 0, 0);
        opened_call(batch, object->name, SYS_ftruncate, kept, object->record->size, 0, 0);
        if (object->record->kind == OBJECT_SHM && object->record->size > 0)
            opened_call(batch, object->name, SYS_fallocate, kept,
                        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, object->record->size);
        for (uint32_t j = 0; j < object->part_count; j++) {
            const struct image_object_part *part = &object->parts[j];

            opened_call(batch, object->name, SYS_pwrite64, kept,
                        batch_data(batch, part->content, part->bytes), part->bytes, part->offset);
            batch_expect(batch, part->bytes);
        }
    }
}

void rebuild_object_modes(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;

    for (uint32_t i = 0; i < image->object_count; i++) {
        const struct image_object *object = &image->objects[i];
        struct opened kept = {.value = objects_fd(rebuild) + i, .how = BATCH_VALUE};

        if (object->record->kind == OBJECT_SYSV)
            continue;
        opened_call(rebuild->batch, object->name, SYS_fchmod, kept, object->record->mode, 0, 0);
        if (object->record->seals & ~(uint32_t)F_SEAL_SEAL)
            opened_call(rebuild->batch, object->name, SYS_fcntl, kept, F_ADD_SEALS,
                        object->record->seals, 0);
        opened_call(rebuild->batch, "close", SYS_close, kept, 0, 0, 0);
    }
}

static struct opened open_description_of(struct descriptor_rebuild *run,
                                         const struct image_description *description)
{
    const struct record_description *record = description->record;
    const struct image_object *object = &run->rebuild->image->objects[record->value];
    struct batch *batch = run->rebuild->batch;
    uint32_t flags = record->open_flags & REOPEN_FLAGS;
    char path[40];
    uint64_t name;
    struct opened opened;

    if (object->record->kind == OBJECT_SHM) {
        flags |= record->open_flags & O_NOFOLLOW; /* as shm_open() has it */
        name = batch_string(batch, object->name);
    } else {
        format_text(path, sizeof path, "/proc/self/fd/%lu",
                    (unsigned long)(objects_fd(run->rebuild) + record->value));
        name = batch_string(batch, path);
    }
    opened = (struct opened){.value = batch_add(batch, description->path, SYS_openat,
                                                BATCH_ARGS((uint64_t)AT_FDCWD, name, flags)),
                             .how = BATCH_RESULT};
    if (!(record->open_flags & O_PATH))
        opened_call(batch, description->path, SYS_lseek, opened, record->offset, SEEK_SET, 0);
    return opened;
}

const struct description_kind object_kind = {capture_description_of, open_description_of};
