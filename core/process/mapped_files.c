/*
 * mapped_files.c - record_file: identity of mapped files, taken at the checkpoint, compared at the
 * restore.
 *
 * Always true: an entry of the cache is valid for exactly the {inode, size, time of change} it
 * names; each capture looks at each file anew and reads the build-id again only when those have
 * changed.
 */
#include "core/process/mapped_files.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/process/build_id.h"
#include "core/process/credentials.h"
#include "core/process/process_image.h"
#include "core/process/proc_text.h"
#include "core/process/processor.h"
#include "core/process/saved_files.h"

#define CACHED_FILES_MAX 2048
#define STATUS_BYTES     CAPTURE_TEXT_BYTES /* with a long list of groups */
#define REPLACE_ADVICE                                                                             \
    "put the old one back, or start the program afresh (with --self-contained generations do "     \
    "without it)"

struct cached_file {
    uint64_t path_checksum;
    uint64_t checkpoint; /* the last one that referred to it */
    struct record_file record;
};

struct capture_cache {
    struct memory_attributes *attributes;
    struct record_processor processor;
    struct credentials credentials; /* the agent's own */
    uint64_t checkpoint;
    uint32_t next_id;
    uint32_t count;
    struct cached_file *last; /* neighbours are mostly of the same file */
    struct cached_file files[CACHED_FILES_MAX];
};

int capture_cache_create(struct capture_cache **out, struct arena *arena)
{
    char status[STATUS_BYTES];
    int result;

    *out = arena_alloc(arena, sizeof **out, 16);
    if (*out == NULL)
        return -ENOMEM;
    processor_read(&(*out)->processor);
    result = (int)proc_read(sys_getpid(), "status", status, sizeof status);
    if (result >= 0)
        result = credentials_read(&(*out)->credentials, sys_getpid(), status);
    if (result < 0)
        return result;
    (*out)->attributes = memory_attributes_create(arena);
    return (*out)->attributes != NULL ? 0 : -ENOMEM;
}

const struct record_processor *capture_cache_processor(const struct capture_cache *cache)
{
    return &cache->processor;
}

const struct credentials *capture_cache_credentials(const struct capture_cache *cache)
{
    return &cache->credentials;
}

struct memory_attributes *capture_cache_attributes(const struct capture_cache *cache)
{
    return cache->attributes;
}

void mapped_files_begin(struct capture_cache *cache)
{
    cache->checkpoint++;
    cache->next_id = 0;
    cache->last = NULL;
}

static struct cached_file *cache_find(struct capture_cache *cache, uint64_t path_checksum)
{
    struct cached_file *reusable = NULL;

    if (cache->last != NULL && cache->last->path_checksum == path_checksum)
        return cache->last;
    for (uint32_t i = 0; i < cache->count; i++) {
        struct cached_file *file = &cache->files[i];

        if (file->path_checksum == path_checksum)
            return file;
        if (file->checkpoint + 1 < cache->checkpoint)
            reusable = file;
    }
    if (cache->count < CACHED_FILES_MAX)
        reusable = &cache->files[cache->count++];
    if (reusable != NULL) {
        memset(reusable, 0, sizeof *reusable);
        reusable->path_checksum = path_checksum;
    }
    return reusable;
}

static int64_t stat_mtime_ns(const struct stat *stat)
{
    return (int64_t)stat->st_mtim.tv_sec * 1000000000 + stat->st_mtim.tv_nsec;
}

struct record_file mapped_file_identity(const struct stat *stat)
{
    return (struct record_file){
        .device = stat->st_dev,
        .inode = stat->st_ino,
        .size = (uint64_t)stat->st_size,
        .mtime_ns = stat_mtime_ns(stat),
        .mode = stat->st_mode,
    };
}

void mapped_file_identify(struct record_file *record, const char *path, const struct stat *stat)
{
    *record = mapped_file_identity(stat);
    if (S_ISREG(stat->st_mode))
        record->build_id_bytes = build_id_read(path, record->build_id);
}

static bool is_as_recorded(const struct record_file *record, const struct stat *stat)
{
    return record->inode == stat->st_ino && record->size == (uint64_t)stat->st_size &&
           record->mtime_ns == stat_mtime_ns(stat) && record->device == stat->st_dev;
}

static void cache_refresh(struct cached_file *file, const char *path, const struct stat *stat)
{
    if (!is_as_recorded(&file->record, stat))
        mapped_file_identify(&file->record, path, stat);
}

void mapped_file_prepare(struct capture_cache *cache, const char *path, uint64_t inode)
{
    struct cached_file *file = cache_find(cache, checksum64(path, strlen(path)));
    struct stat stat;

    if (file == NULL || sys_stat(path, &stat) != 0 || stat.st_ino != inode)
        return;
    cache_refresh(file, path, &stat);
    cache->last = file;
}

static const struct saved_file *find_saved(const struct capture_run *run, const char *path,
                                           uint64_t inode)
{
    const struct saved_files *saved = run->capture->saved;

    return saved != NULL ? saved_files_find(saved, path, inode) : NULL;
}

/* Its id in this record. */
static uint32_t put_file(struct capture_run *run, struct cached_file *file, const char *path,
                         const struct saved_file *saved)
{
    struct capture_cache *cache = run->capture->cache;
    struct record_saved_file item = {.file = cache->next_id};

    file->checkpoint = cache->checkpoint;
    file->record.id = cache->next_id++;
    record_put(run->out, RECORD_FILE, &file->record, sizeof file->record, path, strlen(path) + 1);
    if (saved == NULL)
        return file->record.id;
    item.first_page = saved->first_page;
    record_put(run->out, RECORD_SAVED_FILE, &item, sizeof item, NULL, 0);
    return file->record.id;
}

