/*
 * sysv_memory.c - objects of kind OBJECT_SYSV: System V shared memory (shmget, shmat).
 *
 * A segment outlives the processes that have attached it, unless it has been marked for removal,
 * which most programs do at once. One that is still there at the restore is attached again and set
 * back to the checkpoint; else a new one takes its place, with its id where that may be chosen.
 *
 * Always true: a segment is attached as a whole, as the program had it; one of which it had
 * unmapped a part is refused at the checkpoint.
 */
#include <errno.h>
#include <string.h>
#include <sys/shm.h>
#include "core/base/format_text.h"
#include "core/process/objects.h"
#include "core/process/proc_text.h"

#define NAME_PREFIX "SYSV "
#define NEXT_ID     "/proc/sys/kernel/shm_next_id"

/* What the restore of one segment has come to. */
struct sysv_segment {
    uint64_t id; /* or the call that made it */
    enum batch_reference how;
    uint64_t attached; /* where, the last time; 0: nowhere yet */
    bool survived;
};

bool sysv_is_mapping(const struct mapping *mapping)
{
    return mapping->shared && mapping->deleted && text_starts_with(mapping->name, "/SYSV");
}

static uint64_t page_end(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
}

/* Does each attachment begin at the segment's start and reach its end, without a gap? */
static bool is_attached_whole(const struct address_space *space, const struct object *object)
{
    uint64_t at = 0, address = 0;

    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *mapping = &space->mappings[i];

        if (mapping->kind != MAPPING_FILE || !object_is(object, mapping->inode, mapping->name))
            continue;
        if (mapping->file_offset != at || (at != 0 && mapping->start != address))
            return false;
        at += mapping->end - mapping->start;
        address = mapping->end;
        if (at == page_end(object->record.size))
            at = 0;
    }
    return at == 0;
}

int sysv_describe(struct capture_run *run, struct object *object)
{
    struct shmid_ds segment;
    int id = (int)object->inode;
    long status = sys_call(SYS_shmctl, id, IPC_STAT, &segment);
    char name[32];
    size_t length;
    char *copy;

    if (status < 0)
        return problem_set(run->why, STATUS_UNSUPPORTED, "System V shared memory %d: %s", id,
                           status_text((int)status));
    object->record.size = segment.shm_segsz;
    object->record.mode = segment.shm_perm.mode & (0777 | SHM_DEST);
    object->record.seals = (uint32_t)segment.shm_perm.__key;
    if (!is_attached_whole(run->capture->space, object))
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "System V shared memory %d, of which a part has been unmapped, cannot "
                           "be checkpointed",
                           id);
    length = format_text(name, sizeof name, NAME_PREFIX "%d", id);
    copy = arena_alloc(run->capture->scratch, length + 1, 1);
    if (copy == NULL)
        return problem_set(run->why, -ENOMEM, "no memory for the list of shared memory");
    memcpy(copy, name, length + 1);
    object->shown = copy;
    return 0;
}

static int id_of(const char *name)
{
    const char *at = name + sizeof NAME_PREFIX - 1;

    return (int)text_number(&at, 10);
}

bool sysv_is_name(const char *name)
{
    const char *at = name + sizeof NAME_PREFIX - 1;
    uint64_t id;

    if (!text_starts_with(name, NAME_PREFIX) || *at < '0' || *at > '9')
        return false;
    id = text_number(&at, 10);
    return *at == 0 && id <= INT32_MAX;
}

static bool has_survived(const struct image_object *object)
{
    struct shmid_ds segment;

    return sys_call(SYS_shmctl, id_of(object->name), IPC_STAT, &segment) == 0 &&
           segment.shm_segsz == object->record->size &&
           (uint32_t)segment.shm_perm.__key == object->record->seals &&
           !(segment.shm_perm.mode & SHM_DEST) && !(object->record->mode & SHM_DEST);
}

/* Needs a privilege; without it a new segment has an id of the kernel's choice. */
static void choose_next_id(struct batch *batch, const char *name)
{
    const char *id = name + sizeof NAME_PREFIX - 1;
    size_t opened = batch_add(
        batch, NEXT_ID, SYS_openat,
        BATCH_ARGS((uint64_t)AT_FDCWD, batch_string(batch, NEXT_ID), O_WRONLY | O_CLOEXEC));

    batch_may_fail(batch);
    batch_add(batch, NEXT_ID, SYS_write, BATCH_ARGS(opened, batch_string(batch, id), strlen(id)));
    batch_refer(batch, 0, BATCH_RESULT);
    batch_may_fail(batch);
    batch_add(batch, NEXT_ID, SYS_close, BATCH_ARGS(opened));
    batch_refer(batch, 0, BATCH_RESULT);
    batch_may_fail(batch);
}

