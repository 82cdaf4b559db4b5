/*
 * saved_contents.c - record_saved_content: files that the program has open and writes to in place.
 *
 * Whether a file has changed is told by its size and time of change, which the kernel sets when a
 * write begins. So they are believed only from one freeze to the next, when no write is under way,
 * and only if they are older by MARGIN_NS than the freeze in which the file was read: the kernel's
 * clock for files is a coarse one. Of memory that is mapped shared and writable they tell nothing:
 * such a file is read in every freeze.
 *
 * Always true: what the record names is what the file held while the program stood still.
 */
#include "core/process/saved_contents.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/image/file_area.h"
#include "core/process/descriptors.h"
#include "core/process/mapped_files.h"
#include "core/process/objects.h"
#include "core/process/proc_text.h"
#include "core/process/process_image_reading.h"
#include "core/process/saved_table.h"

#define MARGIN_NS 30000000

static struct page_span whole(const struct saved_file *file)
{
    return (struct page_span){file->first_page, file->first_page + saved_file_pages(file)};
}

static void note(struct saved_files *files, struct saved_file *file, const struct stat *stat)
{
    if ((uint64_t)stat->st_size < file->identity.size)
        files->needs_sweep = true;
    saved_note_absent(files, file);
    file->identity = mapped_file_identity(stat);
}

static bool has_changed(const struct saved_file *file, const struct stat *stat)
{
    struct record_file now = mapped_file_identity(stat);

    return file->read_ns == 0 || !saved_is_as_noted(file, &now) ||
           now.mtime_ns + MARGIN_NS >= file->read_ns;
}

/* --- while the program runs --- */

static int read_ahead(struct saved_files *files, struct saved_file *file, int fd,
                      struct problem *why)
{
    struct stat stat;

    if (sys_fstat(fd, &stat) != 0 || stat.st_ino != file->identity.inode ||
        (uint64_t)stat.st_size > files->options.content_bytes || !has_changed(file, &stat))
        return 0;
    note(files, file, &stat);
    file->read_ns = 0; /* not while it stood still */
    return saved_span(files, file, fd, whole(file), false, why);
}

int saved_contents_begin(struct saved_files *files, struct problem *why)
{
    int status = 0;

    for (uint32_t i = 0; i < files->count && status == 0; i++) {
        struct saved_file *file = &files->files[i];
        int fd = file->kind == SAVED_CONTENT && file->path[0] != 0
                     ? sys_open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0)
                     : -ENOENT;

        if (fd < 0)
            continue;
        status = read_ahead(files, file, fd, why);
        (void)sys_close(fd);
    }
    return status;
}

/* --- inside the freeze --- */

/* What is known of an open file, or of one that is only mapped. */
struct content {
    const char *path;
    const struct stat *stat;
    struct record_saved_content record;
    bool is_mapped;   /* shared and writable: times tell nothing */
    bool is_appended; /* all that write to it stand at its end */
};

static int save_from(struct saved_files *files, const struct content *content, int fd,
                     struct saved_file **out, struct problem *why)
{
    int64_t now_ns = (int64_t)sys_clock_ns(CLOCK_REALTIME);
    struct saved_file *file =
        saved_table_find(files, SAVED_CONTENT, content->path, content->stat->st_ino);
    struct stat stat;
    int status = sys_fstat(fd, &stat);

    if (status != 0 || stat.st_ino != content->stat->st_ino)
        return problem_set(why, STATUS_DEFERRED, "%s changes while it is looked at", content->path);
    if (file == NULL)
        file = saved_table_add(files, SAVED_CONTENT, content->path, stat.st_ino);
    if (file == NULL)
        return problem_set(why, STATUS_LIMIT, "more than %u saved files", SAVED_FILES_MAX);
    *out = file;
    file->checkpoint = files->checkpoint;
    if (!content->is_mapped && !has_changed(file, &stat) && saved_is_present(files, whole(file)))
        return 0;
    note(files, file, &stat);
    file->read_ns = now_ns;
    return saved_span(files, file, fd, whole(file), true, why);
}

static int save(struct capture_run *run, struct content *content)
{
    struct saved_files *files = run->capture->saved;
    struct saved_file *file = NULL;
    int fd = sys_open(content->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0), status;

    if (fd < 0)
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "%s cannot be read (%s), so --files=save cannot save it", content->path,
                           status_text(fd));
    status = save_from(files, content, fd, &file, run->why);
    (void)sys_close(fd);
    if (status != 0)
        return status;
    content->record.first_page = file->first_page;
    content->record.bytes = file->identity.size;
    content->record.mode = file->identity.mode;
    record_put(run->out, RECORD_SAVED_CONTENT, &content->record, sizeof content->record, NULL, 0);
    return 0;
}

