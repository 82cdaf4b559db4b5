/*
 * pool_create.c - a new pool file.
 *
 * Always true: when pool_create() returns 0 the file, both its superblocks and its directory
 * entry are durable; when it fails nothing is left. The file gets its name when it is whole, so
 * nobody who looks beside us sees half a pool, and a crash in between leaves no file at all.
 * File systems without nameless files (O_TMPFILE) get a named one from the start: there a crash
 * leaves a file that is no valid pool (empty, or no superblock).
 */
#include "core/pool/pool.h"

#include <errno.h>
#include <string.h>
#include "core/base/format_text.h"
#include "core/base/slot_choice.h"
#include "core/base/sys.h"
#include "core/pool/superblock.h"

#define NEW_POOL_FRAMES 16u /* 64 KiB; the first pages make it grow */
#define PATH_BYTES      4096

/* What is random about a pool. */
struct identity {
    uint8_t uuid[16];
    uint32_t slot_choice;
};

static int draw_identity(struct identity *identity)
{
    long got;

    do
        got = sys_call(SYS_getrandom, identity, sizeof *identity, 0);
    while (got == -EINTR);
    if (got < 0)
        return (int)got;
    return got == sizeof *identity ? 0 : -EIO;
}

static int fill(int fd, uint32_t slot, uint32_t keep)
{
    struct identity identity;
    struct persist persist;
    int status = draw_identity(&identity);

    if (status == 0) /* whatever the umask is */
        status = (int)sys_call(SYS_fchmod, fd, 0600);
    if (status < 0)
        return status;
    if (slot == 0)
        slot = slot_for_process(identity.slot_choice);
    persist_open_file(&persist, fd, 0);
    status = persist_grow(&persist, NEW_POOL_FRAMES * FRAME_BYTES);
    if (status == 0)
        status =
            superblock_format(&persist, identity.uuid, slot, keep, sys_clock_ns(CLOCK_REALTIME));
    if (status == 0)
        status = persist_sync(&persist);
    if (status == 0) /* owner and mode too, which fdatasync may leave for later */
        status = (int)sys_call(SYS_fsync, fd);
    return status;
}

static int directory_of(const char *path, char directory[PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    size_t length = slash == path ? 1 : slash ? (size_t)(slash - path) : 1;

    if (length >= PATH_BYTES)
        return -ENAMETOOLONG;
    memcpy(directory, slash ? path : ".", length);
    directory[length] = 0;
    return 0;
}

int pool_sync_directory(const char *path)
{
    char directory[PATH_BYTES];
    int fd, status = directory_of(path, directory);

    if (status < 0)
        return status;
    fd = sys_open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    status = (int)sys_call(SYS_fsync, fd);
    sys_close(fd);
    return status == -EINVAL ? 0 : status; /* a file system whose directories need no sync */
}

static int explain_create(int status, const char *path, struct problem *why)
{
    if (status == -EEXIST)
        return problem_set(why, status, "cannot make pool '%s': the file exists already", path);
    if (status == -EACCES || status == -EROFS)
        return problem_set(why, status, "cannot make pool '%s': %s; the directory must be writable",
                           path, status_text(status));
    if (status == -ENOENT)
        return problem_set(why, status, "cannot make pool '%s': its directory does not exist",
                           path);
    return problem_set(why, status, "cannot make pool '%s': %s", path, status_text(status));
}

/* A file without a name in path's directory; fails where the file system has none. */
static int open_nameless(const char *path)
{
    char directory[PATH_BYTES];
    int status = directory_of(path, directory);

    return status < 0 ? status : sys_open(directory, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
}

static int give_name(int fd, const char *path)
{
    char link[32];

    format_text(link, sizeof link, "/proc/self/fd/%d", fd);
    return (int)sys_call(SYS_linkat, AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

static int create_nameless(const char *path, uint32_t slot, uint32_t keep)
{
    int fd = open_nameless(path), status = fd;

    if (fd < 0)
        return fd;
    status = fill(fd, slot, keep);
    if (status == 0)
        status = give_name(fd, path);
    sys_close(fd);
    return status;
}

static int create_named(const char *path, uint32_t slot, uint32_t keep)
{
    int fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), status;

    if (fd < 0)
        return fd;
    status = fill(fd, slot, keep);
    sys_close(fd);
    if (status < 0)
        (void)sys_call(SYS_unlinkat, AT_FDCWD, path, 0);
    return status;
}

/* No O_TMPFILE there (EOPNOTSUPP, EISDIR, EINVAL), or no /proc to name it through (ENOENT). */
static bool is_without_nameless(int status)
{
    return status == -EOPNOTSUPP || status == -EISDIR || status == -EINVAL || status == -ENOENT;
}

int pool_create(const char *path, uint32_t slot, uint32_t keep, struct problem *why)
{
    int status;

    if (slot != 0 && !pool_slot_is_valid(slot))
        return problem_set(why, STATUS_USAGE,
                           "slot %u cannot be used: choose one of 1 to 50, but not 10 or 11", slot);
    if (keep < 1 || keep > SUPERBLOCK_KEEP_MAX)
        return problem_set(why, STATUS_USAGE, "cannot keep %u generations: choose 1 to %u", keep,
                           SUPERBLOCK_KEEP_MAX);
    status = create_nameless(path, slot, keep);
    if (is_without_nameless(status))
        status = create_named(path, slot, keep);
    if (status < 0)
        return explain_create(status, path, why);
    status = pool_sync_directory(path);
    if (status == 0)
        return 0;
    (void)sys_call(SYS_unlinkat, AT_FDCWD, path, 0);
    return explain_create(status, path, why);
}
