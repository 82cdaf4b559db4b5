/*
 * pool_create.c - a new pool file.
 *
 * Always true: when pool_create() returns 0 the file, both its superblocks and its directory
 * entry are durable; when it fails after having made the file, the file is gone again. Crash in
 * between: a file that is no valid pool (empty, or no superblock) or a pool without generations.
 */
#include "core/pool/pool.h"

#include <errno.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/pool/superblock.h"

#define NEW_POOL_FRAMES 16u /* 64 KiB; the first pages make it grow */

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

static uint32_t slot_from(uint32_t random)
{
    uint32_t slot = 1 + random % 48; /* 48 of 1..50: 10 and 11 are left out */

    return slot < 10 ? slot : slot + 2;
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
        slot = slot_from(identity.slot_choice);
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

/* Makes path's directory entry durable. */
static int sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char directory[4096] = ".";
    int fd, status;

    if (slash != NULL) {
        size_t length = slash == path ? 1 : (size_t)(slash - path);

        if (length >= sizeof directory)
            return -ENAMETOOLONG;
        memcpy(directory, path, length);
        directory[length] = 0;
    }
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

int pool_create(const char *path, uint32_t slot, uint32_t keep, struct problem *why)
{
    int fd, status;

    if (slot != 0 && !pool_slot_is_valid(slot))
        return problem_set(why, STATUS_USAGE,
                           "slot %u cannot be used: choose one of 1 to 50, but not 10 or 11", slot);
    if (keep < 1 || keep > SUPERBLOCK_KEEP_MAX)
        return problem_set(why, STATUS_USAGE, "cannot keep %u generations: choose 1 to %u", keep,
                           SUPERBLOCK_KEEP_MAX);
    fd = sys_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return explain_create(fd, path, why);
    status = fill(fd, slot, keep);
    if (status == 0)
        status = sync_directory(path);
    sys_close(fd);
    if (status == 0)
        return 0;
    (void)sys_call(SYS_unlinkat, AT_FDCWD, path, 0);
    return explain_create(status, path, why);
}
