/*
 * saved_files.c - record_saved_file: what a generation has of the files that the program maps.
 *
 * Always true: `present` names pages of the file area that hold what their file held when its
 * identity was noted; a failed write empties it, and then everything is read, and compared with the
 * index, again. Places of two files do not overlap.
 *
 * Reads of files, not of memory: a page of a private mapping that the program has written to is
 * memory's, and the file's own content is what it falls back to (MADV_DONTNEED).
 */
#include "core/process/saved_files.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/image/file_area.h"
#include "core/image/page_set.h"
#include "core/process/mapped_files.h"
#include "core/process/proc_text.h"
#include "core/process/process_image_reading.h"

#define SAVED_FILES_MAX 2048u
#define SPANS_MAX       8192u

struct saved_files {
    struct image_writer *writer;
    struct page_set present, kept, one; /* kept, one: for a moment */
    uint64_t checkpoint;
    bool needs_sweep; /* the area may have pages of files that are not needed any more */
    uint32_t count;
    struct saved_file files[SAVED_FILES_MAX];
};

int saved_files_create(struct saved_files **out, struct arena *arena, struct image_writer *writer)
{
    struct saved_files *files = arena_alloc(arena, sizeof *files, 64);
    int status = files != NULL ? 0 : -ENOMEM;

    if (status == 0)
        status = page_set_create(&files->present, arena, SPANS_MAX);
    if (status == 0)
        status = page_set_create(&files->kept, arena, SPANS_MAX);
    if (status == 0)
        status = page_set_create(&files->one, arena, 1);
    if (status != 0)
        return status;
    files->writer = writer;
    files->needs_sweep = true; /* what the generation that was resumed had */
    *out = files;
    return 0;
}

/* --- the table --- */

static struct saved_file *find(const struct saved_files *files, const char *path, uint64_t inode)
{
    uint64_t checksum = checksum64(path, strlen(path));

    for (uint32_t i = 0; i < files->count; i++) {
        const struct saved_file *file = &files->files[i];

        if (file->path_checksum == checksum && (inode == 0 || file->identity.inode == inode))
            return (struct saved_file *)(uintptr_t)file;
    }
    return NULL;
}

const struct saved_file *saved_files_find(const struct saved_files *files, const char *path,
                                          uint64_t inode)
{
    return find(files, path, inode);
}

static bool place_is_taken(const struct saved_files *files, uint64_t page)
{
    for (uint32_t i = 0; i < files->count; i++)
        if (files->files[i].path_checksum != 0 && files->files[i].first_page == page)
            return true;
    return false;
}

/* By path and inode: after a restore the same file is at the same place, and nothing of it is
 * written again. */
static uint64_t choose_place(const struct saved_files *files, uint64_t path_checksum,
                             uint64_t inode)
{
    const uint64_t key[2] = {path_checksum, inode};
    uint64_t place = checksum64(key, sizeof key) % FILE_PLACES;

    while (place_is_taken(files, file_place_page(place)))
        place = (place + 1) % FILE_PLACES;
    return file_place_page(place);
}

static struct saved_file *add(struct saved_files *files, const char *path, uint64_t inode)
{
    uint64_t checksum = checksum64(path, strlen(path)), page;
    uint32_t at = 0;

    while (at < files->count && files->files[at].path_checksum != 0)
        at++;
    if (at == SAVED_FILES_MAX)
        return NULL;
    page = choose_place(files, checksum, inode);
    files->count += at == files->count;
    files->files[at] = (struct saved_file){
        .path_checksum = checksum, .first_page = page, .identity = {.inode = inode}};
    return &files->files[at];
}

/* --- what is there of a file --- */

static uint64_t file_pages(const struct saved_file *file)
{
    return (file->identity.size + PAGE_BYTES - 1) / PAGE_BYTES;
}

/* The pages of the area that a mapping shows, as far as its file goes. */
static struct page_span mapped_span(const struct saved_file *file, const struct mapping *mapping)
{
    uint64_t first = mapping->file_offset / PAGE_BYTES;
    uint64_t end = first + (mapping->end - mapping->start) / PAGE_BYTES;
    uint64_t pages = file_pages(file);