int capture_mapped_file(struct capture_run *run, const char *path, uint64_t inode, bool may_change,
                        uint32_t *id)
{
    struct capture_cache *cache = run->capture->cache;
    struct cached_file *file = cache_find(cache, checksum64(path, strlen(path)));
    const struct saved_file *saved;
    struct stat stat;
    int status;

    if (file == NULL)
        return problem_set(run->why, STATUS_LIMIT, "more than %d mapped files", CACHED_FILES_MAX);
    cache->last = file;
    if (file->checkpoint == cache->checkpoint) {
        *id = file->record.id;
        return 0;
    }
    status = sys_stat(path, &stat);
    if (status != 0 || (inode != 0 && stat.st_ino != inode))
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "%s is mapped, but that path now leads to %s; end and start the program "
                           "after an upgrade",
                           path, status != 0 ? "nothing" : "another file");
    cache_refresh(file, path, &stat);
    saved = find_saved(run, path, stat.st_ino);
    if (saved != NULL && !may_change && !is_as_recorded(&saved->identity, &stat))
        return problem_set(run->why, STATUS_DEFERRED, "%s is being written to", path);
    file->record.flags = may_change ? RECORD_FILE_MAY_CHANGE : 0;
    *id = put_file(run, file, path, may_change ? NULL : saved);
    return 0;
}

int capture_deleted_file(struct capture_run *run, const char *path, uint64_t inode, uint32_t *id)
{
    struct capture_cache *cache = run->capture->cache;
    const struct saved_file *saved = find_saved(run, path, inode);
    struct cached_file *file;

    if (saved == NULL && !(inode == 0 && saved_files_carry(run->capture->saved)))
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "%s is mapped, but has been deleted or replaced; end and start the "
                           "program after an upgrade",
                           path);
    /* Another file may be mapped by the same path. */
    file = cache_find(cache, checksum64(path, strlen(path)) ^ (saved ? saved->first_page : 1));
    if (file == NULL)
        return problem_set(run->why, STATUS_LIMIT, "more than %d mapped files", CACHED_FILES_MAX);
    cache->last = file;
    *id = file->record.id;
    if (file->checkpoint == cache->checkpoint)
        return 0;
    file->record = saved != NULL ? saved->identity : (struct record_file){.mode = S_IFREG};
    *id = put_file(run, file, path, saved);
    return 0;
}

static bool file_is_same(const struct image_file *file, const struct stat *stat)
{
    const struct record_file *saved = file->record;
    uint8_t build_id[RECORD_BUILD_ID_BYTES];

    if ((saved->mode & S_IFMT) != (stat->st_mode & S_IFMT))
        return false;
    if (!S_ISREG(stat->st_mode) || (saved->flags & RECORD_FILE_MAY_CHANGE))
        return true;
    if (saved->size != (uint64_t)stat->st_size)
        return false;
    if (saved->inode == stat->st_ino && saved->mtime_ns == stat_mtime_ns(stat))
        return true;
    return saved->build_id_bytes > 0 &&
           build_id_read(file->path, build_id) == saved->build_id_bytes &&
           memcmp(build_id, saved->build_id, saved->build_id_bytes) == 0;
}

bool mapped_file_is_same(const struct image_file *file)
{
    struct stat stat;

    return sys_stat(file->path, &stat) == 0 && file_is_same(file, &stat);
}

static bool is_mapped(const struct process_image *image, uint32_t file)
{
    for (uint32_t i = 0; i < image->mapping_count; i++)
        if (image->mappings[i].record->file == file &&
            !(image->mappings[i].record->flags & RECORD_MAPPING_OBJECT))
            return true;
    return false;
}

/* Its content is in the image; or none of it is in the memory of a program that was resumed without
 * its executable. */
static bool may_replace(const struct process_image *image, uint32_t file)
{
    bool saves = false;

    for (uint32_t i = 0; i < image->file_count; i++)
        saves |= image->files[i].saved != NULL;
    return image->files[file].saved != NULL || (saves && !is_mapped(image, file));
}

/* It is made anew before it is mapped. */
static bool is_put_back(const struct process_image *image, uint32_t file)
{
    const struct record_file *record = image->files[file].record;

    return (record->flags & RECORD_FILE_MAY_CHANGE) &&
           process_image_content(image, record->device, record->inode) != NULL;
}

int mapped_files_check(struct process_image *image, struct problem *why)
{
    for (uint32_t i = 0; i < image->file_count; i++) {
        struct image_file *file = &image->files[i];
        struct stat stat;
        int status = sys_stat(file->path, &stat);

        if (is_put_back(image, i))
            continue;
        file->is_replaced = status != 0 || !file_is_same(file, &stat);
        if (!file->is_replaced || may_replace(image, i))
            continue;
        if (status != 0)
            return problem_set(why, STATUS_CHANGED,
                               "%s, which the program had mapped: %s; " REPLACE_ADVICE, file->path,
                               status_text(status));
        return problem_set(why, STATUS_CHANGED,
                           "%s has changed since the checkpoint; " REPLACE_ADVICE, file->path);
    }
    return 0;
}
