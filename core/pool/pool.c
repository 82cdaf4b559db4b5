/*
 * pool.c - a pool opened, locked and read.
 *
 * What must always be true: of a file that is opened nothing is used before it has been judged
 * (regular file, owner, superblock), and nothing is followed to a place that the file does not
 * have. A writer holds the OFD lock on LOCK_BYTE_WRITER from before it reads the superblocks
 * until it closes the pool; so it is the only one.
 */
#include "core/pool/pool.h"

#include <errno.h>
#include <string.h>
#include "core/base/checksum.h"
#include "core/base/format_text.h"
#include "core/base/slot_choice.h"
#include "core/base/sys.h"
#include "core/pool/pool_lock.h"
#include "core/pool/superblock.h"

/* A reader may meet a superblock in the middle of its writing: look again before believing it. */
#define READ_ATTEMPTS 3

bool pool_slot_is_valid(uint32_t slot)
{
    return slot_can_be_chosen(slot);
}

/* path made absolute; -ENAMETOOLONG. */
static int absolute_path(char *out, size_t size, const char *path)
{
    size_t used = 0;

    if (path[0] != '/') {
        long length = sys_call(SYS_getcwd, out, size);

        if (length < 0)
            return (int)length;
        used = (size_t)length - 1; /* the kernel counts the NUL */
        if (used + 1 < size && out[used - 1] != '/')
            out[used++] = '/';
    }
    if (used + strlen(path) + 1 > size)
        return -ENAMETOOLONG;
    memcpy(out + used, path, strlen(path) + 1);
    return 0;
}

int pool_explain_open(int status, const char *path, enum pool_mode mode, struct problem *why)
{
    struct stat info;

    if (status == -ENOENT)
        return problem_set(why, status, "no pool '%s': %s", path, status_text(status));
    if (status == -EACCES && sys_stat(path, &info) == 0 &&
        info.st_uid != (uid_t)sys_call(SYS_geteuid))
        return problem_set(why, STATUS_NOT_OWNER,
                           "pool '%s' belongs to user %u: only that user may use it", path,
                           info.st_uid);
    if (status == -EROFS || status == -EACCES)
        return problem_set(why, status,
                           "cannot open pool '%s' for %s: %s; give the file mode 0600, a "
                           "writable file system, and directories that may be searched",
                           path, mode == POOL_WRITE ? "writing" : "reading", status_text(status));
    if (status == -ELOOP)
        return problem_set(why, status,
                           "cannot open pool '%s': it is a symbolic link; name the file it "
                           "points to",
                           path);
    return problem_set(why, status, "cannot open pool '%s': %s", path, status_text(status));
}

static int open_file(struct pool *pool, struct problem *why)
{
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY; /* a FIFO must not hold us up */
    int fd;

    flags |= pool->mode == POOL_WRITE ? O_RDWR | O_NOFOLLOW : O_RDONLY;
    fd = sys_open(pool->path, flags, 0);
    if (fd == -EISDIR)
        return problem_set(why, STATUS_NOT_A_POOL,
                           "'%s' is a directory: name a file in it as the pool", pool->path);
    if (fd < 0)
        return pool_explain_open(fd, pool->path, pool->mode, why);
    pool->fd = fd;
    return 0;
}

static int check_file(struct pool *pool, struct problem *why)
{
    uint32_t user = (uint32_t)sys_call(SYS_geteuid);
    struct stat info;
    int status = sys_fstat(pool->fd, &info);

    if (status < 0)
        return problem_set(why, status, "cannot examine pool '%s': %s", pool->path,
                           status_text(status));
    if (!S_ISREG(info.st_mode))
        return problem_set(why, STATUS_NOT_A_POOL,
                           "'%s' is not a pool: it is no regular file; name another path",
                           pool->path);
    if (info.st_uid != user && (user != 0 || pool->mode == POOL_WRITE))
        return problem_set(why, STATUS_NOT_OWNER,
                           "pool '%s' belongs to user %u, not to you (user %u): only its owner "
                           "may use it",
                           pool->path, info.st_uid, user);
    return 0;
}

/* After the superblocks have been read, so that the file is at least as long as what they list: it
 * only grows while somebody else writes it. */
static int measure_file(struct pool *pool, struct problem *why)
{
    struct stat info;
    int status = sys_fstat(pool->fd, &info);

    if (status < 0)
        return problem_set(why, status, "cannot examine pool '%s': %s", pool->path,
                           status_text(status));
    pool->file_frames = (uint64_t)info.st_size >> FRAME_SHIFT;
    return 0;
}

static int read_superblocks(struct pool *pool, struct problem *why)
{
    struct superblock_choice choice;
    int attempts = pool->mode == POOL_READ ? READ_ATTEMPTS : 1;
    int status;

    do
        status = superblock_read_pair(pool->fd, pool->path, &choice, why);
    while (--attempts > 0 && (status == STATUS_DAMAGED || (status == 0 && choice.fell_back)));
    if (status < 0)
        return status;
    pool->super = choice.newest;
    pool->super_fell_back = choice.fell_back;
    pool->previous = choice.previous;
    return 0;
}