    first = first < pages ? first : pages;
    end = end < pages ? end : pages;
    return (struct page_span){file->first_page + first, file->first_page + end};
}

static bool is_present(const struct saved_files *files, struct page_span span)
{
    uint64_t stop;

    return !page_set_next_outside(&files->present, &span.page, span.end, &stop);
}

/* Both fit, or nothing is remembered: the next checkpoint reads all of it again. */
static void note_present(struct saved_files *files, struct page_span span)
{
    files->one.spans[0] = span;
    files->one.count = span.page < span.end;
    if (!page_set_join(&files->present, &files->one))
        files->present.count = 0;
}

static void note_absent(struct saved_files *files, const struct saved_file *file)
{
    files->one.spans[0] = (struct page_span){file->first_page, file->first_page + FILE_PLACE_PAGES};
    files->one.count = 1;
    if (page_set_subtract(&files->kept, &files->present, &files->one))
        page_set_copy(&files->present, &files->kept);
    else
        files->present.count = 0;
}

bool saved_files_cover(const struct saved_files *files, const struct mapping *mapping)
{
    const struct saved_file *file =
        files != NULL ? find(files, mapping->name, mapping->inode) : NULL;

    return file != NULL && is_present(files, mapped_span(file, mapping));
}

/* --- saving --- */

/* What a restore can map from somewhere else as well: devices, and what is saved as an object. */
static bool is_of_file(const struct mapping *mapping)
{
    const char *name = mapping->name;

    return mapping->kind == MAPPING_FILE && name[0] == '/' &&
           !(mapping->shared && (mapping->prot & PROT_WRITE)) && !text_starts_with(name, "/dev/") &&
           !text_starts_with(name, "/memfd:") && !text_starts_with(name, "/SYSV") &&
           !text_starts_with(name, "/anon_hugepage");
}

static bool is_as_noted(const struct saved_file *file, const struct record_file *now)
{
    return file->identity.size == now->size && file->identity.mtime_ns == now->mtime_ns &&
           file->identity.device == now->device;
}

/* Compares the file with what was noted of it: it may have been written to in place. */
static int look_at(struct saved_files *files, struct saved_file *file, const char *path,
                   const struct stat *stat, struct problem *why)
{
    struct record_file now;

    mapped_file_identify(&now, path, stat);
    if (now.size > FILE_PLACE_PAGES * PAGE_BYTES)
        return problem_set(
            why, STATUS_LIMIT,
            "%s is mapped and has %lu bytes: --self-contained carries files of up to "
            "64 GiB",
            path, (unsigned long)now.size);
    if (!is_as_noted(file, &now)) {
        note_absent(files, file);
        files->needs_sweep = true; /* it may have become shorter */
    }
    file->identity = now;
    file->looked_at = files->checkpoint;
    return 0;
}

static int save_span(struct saved_files *files, const struct saved_file *file, int fd,
                     struct page_span span, bool frozen, struct problem *why)
{
    uint64_t page = span.page, stop = 0;
    int status = 0;

    for (; status == 0 && page_set_next_outside(&files->present, &page, span.end, &stop);
         page = stop)
        status =
            file_area_save(files->writer, fd, page - file->first_page, page, stop, frozen, why);
    if (status != 0)
        files->present.count = 0;
    else
        note_present(files, span);
    return status;
}

/* With the file open: is it the one that is mapped, and what of it is missing? */
static int save_from(struct saved_files *files, const struct mapping *mapping, int fd, bool frozen,
                     struct problem *why)
{
    struct saved_file *file = find(files, mapping->name, mapping->inode);
    struct stat stat;
    int status = sys_fstat(fd, &stat);

    if (status != 0 || stat.st_ino != mapping->inode || !S_ISREG(stat.st_mode))
        return 0;
    if (file == NULL)
        file = add(files, mapping->name, mapping->inode);
    if (file == NULL)
        return problem_set(why, STATUS_LIMIT, "more than %u mapped files", SAVED_FILES_MAX);
    status = look_at(files, file, mapping->name, &stat, why);
    if (status != 0)
        return status;
    file->checkpoint = files->checkpoint;
    return save_span(files, file, fd, mapped_span(file, mapping), frozen, why);
}

