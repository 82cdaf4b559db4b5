/*
 * status.c - texts of statuses, and the exit status each leads to. Every status of status.h has a
 * row below; -errno values that pheap meets have one too, because strerror() is libc's and may
 * translate, lock and allocate.
 */
#include "core/base/status.h"

#include <errno.h>
#include <stdarg.h>

#include "core/base/format_text.h"

struct status_row {
    int status;
    int exit;
    const char *text;
};

static const struct status_row rows[] = {
    {STATUS_OK, EXIT_FINE, "fine"},
    {STATUS_NOT_A_POOL, EXIT_REFUSED, "not a pheap pool"},
    {STATUS_DAMAGED, EXIT_DAMAGED, "damaged"},
    {STATUS_NEWER_FORMAT, EXIT_REFUSED, "written by a newer pheap"},
    {STATUS_IN_USE, EXIT_REFUSED, "in use"},
    {STATUS_NOT_OWNER, EXIT_REFUSED, "belongs to another user"},
    {STATUS_NO_GENERATION, EXIT_REFUSED, "no such generation"},
    {STATUS_CHANGED, EXIT_REFUSED, "changed since the checkpoint"},
    {STATUS_UNSUPPORTED, EXIT_REFUSED, "cannot be checkpointed"},
    {STATUS_DEFERRED, EXIT_REFUSED, "not possible at this moment"},
    {STATUS_NOT_PERMITTED, EXIT_REFUSED, "not permitted"},
    {STATUS_USAGE, EXIT_USAGE, "wrong usage"},
    {STATUS_REFUSED, EXIT_REFUSED, "refused"},
    {STATUS_LIMIT, EXIT_REFUSED, "a limit was reached"},
    {STATUS_ENDED, EXIT_REFUSED, "the run has ended"},
    {STATUS_CONFLICT, EXIT_REFUSED, "another transaction was faster"},
    {STATUS_IN_DOUBT, EXIT_REFUSED, "in doubt until another pool is there"},
    {-EPERM, EXIT_SYSTEM, "operation not permitted"},
    {-ENOENT, EXIT_SYSTEM, "no such file or directory"},
    {-ESRCH, EXIT_SYSTEM, "no such process"},
    {-EINTR, EXIT_SYSTEM, "interrupted"},
    {-EIO, EXIT_SYSTEM, "input/output error"},
    {-E2BIG, EXIT_SYSTEM, "too long"},
    {-EBADF, EXIT_SYSTEM, "bad file descriptor"},
    {-EAGAIN, EXIT_SYSTEM, "resource temporarily unavailable"},
    {-ENOMEM, EXIT_SYSTEM, "out of memory"},
    {-EACCES, EXIT_SYSTEM, "permission denied"},
    {-EFAULT, EXIT_SYSTEM, "bad address"},
    {-EBUSY, EXIT_SYSTEM, "device or resource busy"},
    {-EEXIST, EXIT_REFUSED, "exists already"},
    {-ENODEV, EXIT_SYSTEM, "no such device"},
    {-ENOTDIR, EXIT_SYSTEM, "not a directory"},
    {-EISDIR, EXIT_SYSTEM, "is a directory"},
    {-EINVAL, EXIT_SYSTEM, "invalid argument"},
    {-ENFILE, EXIT_SYSTEM, "too many open files in the system"},
    {-EMFILE, EXIT_SYSTEM, "too many open files"},
    {-EFBIG, EXIT_SYSTEM, "file size limit reached"},
    {-ENOSPC, EXIT_SYSTEM, "no space left on device"},
    {-EROFS, EXIT_SYSTEM, "read-only file system"},
    {-EPIPE, EXIT_SYSTEM, "broken pipe"},
    {-ENAMETOOLONG, EXIT_SYSTEM, "file name too long"},
    {-ENOSYS, EXIT_SYSTEM, "not implemented by this kernel"},
    {-ELOOP, EXIT_SYSTEM, "is a symbolic link, or too many of them"},
    {-EOPNOTSUPP, EXIT_SYSTEM, "operation not supported"},
    {-ECONNREFUSED, EXIT_SYSTEM, "connection refused"},
    {-ETIMEDOUT, EXIT_SYSTEM, "timed out"},
    {-EDQUOT, EXIT_SYSTEM, "disk quota exceeded"},
    {-ESTALE, EXIT_SYSTEM, "truncated by another process"},
    {-ENOTTY, EXIT_SYSTEM, "not known to this kernel"},
};

static const struct status_row *find_row(int status)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].status == status)
            return &rows[i];
    return NULL;
}

const char *status_text(int status)
{
    const struct status_row *row = find_row(status);

    return row ? row->text : "unexpected error";
}

int status_exit(int status)
{
    const struct status_row *row = find_row(status);

    return row ? row->exit : EXIT_SYSTEM;
}

int problem_set(struct problem *why, int status, const char *format, ...)
{
    va_list args;

    if (!why)
        return status;
    why->status = status;
    va_start(args, format);
    format_text_v(why->text, sizeof why->text, format, args);
    va_end(args);
    return status;
}
