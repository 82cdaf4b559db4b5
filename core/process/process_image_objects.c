/*
 * process_image_objects.c - the objects of a process record, checked.
 *
 * Always true: content lies within its object's size; a name that is opened is a path, and one that
 * is written to in place lies in /dev/shm.
 */
#include <string.h>
#include "core/process/objects.h"
#include "core/process/process_image_reading.h"

#define SEALS_KNOWN 0x3fu
#define SHM_FOLDER  "/dev/shm/"

static bool has_good_name(const struct record_object *record, const char *name)
{
    if (name == NULL)
        return false;
    if (record->kind == OBJECT_SHM)
        return is_path(name) && strncmp(name, SHM_FOLDER, sizeof SHM_FOLDER - 1) == 0 &&
               strstr(name, "/../") == NULL;
    if (record->kind == OBJECT_SYSV)
        return sysv_is_name(name) && record->size > 0;
    return is_path(name) || record->kind == OBJECT_MEMFD || record->kind == OBJECT_SHARED_MEMORY;
}

static bool has_good_seals(const struct record_object *record)
{
    return record->seals == 0 || record->kind == OBJECT_SYSV ||
           (record->kind == OBJECT_MEMFD && record->seals <= SEALS_KNOWN);
}

int read_object(struct reading *reading)
{
    struct process_image *image = reading->image;
    struct image_object *object = &image->objects[image->object_count];
    const struct record_object *record = record_fixed(&reading->item, sizeof *record);

    object->record = record;
    object->name = record != NULL ? record_string(&reading->item, sizeof *record) : NULL;
    object->parts = &image->object_parts[image->object_part_count];
    if (record == NULL || record->id != image->object_count || record->mode > 07777 ||
        record->kind < OBJECT_SHARED_MEMORY || record->kind > OBJECT_SYSV ||
        !has_good_seals(record) || record->size > INT64_MAX || !has_good_name(record, object->name))
        return damaged(reading, "impossible object");
    image->object_count++;
    return 0;
}

int read_object_content(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_object_content *record = record_fixed(&reading->item, sizeof *record);
    struct image_object *object;
    uint32_t bytes;

    if (record == NULL || image->object_count == 0 || record->object != image->object_count - 1)
        return damaged(reading, "content of an unknown object");
    object = &image->objects[record->object];
    bytes = reading->item.bytes - (uint32_t)sizeof *record;
    if (record->offset > object->record->size || bytes > object->record->size - record->offset)
        return damaged(reading, "content beyond its object's end");
    image->object_parts[image->object_part_count++] =
        (struct image_object_part){.content = reading->item.payload + sizeof *record,
                                   .bytes = bytes,
                                   .offset = record->offset};
    object->part_count++;
    return 0;
}