/* Nothing to do: the file was looked at for this checkpoint and has all, or it is gone. */
static bool is_done(struct saved_files *files, const struct mapping *mapping)
{
    struct saved_file *file = find(files, mapping->name, mapping->inode);

    if (file == NULL)
        return mapping->deleted;
    if (!mapping->deleted && file->looked_at != files->checkpoint)
        return false;
    file->checkpoint = files->checkpoint;
    return mapping->deleted || is_present(files, mapped_span(file, mapping));
}

static int save_mapping(struct saved_files *files, const struct mapping *mapping, bool frozen,
                        struct problem *why)
{
    int fd, status;

    if (is_done(files, mapping))
        return 0;
    fd = sys_open(mapping->name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (fd == -ENOENT || fd == -ENOTDIR)
        return 0;
    if (fd < 0)
        return problem_set(why, STATUS_UNSUPPORTED,
                           "%s is mapped and cannot be read (%s), so --self-contained cannot carry "
                           "it; make it readable, or do without",
                           mapping->name, status_text(fd));
    status = save_from(files, mapping, fd, frozen, why);
    (void)sys_close(fd);
    return status;
}

/* Files that nothing of this checkpoint needs leave the table. */
static void drop_unneeded(struct saved_files *files)
{
    for (uint32_t i = 0; i < files->count; i++) {
        struct saved_file *file = &files->files[i];

        if (file->path_checksum == 0 || file->checkpoint == files->checkpoint)
            continue;
        note_absent(files, file);
        *file = (struct saved_file){0};
        files->needs_sweep = true;
    }
}

/* All of the area that no file of the table has is cleared. */
static int sweep(struct saved_files *files, struct problem *why)
{
    struct page_set *kept = &files->kept;
    uint64_t page = FILE_AREA_FIRST, stop = 0;
    int status = 0;

    kept->count = 0;
    for (uint32_t i = 0; i < files->count; i++)
        if (files->files[i].path_checksum != 0)
            kept->spans[kept->count++] =
                (struct page_span){files->files[i].first_page,
                                   files->files[i].first_page + file_pages(&files->files[i])};
    page_set_settle(kept);
    for (; status == 0 && page_set_next_outside(kept, &page, INDEX_PAGE_LIMIT, &stop); page = stop)
        status = file_area_clear(files->writer, page, stop, why);
    files->needs_sweep = status != 0;
    return status;
}

int saved_files_mapped(struct saved_files *files, const struct address_space *space, bool frozen,
                       struct problem *why)
{
    int status = 0;

    if (!frozen)
        files->checkpoint++;
    for (uint32_t i = 0; i < space->count && status == 0; i++)
        if (is_of_file(&space->mappings[i]))
            status = save_mapping(files, &space->mappings[i], frozen, why);
    if (!frozen || status != 0)
        return status;
    drop_unneeded(files);
    return files->needs_sweep ? sweep(files, why) : 0;
}

/* --- in an image --- */

uint64_t saved_file_page(const struct image_file *file, const struct record_mapping *mapping)
{
    return file->saved->first_page + mapping->file_offset / PAGE_BYTES;
}

int read_saved_file(struct reading *reading)
{
    const struct record_saved_file *record = record_fixed(&reading->item, sizeof *record);
    struct image_file *file;

    if (record == NULL || record->file >= reading->image->file_count ||
        record->first_page < FILE_AREA_FIRST || record->first_page >= INDEX_PAGE_LIMIT ||
        record->first_page % FILE_PLACE_PAGES != 0)
        return damaged(reading, "impossible saved file");
    file = &reading->image->files[record->file];
    if (file->saved != NULL || !S_ISREG(file->record->mode))
        return damaged(reading, "a file saved twice, or no file");
    file->saved = record;
    return 0;
}
