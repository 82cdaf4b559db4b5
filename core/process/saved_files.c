/*
 * saved_files.c - record_saved_file: what a generation has of the files that the program maps.
 *
 * Always true: what is read are files, not memory: a page of a private mapping that the program has
 * written to is memory's, and the file's own content is what it falls back to (MADV_DONTNEED).
 */
#include "core/process/saved_files.h"

#include <errno.h>
#include "core/base/sys.h"
#include "core/image/file_area.h"
#include "core/process/mapped_files.h"
#include "core/process/proc_text.h"
#include "core/process/process_image_reading.h"
#include "core/process/saved_contents.h"
#include "core/process/saved_table.h"
#include "core/process/vdso.h"

bool saved_files_carry(const struct saved_files *files)
{
    return files != NULL && files->options.mapped;
}

static struct saved_file *find(const struct saved_files *files, const struct mapping *mapping)
{
    return saved_table_find(files, SAVED_MAPPED, mapping->name, mapping->inode);
}

const struct saved_file *saved_files_find(const struct saved_files *files, const char *path,
                                          uint64_t inode)
{
    return saved_table_find(files, SAVED_MAPPED, path, inode);
}

/* The pages of the area that a mapping shows, as far as its file goes. */
static struct page_span mapped_span(const struct saved_file *file, const struct mapping *mapping)
{
    uint64_t first = mapping->file_offset / PAGE_BYTES;
    uint64_t end = first + (mapping->end - mapping->start) / PAGE_BYTES;
    uint64_t pages = saved_file_pages(file);

    first = first < pages ? first : pages;
    end = end < pages ? end : pages;
    return (struct page_span){file->first_page + first, file->first_page + end};
}

bool saved_files_cover(const struct saved_files *files, const struct mapping *mapping)
{
    const struct saved_file *file = files != NULL ? find(files, mapping) : NULL;

    return file != NULL && saved_is_present(files, mapped_span(file, mapping));
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
    if (!saved_is_as_noted(file, &now)) {
        saved_note_absent(files, file);
        files->needs_sweep = true; /* it may have become shorter */
    }
    file->identity = now;
    file->looked_at = files->checkpoint;
    return 0;
}

/* With the file open: is it the one that is mapped, and what of it is missing? */
static int save_from(struct saved_files *files, const struct mapping *mapping, int fd, bool frozen,
                     struct problem *why)
{
    struct saved_file *file = find(files, mapping);
    struct stat stat;
    int status = sys_fstat(fd, &stat);

    if (status != 0 || stat.st_ino != mapping->inode || !S_ISREG(stat.st_mode))
        return 0;
    if (file == NULL)
        file = saved_table_add(files, SAVED_MAPPED, mapping->name, mapping->inode);
    if (file == NULL)
        return problem_set(why, STATUS_LIMIT, "more than %u mapped files", SAVED_FILES_MAX);
    status = look_at(files, file, mapping->name, &stat, why);
    if (status != 0)
        return status;
    file->checkpoint = files->checkpoint;
    return saved_span(files, file, fd, mapped_span(file, mapping), frozen, why);
}

/* Nothing to do: the file was looked at for this checkpoint and has all, or it is gone. */
static bool is_done(struct saved_files *files, const struct mapping *mapping)
{
    struct saved_file *file = find(files, mapping);

    if (file == NULL)
        return mapping->deleted;
    if (!mapping->deleted && file->looked_at != files->checkpoint)
        return false;
    file->checkpoint = files->checkpoint;
    return mapping->deleted || saved_is_present(files, mapped_span(file, mapping));
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

static int save_mapped(struct saved_files *files, const struct address_space *space, bool frozen,
                       struct problem *why)
{
    int status = 0;

    saved_table_begin(files);
    for (uint32_t i = 0; files->options.mapped && i < space->count && status == 0; i++)
        if (is_of_file(&space->mappings[i]))
            status = save_mapping(files, &space->mappings[i], frozen, why);
    return status;
}

int saved_files_begin(struct saved_files *files, const struct address_space *space,
                      struct problem *why)
{
    int status;

    files->checkpoint++;
    status = save_mapped(files, space, false, why);
    return status == 0 ? saved_contents_begin(files, why) : status;
}

int saved_files_mapped(struct saved_files *files, const struct address_space *space,
                       struct problem *why)
{
    return save_mapped(files, space, true, why);
}

/* The place of what lies there now, with a size that says how long it is. */
static struct saved_file *place_of_vdso(struct saved_files *files, uintptr_t start, uintptr_t end)
{
    struct saved_file *file = saved_table_find(files, SAVED_VDSO, "[vdso]", start);

    if (file == NULL)
        file = saved_table_add(files, SAVED_VDSO, "[vdso]", start);
    if (file != NULL) {
        file->identity.size = end - start;
        file->checkpoint = files->checkpoint;
    }
    return file;
}

int saved_files_vdso(struct saved_files *files, uintptr_t start, uintptr_t end,
                     uint64_t *first_page, struct problem *why)
{
    struct saved_file *file = place_of_vdso(files, start, end);
    struct page_span span;
    int fd, status;

    if (file == NULL)
        return problem_set(why, STATUS_LIMIT, "more than %u mapped files", SAVED_FILES_MAX);
    *first_page = file->first_page;
    span = (struct page_span){file->first_page, file->first_page + saved_file_pages(file)};
    if (saved_is_present(files, span))
        return 0;
    fd = sys_open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return problem_set(why, fd, "/proc/self/mem: %s", status_text(fd));
    status = saved_span_from(files, fd, start / PAGE_BYTES, span, true, why);
    (void)sys_close(fd);
    return status;
}

/* --- in an image --- */

int read_saved_vdso(struct reading *reading)
{
    const struct record_saved_vdso *record = record_fixed(&reading->item, sizeof *record);

    if (record == NULL || reading->image->vdso != NULL || record->first_page < FILE_AREA_FIRST ||
        record->first_page >= INDEX_PAGE_LIMIT || record->first_page % FILE_PLACE_PAGES != 0 ||
        record->bytes == 0 || record->bytes > VDSO_BYTES_MAX || record->bytes % PAGE_BYTES != 0)
        return damaged(reading, "impossible vdso");
    reading->image->vdso = record;
    return 0;
}

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
