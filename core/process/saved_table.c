/*
 * saved_table.c - see saved_table.h.
 */
#include "core/process/saved_table.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/sys.h"
#include "core/image/file_area.h"

#define SPANS_MAX 8192u

int saved_files_create(struct saved_files **out, struct arena *arena, struct image_writer *writer,
                       const struct saved_options *options)
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
    files->options = *options;
    files->needs_sweep = true; /* what the generation that was resumed had */
    *out = files;
    return 0;
}

void saved_files_set(struct saved_files *files, const struct saved_options *options)
{
    files->options = *options;
}

/* --- the table --- */

struct saved_file *saved_table_find(const struct saved_files *files, enum saved_kind kind,
                                    const char *path, uint64_t inode)
{
    uint64_t checksum = checksum64(path, strlen(path));

    for (uint32_t i = 0; i < files->count; i++) {
        const struct saved_file *file = &files->files[i];

        if (file->path_checksum == checksum && file->kind == kind &&
            (inode == 0 || file->identity.inode == inode))
            return (struct saved_file *)(uintptr_t)file;
    }
    return NULL;
}

static bool place_is_taken(const struct saved_files *files, uint64_t page)
{
    for (uint32_t i = 0; i < files->count; i++)
        if (files->files[i].kind != SAVED_NOTHING && files->files[i].first_page == page)
            return true;
    return false;
}

/* By what the file is known by: after a restore it is at the same place, and nothing of it is
 * written again. */
static uint64_t choose_place(const struct saved_files *files, enum saved_kind kind,
                             uint64_t path_checksum, uint64_t inode)
{
    const uint64_t key[3] = {kind, path_checksum, inode};
    uint64_t place = checksum64(key, sizeof key) % FILE_PLACES;

    while (place_is_taken(files, file_place_page(place)))
        place = (place + 1) % FILE_PLACES;
    return file_place_page(place);
}

struct saved_file *saved_table_add(struct saved_files *files, enum saved_kind kind,
                                   const char *path, uint64_t inode)
{
    uint64_t checksum = checksum64(path, strlen(path)), page;
    uint32_t at = 0;

    while (at < files->count && files->files[at].kind != SAVED_NOTHING)
        at++;
    if (at == SAVED_FILES_MAX)
        return NULL;
    page = choose_place(files, kind, checksum, inode);
    files->count += at == files->count;
    files->files[at] = (struct saved_file){
        .kind = kind, .path_checksum = checksum, .first_page = page, .identity = {.inode = inode}};
    if (strlen(path) < sizeof files->files[at].path)
        memcpy(files->files[at].path, path, strlen(path) + 1);
    return &files->files[at];
}

void saved_table_begin(struct saved_files *files)
{
    uint64_t losses = file_area_losses(files->writer);

    if (losses != files->losses)
        files->present.count = 0;
    files->losses = losses;
}

/* --- what is there of a file --- */

uint64_t saved_file_pages(const struct saved_file *file)
{
    return (file->identity.size + PAGE_BYTES - 1) / PAGE_BYTES;
}

bool saved_is_present(const struct saved_files *files, struct page_span span)
{
    uint64_t stop;

    return !page_set_next_outside(&files->present, &span.page, span.end, &stop);
}

/* It fits, or nothing is remembered: the next checkpoint reads all of it again. */
static void note_present(struct saved_files *files, struct page_span span)
{
    files->one.spans[0] = span;
    files->one.count = span.page < span.end;
    if (!page_set_join(&files->present, &files->one))
        files->present.count = 0;
}

void saved_note_absent(struct saved_files *files, const struct saved_file *file)
{
    files->one.spans[0] = (struct page_span){file->first_page, file->first_page + FILE_PLACE_PAGES};
    files->one.count = 1;
    if (page_set_subtract(&files->kept, &files->present, &files->one))
        page_set_copy(&files->present, &files->kept);
    else
        files->present.count = 0;
}

int saved_span_from(struct saved_files *files, int fd, uint64_t file_page, struct page_span span,
                    bool frozen, struct problem *why)
{
    uint64_t page = span.page, stop = 0;
    int status = 0;

    for (; status == 0 && page_set_next_outside(&files->present, &page, span.end, &stop);
         page = stop)
        status = file_area_save(files->writer, fd, file_page + (page - span.page), page, stop,
                                frozen, why);
    if (status != 0)
        files->present.count = 0;
    else
        note_present(files, span);
    return status;
}

int saved_span(struct saved_files *files, const struct saved_file *file, int fd,
               struct page_span span, bool frozen, struct problem *why)
{
    return saved_span_from(files, fd, span.page - file->first_page, span, frozen, why);
}

bool saved_is_as_noted(const struct saved_file *file, const struct record_file *now)
{
    return file->identity.size == now->size && file->identity.mtime_ns == now->mtime_ns &&
           file->identity.device == now->device;
}

/* --- the end of a cut --- */

/* Files that nothing of this checkpoint needs leave the table. */
static void drop_unneeded(struct saved_files *files)
{
    for (uint32_t i = 0; i < files->count; i++) {
        struct saved_file *file = &files->files[i];

        if (file->kind == SAVED_NOTHING || file->checkpoint == files->checkpoint)
            continue;
        saved_note_absent(files, file);
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
    for (uint32_t i = 0; i < files->count; i++) {
        const struct saved_file *file = &files->files[i];

        if (file->kind != SAVED_NOTHING)
            kept->spans[kept->count++] =
                (struct page_span){file->first_page, file->first_page + saved_file_pages(file)};
    }
    page_set_settle(kept);
    for (; status == 0 && page_set_next_outside(kept, &page, INDEX_PAGE_LIMIT, &stop); page = stop)
        status = file_area_clear(files->writer, page, stop, why);
    files->needs_sweep = status != 0;
    return status;
}

int saved_files_settle(struct saved_files *files, struct problem *why)
{
    drop_unneeded(files);
    return files->needs_sweep ? sweep(files, why) : 0;
}
