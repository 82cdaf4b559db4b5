/*
 * objects.h - memory and files that no name leads to: shared anonymous memory, memfds, deleted
 * files, O_TMPFILE; and POSIX shared memory, whose name leads to whatever was written since.
 * Internal to core/process.
 *
 * Their content is in the record, once for each, however often they are mapped or open.
 */
#ifndef PHEAP_PROCESS_OBJECTS_H
#define PHEAP_PROCESS_OBJECTS_H

#include "core/process/capture_run.h"
#include "core/process/rebuild.h"

/* All content together; it is copied inside the freeze and written with each checkpoint. More than
 * the usual makes the record's buffer grow. */
#define OBJECT_BYTES_USUAL (64ull << 20)
#define OBJECT_BYTES_MAX   (1ull << 30)

struct object {
    struct record_object record;
    uint64_t inode;
    uint32_t number;               /* a descriptor of it, RECORD_ID_NONE: only mapped */
    const struct mapping *mapping; /* the first one of it, or NULL */
    const char *name;              /* without " (deleted)" */
    const char *shown;             /* another name for the record, or NULL */
};

struct object_table {
    struct object *objects;
    uint32_t count;
    uint64_t bytes; /* of content so far */
};

bool object_is(const struct object *object, uint64_t inode, const char *name);

/* object_contents.c: puts the object and its content into the record. */
MUST_CHECK int capture_object(struct capture_run *run, struct object *object);

/* The id of the object that a mapping or a file shows, RECORD_ID_NONE if it is none. */
uint32_t object_of_mapping(const struct capture_run *run, const struct mapping *mapping);

#define OBJECTS_FD 8 /* above the restorer's first private descriptor */

/* Descriptor of object 0 in the rebuilt process; the others follow. */
static inline uint64_t objects_fd(const struct rebuild *rebuild)
{
    return (uint64_t)rebuild->first_private_fd + OBJECTS_FD;
}

/* sysv_memory.c */
bool sysv_is_mapping(const struct mapping *mapping);
bool sysv_is_name(const char *name); /* of an object in a record */
MUST_CHECK int sysv_describe(struct capture_run *run, struct object *object);
void rebuild_sysv_segment(struct rebuild *rebuild, const struct image_object *object);
void rebuild_sysv_mapping(struct rebuild *rebuild, const struct record_mapping *mapping);
void rebuild_sysv_removals(struct rebuild *rebuild); /* behind all mappings */

/* Behind all mappings and descriptions: modes and seals, which could forbid to make them. */
void rebuild_object_modes(struct rebuild *rebuild);

#endif