/* Larger than the limit: left to what is done without the option where that is enough. */
static int save_if_it_fits(struct capture_run *run, struct content *content)
{
    uint64_t limit = run->capture->saved->options.content_bytes;
    uint64_t bytes = (uint64_t)content->stat->st_size;

    if (limit > FILE_PLACE_PAGES * PAGE_BYTES)
        limit = FILE_PLACE_PAGES * PAGE_BYTES;
    if (bytes <= limit)
        return save(run, content);
    if ((content->record.flags & CONTENT_READ_ONLY) || content->is_appended)
        return 0;
    return problem_set(run->why, STATUS_UNSUPPORTED,
                       "%s, which the program writes to, has %lu bytes, and --files=save saves "
                       "files of up to %lu: give it a larger limit (--files=save:%luM)",
                       content->path, (unsigned long)bytes, (unsigned long)limit,
                       (unsigned long)(bytes >> 20) + 1);
}

static bool writes_to(const struct mapping *mapping, uint64_t inode, const char *path)
{
    return mapping->kind == MAPPING_FILE && mapping->shared && (mapping->prot & PROT_WRITE) &&
           mapping->inode == inode && strcmp(mapping->name, path) == 0;
}

/* Is the file mapped shared and writable by one of the first `count` mappings? */
static bool is_mapped_for_writing(const struct capture_run *run, uint32_t count, uint64_t inode,
                                  const char *path)
{
    for (uint32_t i = 0; i < count; i++)
        if (writes_to(&run->capture->space->mappings[i], inode, path))
            return true;
    return false;
}

static bool may_be_saved(const char *path, mode_t mode)
{
    return S_ISREG(mode) && path[0] == '/' && !text_starts_with(path, "/dev/") &&
           !text_starts_with(path, "/proc/") && !text_starts_with(path, "/sys/");
}

/* The descriptions of one file: from one to the next, RECORD_ID_NONE at the end. */
static uint32_t of_file(const struct descriptor_run *run, uint32_t i, const struct stat *stat)
{
    while (i != RECORD_ID_NONE &&
           (!run->descriptions[i].is_file || run->descriptions[i].stat.st_ino != stat->st_ino ||
            run->descriptions[i].stat.st_dev != stat->st_dev))
        i = run->descriptions[i].next_alike;
    return i;
}

static uint32_t first_of_file(const struct descriptor_run *run, const struct stat *stat)
{
    return of_file(run, run->lists[(stat->st_ino ^ stat->st_dev) & run->list_mask], stat);
}

static uint32_t next_of_file(const struct descriptor_run *run, uint32_t i)
{
    return of_file(run, run->descriptions[i].next_alike, &run->descriptions[i].stat);
}

static bool is_at_end(const struct open_description *description)
{
    return description->offset == (uint64_t)description->stat.st_size;
}

/* How a file's descriptions write to it; a standard stream at its end appends, as O_APPEND does. */
struct writers {
    bool any, in_place;
    bool at_end; /* all that write in place are there */
};

static struct writers writers_of(const struct descriptor_run *run, const struct stat *stat)
{
    struct writers writers = {.at_end = true};

    for (uint32_t i = first_of_file(run, stat); i != RECORD_ID_NONE; i = next_of_file(run, i)) {
        const struct open_description *one = &run->descriptions[i];

        if ((one->open_flags & O_ACCMODE) == O_RDONLY)
            continue;
        writers.any = true;
        if ((one->open_flags & O_APPEND) || (one->standard >= 0 && is_at_end(one)))
            continue;
        writers.in_place = true;
        writers.at_end = writers.at_end && is_at_end(one);
    }
    return writers;
}

static int save_open(struct capture_run *run, uint32_t id)
{
    const struct open_description *one = &run->descriptors->descriptions[id];
    struct content content = {.path = one->link, .stat = &one->stat, .record = {.id = id}};
    struct writers writers;

    if (!one->is_file || !may_be_saved(one->link, one->stat.st_mode) ||
        first_of_file(run->descriptors, &one->stat) != id)
        return 0;
    writers = writers_of(run->descriptors, &one->stat);
    content.is_mapped =
        is_mapped_for_writing(run, run->capture->space->count, one->stat.st_ino, one->link);
    content.is_appended = writers.at_end && !content.is_mapped;
    if (!writers.in_place && !content.is_mapped) {
        if (writers.any || !saved_files_carry(run->capture->saved))
            return 0; /* appended to, so cut back; or only read */
        content.record.flags |= CONTENT_READ_ONLY;
    }
    return save_if_it_fits(run, &content);
}