void rebuild_sysv_segment(struct rebuild *rebuild, const struct image_object *object)
{
    const struct process_image *image = rebuild->image;
    const struct record_object *record = object->record;
    bool removed = record->mode & SHM_DEST;
    struct sysv_segment *segment;

    if (rebuild->segments == NULL)
        rebuild->segments =
            arena_alloc(rebuild->arena, image->object_count * sizeof *rebuild->segments, 8);
    if (rebuild->segments == NULL) {
        rebuild->batch->failed = -ENOMEM;
        return;
    }
    segment = &rebuild->segments[record->id];
    segment->survived = has_survived(object);
    segment->id = (uint64_t)id_of(object->name);
    segment->how = BATCH_VALUE;
    if (segment->survived)
        return;
    if (!removed)
        choose_next_id(rebuild->batch, object->name);
    segment->how = BATCH_RESULT;
    segment->id = batch_add(rebuild->batch, object->name, SYS_shmget,
                            BATCH_ARGS(removed ? IPC_PRIVATE : record->seals, record->size,
                                       IPC_CREAT | IPC_EXCL | (record->mode & 0777)));
}

/* By the process itself: it has the memory mapped and nothing else that would know of it. */
static void write_contents(struct rebuild *rebuild, const struct image_object *object,
                           uint64_t base)
{
    struct batch *batch = rebuild->batch;

    for (uint32_t i = 0; i < object->part_count; i++) {
        const struct image_object_part *part = &object->parts[i];
        const uint64_t from[2] = {batch_data(batch, part->content, part->bytes), part->bytes};
        const uint64_t to[2] = {base + part->offset, part->bytes};

        batch_add(batch, object->name, SYS_process_vm_writev,
                  BATCH_ARGS((uint64_t)rebuild->image->process->pid,
                             batch_data(batch, from, sizeof from), 1,
                             batch_data(batch, to, sizeof to), 1, 0));
        batch_expect(batch, part->bytes);
    }
}

static void attach(struct rebuild *rebuild, const struct image_object *object, uint64_t base)
{
    struct sysv_segment *segment = &rebuild->segments[object->record->id];
    struct batch *batch = rebuild->batch;

    batch_add(batch, object->name, SYS_shmat, BATCH_ARGS(segment->id, base, 0));
    batch_refer(batch, 0, segment->how);
    batch_expect(batch, (int64_t)base);
    if (segment->attached == 0 && segment->survived)
        batch_add(batch, object->name, SYS_madvise,
                  BATCH_ARGS(base, page_end(object->record->size), MADV_REMOVE));
    if (segment->attached == 0)
        write_contents(rebuild, object, base);
    segment->attached = base;
}

void rebuild_sysv_mapping(struct rebuild *rebuild, const struct record_mapping *mapping)
{
    const struct image_object *object = &rebuild->image->objects[mapping->file];
    uint64_t base = mapping->start - mapping->file_offset;

    if (rebuild->segments == NULL)
        return; /* the batch has failed */
    if (rebuild->segments[mapping->file].attached != base)
        attach(rebuild, object, base);
    if (mapping->prot != (PROT_READ | PROT_WRITE))
        batch_add(rebuild->batch, object->name, SYS_mprotect,
                  BATCH_ARGS(mapping->start, mapping->end - mapping->start, mapping->prot));
}

void rebuild_sysv_removals(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;

    for (uint32_t i = 0; i < image->object_count && rebuild->segments != NULL; i++) {
        const struct record_object *record = image->objects[i].record;

        if (record->kind != OBJECT_SYSV || !(record->mode & SHM_DEST))
            continue;
        batch_add(rebuild->batch, image->objects[i].name, SYS_shmctl,
                  BATCH_ARGS(rebuild->segments[i].id, IPC_RMID, 0));
        batch_refer(rebuild->batch, 0, rebuild->segments[i].how);
    }
}