static int prepare_writing(struct pool *pool, struct problem *why)
{
    int status = persist_sync(&pool->persist);

    if (status < 0)
        return problem_set(why, status, "cannot make pool '%s' durable: %s", pool->path,
                           status_text(status));
    return 0;
}

int pool_open(struct pool *pool, const char *path, enum pool_mode mode, struct problem *why)
{
    int status;

    memset(pool, 0, sizeof *pool);
    pool->fd = -1;
    pool->mode = mode;
    status = absolute_path(pool->path, sizeof pool->path, path);
    if (status < 0)
        return problem_set(why, status, "cannot open pool '%s': %s", path, status_text(status));
    status = open_file(pool, why);
    if (status == 0)
        status = check_file(pool, why);
    if (status == 0 && mode == POOL_WRITE)
        status = pool_lock_writer(pool, why);
    if (status == 0)
        status = read_superblocks(pool, why);
    if (status == 0)
        status = measure_file(pool, why);
    if (status == 0) {
        persist_open_file(&pool->persist, pool->fd, pool->file_frames << FRAME_SHIFT);
        if (mode == POOL_WRITE)
            status = prepare_writing(pool, why);
    }
    if (status < 0)
        pool_close(pool);
    return status;
}

void pool_close(struct pool *pool)
{
    persist_close(&pool->persist);
    if (pool->fd >= 0)
        sys_close(pool->fd);
    pool->fd = -1;
    pool->frames = NULL;
    pool->index = NULL;
}

const struct generation_entry *pool_generation(const struct pool *pool, uint64_t number)
{
    const struct superblock *super = &pool->super;

    if (number == 0 && super->generation_count > 0)
        return &super->generations[super->generation_count - 1];
    for (uint32_t i = 0; number > 0 && i < super->generation_count; i++)
        if (super->generations[i].number == number)
            return &super->generations[i];
    return NULL;
}

/* Why reading at offset failed; a short file is damage, not a failure of the device. */
static int explain_read(const struct pool *pool, int status, const char *what, uint64_t offset,
                        uint64_t bytes, struct problem *why)
{
    struct stat info;

    if (status == -EIO && sys_fstat(pool->fd, &info) == 0 &&
        (uint64_t)info.st_size < offset + bytes)
        return problem_set(why, STATUS_DAMAGED,
                           "pool '%s' is cut short: %s at offset %lu reaches beyond its end (%lu "
                           "bytes); try an older generation",
                           pool->path, what, offset, (uint64_t)info.st_size);
    return problem_set(why, status, "cannot read %s at offset %lu of pool '%s': %s", what, offset,
                       pool->path, status_text(status));
}

static int explain_checksum(const struct pool *pool, const char *what, uint64_t offset,
                            uint64_t expected, uint64_t found, struct problem *why)
{
    return problem_set(why, STATUS_DAMAGED,
                       "pool '%s' is damaged: %s at offset %lu has checksum %016lx, expected "
                       "%016lx; try an older generation",
                       pool->path, what, offset, found, expected);
}

int pool_read_record(const struct pool *pool, const struct generation_entry *entry, void *buffer,
                     struct problem *why)
{
    uint64_t offset = entry->record_frame << FRAME_SHIFT, found;
    int status;

    if (entry->record_bytes == 0)
        return 0;
    status = sys_pread_all(pool->fd, buffer, entry->record_bytes, offset);
    if (status < 0)
        return explain_read(pool, status, "the record", offset, entry->record_bytes, why);
    found = checksum64(buffer, entry->record_bytes);
    if (found != entry->record_checksum)
        return explain_checksum(pool, "the record", offset, entry->record_checksum, found, why);
    return 0;
}

int pool_read_page(const struct pool *pool, struct index_entry entry, void *page,
                   struct problem *why)
{
    uint64_t offset = entry.frame << FRAME_SHIFT, found;
    int status;

    if (entry.frame < FRAME_FIRST) {
        memset(page, 0, FRAME_BYTES);
        return 0;
    }
    if (entry.frame >= 1ull << (63 - FRAME_SHIFT))
        return problem_set(why, STATUS_DAMAGED,
                           "pool '%s' is damaged: an index names frame %lu, which no file has",
                           pool->path, entry.frame);
    status = sys_pread_all(pool->fd, page, FRAME_BYTES, offset);
    if (status < 0)
        return explain_read(pool, status, "a page", offset, FRAME_BYTES, why);
    found = checksum64(page, FRAME_BYTES);
    if (found != entry.checksum)
        return explain_checksum(pool, "a page", offset, entry.checksum, found, why);
    return 0;
}

bool pool_is_valid(const struct pool *pool)
{
    return superblock_is_valid(&pool->super) &&
           (pool->frames == NULL || frames_are_valid(pool->frames));
}