/* Mapped shared and writable, and no descriptor of it is left: the first mapping of a file saves
 * it.
 */
static int save_mapped(struct capture_run *run, uint32_t index)
{
    const struct mapping *mapping = &run->capture->space->mappings[index];
    struct content content = {.path = mapping->name, .is_mapped = true};
    struct stat stat;
    int status;

    if (!writes_to(mapping, mapping->inode, mapping->name) ||
        object_of_mapping(run, mapping) != RECORD_ID_NONE || sys_stat(mapping->name, &stat) != 0 ||
        !may_be_saved(mapping->name, stat.st_mode) ||
        first_of_file(run->descriptors, &stat) != RECORD_ID_NONE ||
        is_mapped_for_writing(run, index, mapping->inode, mapping->name))
        return 0;
    content.stat = &stat;
    content.record.flags = CONTENT_OF_FILE;
    status = capture_mapped_file(run, mapping->name, mapping->inode, true, &content.record.id);
    return status == 0 ? save_if_it_fits(run, &content) : status;
}

int capture_saved_contents(struct capture_run *run)
{
    const struct saved_files *saved = run->capture->saved;
    int status = 0;

    if (saved == NULL || saved->options.content_bytes == 0)
        return 0;
    for (uint32_t i = 0; i < run->descriptors->count && status == 0; i++)
        status = save_open(run, i);
    for (uint32_t i = 0; i < run->capture->space->count && status == 0; i++)
        status = save_mapped(run, i);
    return status;
}

/* --- in an image --- */

int read_saved_content(struct reading *reading)
{
    struct process_image *image = reading->image;
    const struct record_saved_content *record = record_fixed(&reading->item, sizeof *record);
    bool of_file = record != NULL && (record->flags & CONTENT_OF_FILE);

    if (record == NULL || record->first_page < FILE_AREA_FIRST ||
        record->first_page >= INDEX_PAGE_LIMIT || record->first_page % FILE_PLACE_PAGES != 0 ||
        record->bytes > FILE_PLACE_PAGES * PAGE_BYTES ||
        (record->flags & ~(uint32_t)(CONTENT_OF_FILE | CONTENT_READ_ONLY)) != 0)
        return damaged(reading, "impossible saved content");
    if (of_file ? record->id >= image->file_count || !S_ISREG(image->files[record->id].record->mode)
                : record->id >= image->description_count ||
                      image->descriptions[record->id].record->kind != DESCRIPTION_REGULAR)
        return damaged(reading, "saved content of no file");
    image->contents[image->content_count++] = record;
    return 0;
}

const char *process_image_content_path(const struct process_image *image,
                                       const struct record_saved_content *content)
{
    return content->flags & CONTENT_OF_FILE ? image->files[content->id].path
                                            : image->descriptions[content->id].path;
}

/* Of what file a content is. */
static void identity_of(const struct process_image *image,
                        const struct record_saved_content *content, uint64_t *device,
                        uint64_t *inode)
{
    bool of_file = content->flags & CONTENT_OF_FILE;

    *device = of_file ? image->files[content->id].record->device
                      : image->descriptions[content->id].record->device;
    *inode = of_file ? image->files[content->id].record->inode
                     : image->descriptions[content->id].record->inode;
}

bool process_image_is_content(const struct process_image *image,
                              const struct record_saved_content *content, const struct stat *stat)
{
    uint64_t device, inode, birth_ns = 0;

    identity_of(image, content, &device, &inode);
    if (!(content->flags & CONTENT_OF_FILE))
        birth_ns = image->descriptions[content->id].record->value;
    return S_ISREG(stat->st_mode) && stat->st_ino == inode &&
           (birth_ns == 0 || file_birth_ns(process_image_content_path(image, content)) == birth_ns);
}

const struct record_saved_content *process_image_content(const struct process_image *image,
                                                         uint64_t device, uint64_t inode)
{
    for (uint32_t i = 0; i < image->content_count; i++) {
        uint64_t other_device, other_inode;

        identity_of(image, image->contents[i], &other_device, &other_inode);
        if (other_device == device && other_inode == inode)
            return image->contents[i];
    }
    return NULL;
}
