/*
 * mappings.c - record_mapping: which addresses are mapped, how and from what.
 *
 * Always true: only what a restore can make again is recorded: private mappings, and shared ones
 * of files that have a name or are saved as objects. Contents are not here: the image's index has
 * them.
 */
#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/mapped_files.h"
#include "core/process/memory_attributes.h"
#include "core/process/objects.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"
#include "core/process/saved_files.h"

#define ANON_NAME_BYTES 80 /* the kernel's limit, with the NUL */

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* What a mapping that cannot be restored is called, NULL if it can. */
static const char *mapping_obstacle(const struct capture_run *run, const struct mapping *mapping)
{
    const struct capture *capture = run->capture;
    const char *name = mapping->name;
    const char *obstacle =
        memory_attributes_obstacle(capture_cache_attributes(capture->cache), mapping);

    if (obstacle != NULL)
        return obstacle;
    if (mapping->kind == MAPPING_ANON || mapping->kind == MAPPING_POOL)
        return mapping->shared ? "shared memory of this kind" : NULL;
    if (mapping->kind != MAPPING_FILE)
        return "this kind of mapping";
    if (text_starts_with(name, "/anon_hugepage"))
        return "memory of huge pages (MAP_HUGETLB)";
    if (mapping->deleted && !saved_files_cover(capture->saved, mapping))
        return "a mapping of a deleted file";
    if (text_starts_with(name, "/dev/") && !text_starts_with(name, "/dev/shm/") &&
        strcmp(name, "/dev/zero") != 0)
        return "a mapping of a device";
    return name[0] == '/' ? NULL : "a mapping of something without a name";
}

static bool is_shared_writable(const struct mapping *mapping)
{
    return mapping->shared && (mapping->prot & PROT_WRITE);
}

/* Is any mapping of the same file shared and writable? */
static bool file_may_change(const struct address_space *space, const struct mapping *mapping)
{
    for (uint32_t i = 0; i < space->count; i++) {
        const struct mapping *other = &space->mappings[i];

        if (is_shared_writable(other) && other->inode == mapping->inode &&
            strcmp(other->name, mapping->name) == 0)
            return true;
    }
    return false;
}

static int capture_file(struct capture_run *run, const struct mapping *mapping, uint32_t *id)
{
    const struct saved_files *saved = run->capture->saved;
    bool may_change = file_may_change(run->capture->space, mapping);
    int status;

    if (mapping->deleted)
        return capture_deleted_file(run, mapping->name, mapping->inode, id);
    status = capture_mapped_file(run, mapping->name, mapping->inode, may_change, id);
    if (status != 0 || !saved_files_carry(saved) || may_change ||
        saved_files_find(saved, mapping->name, mapping->inode) == NULL ||
        saved_files_cover(saved, mapping))
        return status;
    return problem_set(run->why, STATUS_DEFERRED, "%s changes while it is read", mapping->name);
}

static int capture_mapping(struct capture_run *run, const struct mapping *mapping)
{
    struct record_mapping record = {
        .start = mapping->start,
        .end = mapping->end,
        .prot = (uint32_t)mapping->prot,
        .flags = (mapping->shared ? RECORD_MAPPING_SHARED : 0u) |
                 (mapping->grows_down ? RECORD_MAPPING_GROWS_DOWN : 0u) |
                 (mapping->is_heap ? RECORD_MAPPING_HEAP : 0u),
        .file = object_of_mapping(run, mapping),
        .attributes = memory_attributes_of(capture_cache_attributes(run->capture->cache), mapping),
    };
    bool from_file = mapping->kind == MAPPING_FILE;
    int status = 0;

    if (from_file)
        record.file_offset = mapping->file_offset;
    if (record.file != RECORD_ID_NONE)
        record.flags |= RECORD_MAPPING_OBJECT;
    else if (from_file)
        status = capture_file(run, mapping, &record.file);
    if (status == 0)
        record_put(run->out, RECORD_MAPPING, &record, sizeof record, from_file ? "" : mapping->name,
                   from_file ? 1 : strlen(mapping->name) + 1);
    return status;
}

