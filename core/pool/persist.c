/*
 * persist.c - the back end for ordinary files, and what all back ends have in common: counting,
 * and "failed stays failed".
 *
 * Always true: after the first failed sync nothing is written or synced any more (the kernel
 * drops the dirty pages of a failed write-back and reports the loss once, so a later success
 * would mean nothing). Space is reserved before it is written to. A file that somebody has cut
 * short is not written to either: it would grow again, with a hole where the frames were.
 */
#include "core/pool/persist.h"

#include <errno.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"

#define WRITE_BYTES_MAX 16384u /* in one call */

/*
 * -1 where it is not told, or of no regular file. statx, asked for these two alone: fstat asks for
 * the times too, and where those are fine-grained (Linux 6.13) the next write then gives the inode
 * a new one, which fdatasync writes with the data: 40 us of 130.
 */
static int64_t length_of(int fd)
{
    struct statx info;
    struct stat all;
    long status = sys_call(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_SIZE, &info);

    if (status == 0)
        return S_ISREG(info.stx_mode) ? (int64_t)info.stx_size : -1;
    return sys_fstat(fd, &all) == 0 && S_ISREG(all.st_mode) ? (int64_t)all.st_size : -1;
}

/* The back end stays failed: what was cut off is gone. Where the length is not told, that is no
 * reason to write nothing. */
static int check_length(struct persist *persist)
{
    int64_t length = length_of(persist->fd);

    if (length < 0 || (uint64_t)length >= persist->file_bytes)
        return 0;
    persist->failed = -ESTALE;
    return -ESTALE;
}

/*
 * The kernel keeps what one call writes in folios as large as the call, up to 2 MiB (ext4 since
 * Linux 6.16), and looks at each 4 KiB of a folio whenever one of them is written, written back, or
 * was. Pages that are written one by one later would cost 30 us each, where in small folios they
 * take 2.
 */
static int file_write(struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    int status = check_length(persist);

    for (size_t done = 0, piece; status == 0 && done < bytes; done += piece) {
        piece = bytes - done < WRITE_BYTES_MAX ? bytes - done : WRITE_BYTES_MAX;
        status = sys_pwrite_all(persist->fd, at + done, piece, offset + done);
    }
    return status;
}

static int file_sync(struct persist *persist)
{
    int status;

    persist->file_syncs++;
    do
        status = (int)sys_call(SYS_fdatasync, persist->fd);
    while (status == -EINTR);
    return status < 0 ? status : check_length(persist);
}

/* On file systems without fallocate zeroes reserve space as well, only slower. */
int persist_file_fill(struct persist *persist, uint64_t file_bytes)
{
    static const uint8_t zeroes[16384];
    uint64_t offset = persist->file_bytes;
    int status = 0;

    while (status == 0 && offset < file_bytes) {
        uint64_t left = file_bytes - offset;
        size_t piece = left < sizeof zeroes ? (size_t)left : sizeof zeroes;

        status = sys_pwrite_all(persist->fd, zeroes, piece, offset);
        offset += piece;
    }
    return status;
}

static int file_grow(struct persist *persist, uint64_t file_bytes)
{
    int status;

    do
        status = (int)sys_call(SYS_fallocate, persist->fd, 0, persist->file_bytes,
                               file_bytes - persist->file_bytes);
    while (status == -EINTR);
    if (status == -EOPNOTSUPP || status == -ENOSYS)
        status = persist_file_fill(persist, file_bytes);
    if (status < 0) /* some file systems keep the part that did fit */
        (void)sys_call(SYS_ftruncate, persist->fd, persist->file_bytes);
    return status;
}

/* Where there is no fallocate there are no holes either. */
static int file_reserve(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    int status;

    do
        status = (int)sys_call(SYS_fallocate, persist->fd, FALLOC_FL_KEEP_SIZE, offset, bytes);
    while (status == -EINTR);
    return status == -EOPNOTSUPP || status == -ENOSYS ? 0 : status;
}

static int file_punch(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    int status;

    do
        status = (int)sys_call(SYS_fallocate, persist->fd,
                               FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    while (status == -EINTR);
    return status;
}

const struct persist_ops persist_file_ops = {
    .name = "file",
    .write = file_write,
    .sync = file_sync,
    .grow = file_grow,
    .reserve = file_reserve,
    .punch = file_punch,
};

void persist_open_file(struct persist *persist, int fd, uint64_t file_bytes)
{
    *persist = (struct persist){.ops = &persist_file_ops, .fd = fd, .file_bytes = file_bytes};
}

int persist_share(struct persist *out, const struct persist *first)
{
    char link[32];

    format_text(link, sizeof link, "/proc/self/fd/%d", first->fd);
    *out = *first;
    out->bytes_written = out->syncs = out->file_syncs = 0;
    out->fd = sys_open(link, O_RDWR | O_CLOEXEC, 0);
    return out->fd < 0 ? out->fd : 0;
}

void persist_unshare(struct persist *second)
{
    if (second->ops && second->fd >= 0)
        sys_close(second->fd);
    *second = (struct persist){.fd = -1};
}

int persist_write(struct persist *persist, uint64_t offset, const void *data, size_t bytes)
{
    int status;

    if (persist->failed)
        return persist->failed;
    if (offset > persist->file_bytes || bytes > persist->file_bytes - offset)
        return -EINVAL; /* no space was reserved there: persist_grow() was forgotten */
    status = persist->ops->write(persist, offset, data, bytes);
    if (status == 0)
        persist->bytes_written += bytes;
    return status;
}

int persist_sync(struct persist *persist)
{
    int status;

    if (persist->failed)
        return persist->failed;
    persist->syncs++;
    status = persist->ops->sync(persist);
    if (status < 0)
        persist->failed = status;
    return status;
}

int persist_grow(struct persist *persist, uint64_t file_bytes)
{
    int status;

    if (persist->failed)
        return persist->failed;
    if (file_bytes <= persist->file_bytes)
        return 0;
    status = persist->ops->grow(persist, file_bytes);
    if (status == 0)
        persist->file_bytes = file_bytes;
    return status;
}

int persist_reserve(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    return persist->failed ? persist->failed : persist->ops->reserve(persist, offset, bytes);
}

int persist_punch(struct persist *persist, uint64_t offset, uint64_t bytes)
{
    return persist->failed ? persist->failed : persist->ops->punch(persist, offset, bytes);
}

bool persist_is_sparse(const struct persist *persist)
{
    struct stat info;

    return sys_fstat(persist->fd, &info) < 0 ||
           (uint64_t)info.st_blocks * 512 < persist->file_bytes;
}
