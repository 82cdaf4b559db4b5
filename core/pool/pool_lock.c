/*
 * pool_lock.c - see pool_lock.h.
 *
 * Always true: a reader that holds a generation's lock, and found the generation listed after it
 * had got the lock, keeps all its frames; the lock goes with the last descriptor or mapping of
 * its own open file description, whatever happens to the process.
 */
#include "core/pool/pool_lock.h"

#include <errno.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/pool/superblock.h"

/* 0, -EAGAIN (somebody holds a lock in the way), or another -errno. */
static int set_lock(int fd, short type, int64_t byte)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int status = (int)sys_call(SYS_fcntl, fd, F_OFD_SETLK, &lock);

    return status == -EACCES ? -EAGAIN : status;
}

int pool_lock_writer(struct pool *pool, struct problem *why)
{
    int status = set_lock(pool->fd, F_WRLCK, LOCK_BYTE_WRITER);

    if (status == -EAGAIN)
        return problem_set(why, STATUS_IN_USE,
                           "pool '%s' is in use by a running program: wait for its end, or end it "
                           "first",
                           pool->path);
    if (status < 0)
        return problem_set(why, status,
                           "cannot lock pool '%s': %s; a pool needs a file system with locks",
                           pool->path, status_text(status));
    return 0;
}

bool pool_is_written(const struct pool *pool)
{
    struct flock lock = {
        .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTE_WRITER, .l_len = 1};
    int status = (int)sys_call(SYS_fcntl, pool->fd, F_OFD_GETLK, &lock);

    return status < 0 || lock.l_type != F_UNLCK;
}

bool pool_begin_drop(const struct pool *pool, uint64_t number)
{
    return set_lock(pool->fd, F_WRLCK, LOCK_BYTE_GENERATION + (int64_t)number) == 0;
}

void pool_end_drop(const struct pool *pool, uint64_t number)
{
    (void)set_lock(pool->fd, F_UNLCK, LOCK_BYTE_GENERATION + (int64_t)number);
}

/* The same file once more, with an open file description of its own. */
static int reopen(const struct pool *pool)
{
    char link[64];
    struct stat ours, theirs;
    int fd;

    format_text(link, sizeof link, "/proc/self/fd/%d", pool->fd);
    fd = sys_open(link, O_RDONLY | O_CLOEXEC, 0);
    if (fd >= 0)
        return fd;
    fd = sys_open(pool->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0); /* no /proc here */
    if (fd < 0)
        return fd;
    if (sys_fstat(pool->fd, &ours) == 0 && sys_fstat(fd, &theirs) == 0 &&
        ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
        return fd;
    sys_close(fd);
    return -ENOENT;
}

static bool still_listed(const struct pool *pool, uint64_t number, struct problem *why)
{
    struct superblock_choice choice;

    if (superblock_read_pair(pool->fd, pool->path, &choice, why) < 0)
        return false;
    for (uint32_t i = 0; i < choice.newest.generation_count; i++)
        if (choice.newest.generations[i].number == number)
            return true;
    return false;
}

int pool_lock_generation(const struct pool *pool, uint64_t number, struct problem *why)
{
    int fd = reopen(pool);
    int status;

    if (fd < 0)
        return problem_set(why, fd, "cannot open pool '%s' again to lock generation %lu: %s",
                           pool->path, number, status_text(fd));
    status = set_lock(fd, F_RDLCK, LOCK_BYTE_GENERATION + (int64_t)number);
    if (status == -EAGAIN || (status == 0 && !still_listed(pool, number, why)))
        status = problem_set(why, STATUS_NO_GENERATION,
                             "generation %lu of pool '%s' has been dropped: its program goes on "
                             "and keeps the newest ones only; try again, or name a newer one",
                             number, pool->path);
    else if (status < 0)
        problem_set(why, status, "cannot lock generation %lu of pool '%s': %s", number, pool->path,
                    status_text(status));
    if (status < 0) {
        sys_close(fd);
        return status;
    }
    return fd;
}