int capture_mappings(struct capture_run *run)
{
    const struct memory_attributes *attributes = capture_cache_attributes(run->capture->cache);
    const struct address_space *space = run->capture->space;
    int status = 0;

    for (uint32_t i = 0; i < space->count && status == 0; i++) {
        const struct mapping *mapping = &space->mappings[i];
        const char *obstacle;

        if (mapping->kind == MAPPING_VDSO || mapping->kind == MAPPING_VSYSCALL)
            continue;
        obstacle = object_of_mapping(run, mapping) == RECORD_ID_NONE
                       ? mapping_obstacle(run, mapping)
                       : memory_attributes_obstacle(attributes, mapping);
        if (obstacle != NULL)
            return problem_set(run->why, STATUS_UNSUPPORTED,
                               "memory at %lx-%lx (%s): %s cannot be checkpointed yet",
                               (unsigned long)mapping->start, (unsigned long)mapping->end,
                               mapping->name, obstacle);
        status = capture_mapping(run, mapping);
    }
    return status;
}

void rebuild_empty(struct rebuild *rebuild, const struct address_space *now, uintptr_t keep_start,
                   uintptr_t keep_end)
{
    for (uint32_t i = 0; i < now->count; i++) {
        const struct mapping *mapping = &now->mappings[i];

        if (mapping->kind == MAPPING_VDSO || mapping->kind == MAPPING_VSYSCALL ||
            (mapping->start >= keep_start && mapping->end <= keep_end))
            continue;
        batch_add(rebuild->batch, mapping->name, SYS_munmap,
                  BATCH_ARGS(mapping->start, mapping->end - mapping->start));
    }
}

/* How far down [stack] may begin: the kernel would let it grow to RLIMIT_STACK, but mappings made
 * later could come to lie in its way, so it gets its room at once; untouched it costs nothing. */
static uint64_t stack_start(const struct rebuild *rebuild, uint32_t index)
{
    const struct record_mapping *stack = rebuild->image->mappings[index].record;
    uint64_t room = rebuild->stack_limit_bytes & ~(uint64_t)(PAGE_BYTES - 1);
    uint64_t below = index > 0 ? rebuild->image->mappings[index - 1].record->end : PAGE_BYTES;
    uint64_t gap = 256ull * PAGE_BYTES; /* the kernel's stack guard gap */

    if (room <= stack->end - stack->start || stack->end <= room)
        return stack->start;
    if (stack->end - room < below + gap)
        return stack->start;
    for (uint32_t i = 0; i < rebuild->image->kernel_mapping_count; i++) {
        const struct record_kernel_mapping *kernel = rebuild->image->kernel_mappings[i].record;

        if (kernel->end + gap > stack->end - room && kernel->start < stack->start)
            return stack->start;
    }
    return stack->end - room;
}

static void set_name(struct rebuild *rebuild, const struct record_mapping *mapping,
                     const char *shown, const char *name)
{
    batch_add(rebuild->batch, shown, SYS_prctl,
              BATCH_ARGS(PR_SET_VMA, PR_SET_VMA_ANON_NAME, mapping->start,
                         mapping->end - mapping->start, batch_string(rebuild->batch, name)));
    batch_may_fail(rebuild->batch); /* a kernel without them */
}

/* "[anon:NAME]" */
static void rebuild_name(struct rebuild *rebuild, const struct record_mapping *mapping,
                         const char *shown)
{
    char name[ANON_NAME_BYTES];
    size_t length = strlen(shown) - sizeof "[anon:";

    if (length >= sizeof name)
        return;
    memcpy(name, shown + sizeof "[anon:" - 1, length);
    name[length] = 0;
    set_name(rebuild, mapping, shown, name);
}

/* Memory in the place of a file has the end of its path as its name, so that people see what it is;
 * the kernel takes no name with one of these characters. */
static void name_after_file(struct rebuild *rebuild, const struct record_mapping *mapping,
                            const char *path)
{
    size_t length = strlen(path);
    char name[ANON_NAME_BYTES];

    if (length >= sizeof name)
        path += length - (sizeof name - 1);
    length = strlen(path);
    for (size_t i = 0; i <= length; i++)
        name[i] = path[i] != 0 && (path[i] < ' ' || path[i] > '~' || strchr("\\`$[]", path[i]))
                      ? '_'
                      : path[i];
    set_name(rebuild, mapping, path, name);
}

static void rebuild_anonymous(struct rebuild *rebuild, uint32_t index, uint64_t prot)
{
    const struct record_mapping *mapping = rebuild->image->mappings[index].record;
    bool is_stack = mapping->flags & RECORD_MAPPING_GROWS_DOWN;
    uint64_t start = is_stack ? stack_start(rebuild, index) : mapping->start;
    uint64_t flags = MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
                     memory_attributes_flags(mapping, rebuild->widened[index]) |
                     (is_stack ? MAP_GROWSDOWN | MAP_STACK : 0);
    const char *name = rebuild->image->mappings[index].name;

    batch_add(rebuild->batch, name[0] != 0 ? name : "anonymous memory", SYS_mmap,
              BATCH_ARGS(start, mapping->end - start, prot, flags, -1ul, 0));
    batch_expect(rebuild->batch, (int64_t)start);
    if (text_starts_with(name, "[anon:"))
        rebuild_name(rebuild, mapping, name);
    else if (mapping->file != RECORD_ID_NONE)
        name_after_file(rebuild, mapping, rebuild->image->files[mapping->file].path);
}

