/*
 * renamed_files.c - files that were renamed since the checkpoint, as logs are when they are
 * rotated: a file that is not under its name any more is looked for, by its inode, in its folder.
 *
 * Always true: what is found is a regular file with the inode and the time of birth that the
 * program's had, in the same folder and so on the same file system. Without that time, nothing: the
 * inode may be another file's by now.
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/process/descriptors.h"
#include "core/process/proc_text.h"

static bool is_file(const char *path, const struct record_description *record)
{
    struct stat stat;

    return sys_call(SYS_newfstatat, AT_FDCWD, path, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
           stat.st_ino == record->inode && S_ISREG(stat.st_mode) &&
           file_birth_ns(path) == record->value;
}

bool find_in_folder(const char *folder, uint64_t inode, char path[PATH_MAX])
{
    char buffer[8192] __attribute__((aligned(8)));
    int fd = sys_open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    bool found = false;
    long bytes;

    if (fd < 0)
        return false;
    while (!found && (bytes = sys_call(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < bytes && !found;) {
            const struct kernel_dirent *entry = (const void *)(buffer + at);

            at += entry->bytes;
            if (entry->inode != inode || strcmp(entry->name, "..") == 0)
                continue;
            format_text(path, PATH_MAX, "%s/%s", folder, entry->name);
            found = true;
        }
    (void)sys_close(fd);
    return found;
}

/* Its present path in the arena, or NULL. */
static const char *find_renamed(const struct image_description *description, struct arena *arena)
{
    const char *last = strrchr(description->path, '/');
    size_t length = (size_t)(last - description->path);
    char folder[PATH_MAX], path[PATH_MAX], *copy;

    if (length >= sizeof folder)
        return NULL;
    memcpy(folder, description->path, length);
    folder[length] = 0;
    if (!find_in_folder(length > 0 ? folder : "/", description->record->inode, path) ||
        !is_file(path, description->record))
        return NULL;
    copy = arena_alloc(arena, strlen(path) + 1, 1);
    if (copy != NULL)
        memcpy(copy, path, strlen(path) + 1);
    return copy;
}

void descriptors_find_renamed(struct process_image *image, struct arena *arena)
{
    for (uint32_t i = 0; i < image->description_count; i++) {
        struct image_description *description = &image->descriptions[i];
        const char *now;

        if (description->record->kind != DESCRIPTION_REGULAR || description->record->value == 0 ||
            is_file(description->path, description->record))
            continue;
        now = find_renamed(description, arena);
        if (now != NULL)
            description->path = now;
    }
}