static void rebuild_file_mapping(struct rebuild *rebuild, uint32_t index, uint64_t prot,
                                 uint64_t fd, enum batch_reference how)
{
    const struct record_mapping *mapping = rebuild->image->mappings[index].record;
    uint64_t sharing = mapping->flags & RECORD_MAPPING_SHARED ? MAP_SHARED : MAP_PRIVATE;
    const char *what = mapping->flags & RECORD_MAPPING_OBJECT
                           ? rebuild->image->objects[mapping->file].name
                           : rebuild->image->files[mapping->file].path;

    batch_add(rebuild->batch, what, SYS_mmap,
              BATCH_ARGS(mapping->start, mapping->end - mapping->start, prot,
                         sharing | MAP_FIXED_NOREPLACE |
                             (mapping->attributes & MEMORY_NO_RESERVE ? MAP_NORESERVE : 0),
                         fd, mapping->file_offset));
    batch_refer(rebuild->batch, 4, how);
    batch_expect(rebuild->batch, (int64_t)mapping->start);
}

static size_t open_file(struct rebuild *rebuild, const struct record_mapping *mapping)
{
    const char *path = rebuild->image->files[mapping->file].path;
    bool write = (mapping->flags & RECORD_MAPPING_SHARED) && (mapping->prot & PROT_WRITE);

    return batch_add(rebuild->batch, path, SYS_openat,
                     BATCH_ARGS((uint64_t)AT_FDCWD, batch_string(rebuild->batch, path),
                                (write ? O_RDWR : O_RDONLY) | O_CLOEXEC));
}

static void close_file(struct rebuild *rebuild, size_t opened)
{
    batch_add(rebuild->batch, "close", SYS_close, BATCH_ARGS(opened));
    batch_refer(rebuild->batch, 0, BATCH_RESULT);
}

int rebuild_mappings(struct rebuild *rebuild)
{
    const struct process_image *image = rebuild->image;
    uint32_t open_id = RECORD_ID_NONE; /* neighbours are mostly of one file: opened once */
    bool open_shared = false;
    size_t opened = 0;

    for (uint32_t i = 0; i < image->mapping_count; i++) {
        const struct record_mapping *mapping = image->mappings[i].record;
        uint64_t prot = mapping->prot | (rebuild->widened[i] ? PROT_WRITE : 0);
        bool shared = mapping->flags & RECORD_MAPPING_SHARED;

        if (mapping->file == RECORD_ID_NONE || process_image_is_replaced(image, mapping)) {
            rebuild_anonymous(rebuild, i, prot);
            continue;
        }
        if ((mapping->flags & RECORD_MAPPING_OBJECT) &&
            image->objects[mapping->file].record->kind == OBJECT_SYSV) {
            rebuild_sysv_mapping(rebuild, mapping);
            continue;
        }
        if (mapping->flags & RECORD_MAPPING_OBJECT) {
            rebuild_file_mapping(rebuild, i, prot, objects_fd(rebuild) + mapping->file,
                                 BATCH_VALUE);
            continue;
        }
        if (mapping->file != open_id || shared || open_shared) {
            if (open_id != RECORD_ID_NONE)
                close_file(rebuild, opened);
            opened = open_file(rebuild, mapping);
            open_id = mapping->file;
            open_shared = shared;
        }
        rebuild_file_mapping(rebuild, i, prot, opened, BATCH_RESULT);
    }
    if (open_id != RECORD_ID_NONE)
        close_file(rebuild, opened);
    rebuild_sysv_removals(rebuild);
    return rebuild->batch->failed;
}

void rebuild_protections(struct rebuild *rebuild)
{
    for (uint32_t i = 0; i < rebuild->image->mapping_count; i++) {
        const struct record_mapping *mapping = rebuild->image->mappings[i].record;

        if (!rebuild->widened[i])
            continue;
        batch_add(rebuild->batch, "protection", SYS_mprotect,
                  BATCH_ARGS(mapping->start, mapping->end - mapping->start, mapping->prot));
    }
}
