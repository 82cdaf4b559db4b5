/*
 * put_back.c - files that the program had written to in place (--files=save) get the content that
 * they had at the checkpoint, before the process has them open again.
 *
 * Nothing of a file that is there changes before all of it is known to be possible: first every
 * page that will be written is read from the pool and agrees with its checksum, the room for it is
 * allocated, and files that are gone are made under another name, whole and durable. Then the pages
 * that differ are written, and what was made gets its name.
 *
 * Crash: what is left can be done again, by this restore or another of the same generation: a file
 * is as it was, or has some of the pages already, or is there under its name with all of them; what
 * was made under another name is made anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/file.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/image/file_area.h"
#include "recovery/restore/job.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

struct putting {
    struct restore_job *job;
    const struct record_saved_content *content;
    const char *path;
    int fd;
    bool writes; /* else room is made */
    uint8_t page[PAGE_BYTES], found[PAGE_BYTES];
};

static int fail(const struct putting *putting, int status, const char *doing)
{
    return problem_set(putting->job->why, status, "%s, which is to be as at the checkpoint: %s: %s",
                       putting->path, doing, status_text(status));
}

/* Bytes of the page that are of the file. */
static size_t page_bytes(const struct record_saved_content *content, uint64_t n)
{
    uint64_t left = content->bytes - n * PAGE_BYTES;

    return left < PAGE_BYTES ? (size_t)left : PAGE_BYTES;
}

static int read_saved(struct putting *putting, uint64_t n)
{
    struct restore_job *job = putting->job;
    struct index_entry entry;
    int status = index_lookup(job->put_back.index, putting->content->first_page + n, &entry);

    return status < 0 ? fail(putting, status, "reading the index")
                      : pool_read_page(&job->pool, entry, putting->page, job->why);
}

/* What the file has there; what it has not is zero. */
static int read_found(struct putting *putting, uint64_t n)
{
    ssize_t got = sys_pread(putting->fd, putting->found, PAGE_BYTES, n * PAGE_BYTES);

    if (got < 0)
        return fail(putting, (int)got, "read");
    memset(putting->found + got, 0, PAGE_BYTES - (size_t)got);
    return 0;
}

/* 1: page n of the file is not as it was. */
static int differs(struct putting *putting, uint64_t n)
{
    int status = read_saved(putting, n);

    if (status == 0)
        status = read_found(putting, n);
    return status < 0 ? status
                      : memcmp(putting->page, putting->found, page_bytes(putting->content, n)) != 0;
}

/* Room for a page, or the page. A file system that cannot promise room says so, and takes it when
 * it is written. */
static int put_page(struct putting *putting, uint64_t n)
{
    size_t bytes = page_bytes(putting->content, n);
    int status;

    if (putting->writes) {
        status = sys_pwrite_all(putting->fd, putting->page, bytes, n * PAGE_BYTES);
        return status < 0 ? fail(putting, status, "write") : 0;
    }
    status = (int)sys_call(SYS_fallocate, putting->fd, FALLOC_FL_KEEP_SIZE, n * PAGE_BYTES, bytes);
    return status < 0 && status != -EOPNOTSUPP && status != -ENOSYS
               ? fail(putting, status, "making room")
               : 0;
}

static int put_pages(struct putting *putting)
{
    uint64_t pages = (putting->content->bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    int status = 0;

    for (uint64_t n = 0; n < pages && status == 0; n++) {
        status = differs(putting, n);
        if (status > 0)
            status = put_page(putting, n);
    }
    return status;
}

static int set_size(struct putting *putting)
{
    struct stat stat;
    int status = sys_fstat(putting->fd, &stat);

    if (status == 0 && (uint64_t)stat.st_size != putting->content->bytes)
        status = (int)sys_call(SYS_ftruncate, putting->fd, putting->content->bytes);
    if (status == 0)
        status = (int)sys_call(SYS_fdatasync, putting->fd);
    return status < 0 ? fail(putting, status, "setting its length") : 0;
}

/* --- files that are gone --- */

static int temporary_path(const struct putting *putting, char path[4096])
{
    const uint8_t *uuid = putting->job->pool.super.uuid;
    size_t length = strlen(putting->path);

    if (length + 24 > 4096)
        return fail(putting, -ENAMETOOLONG, "a name beside it");
    format_text(path, 4096, "%s.pheap-%02x%02x%02x%02x", putting->path, uuid[0], uuid[1], uuid[2],
                uuid[3]);
    return 0;
}

/* Whole and durable, under another name. */
static int make(struct putting *putting)
{
    char path[4096];
    int status = temporary_path(putting, path);

    if (status != 0)
        return status;
    putting->fd = sys_open(path, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (putting->fd < 0)
        return fail(putting, putting->fd, "it is gone and cannot be made");
    status = put_pages(putting);
    if (status == 0)
        status = set_size(putting);
    if (status == 0 && sys_call(SYS_fchmod, putting->fd, putting->content->mode & 07777) != 0)
        status = fail(putting, -EPERM, "setting its mode");
    (void)sys_close(putting->fd);
    return status;
}

/* What make() has left; all of them, when one fails. */
static int unmake(struct putting *putting)
{
    char path[4096];

    if (temporary_path(putting, path) == 0)
        (void)sys_call(SYS_unlink, path);
    return 0;
}

static int check_folder(struct putting *putting)
{
    char folder[4096];
    size_t length = (size_t)(strrchr(putting->path, '/') - putting->path);
    int status;

    memcpy(folder, putting->path, length);
    memcpy(folder + length, "/", 2);
    status = (int)sys_call(SYS_faccessat, AT_FDCWD, folder, W_OK | X_OK);
    return status < 0 ? fail(putting, status, "it is gone and cannot be made") : 0;
}

static int give_name(struct putting *putting)
{
    char path[4096];
    int status = temporary_path(putting, path);

    if (status == 0)
        status =
            (int)sys_call(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, putting->path, RENAME_NOREPLACE);
    if (status == -EINVAL) /* a file system without it */
        status = (int)sys_call(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, putting->path, 0);
    return status < 0 ? fail(putting, status, "it is gone and cannot get its name") : 0;
}

/* --- files that are there --- */

/* 1: it has the content already, from end to end. */
static int is_copy(struct putting *putting, const struct stat *stat)
{
    uint64_t pages = (putting->content->bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    int status = 0;

    if (!S_ISREG(stat->st_mode) || (uint64_t)stat->st_size != putting->content->bytes)
        return 0;
    for (uint64_t n = 0; n < pages && status == 0; n++)
        status = differs(putting, n);
    return status < 0 ? status : status == 0;
}

/* 1: somebody else has a lock on the file that the program had. */
static int is_locked(const struct putting *putting, const struct record_file_lock *lock)
{
    struct flock probe = {.l_type = lock->exclusive ? F_WRLCK : F_RDLCK,
                          .l_whence = SEEK_SET,
                          .l_start = (off_t)lock->start,
                          .l_len = (off_t)lock->bytes};
    int status;

    if (lock->kind != LOCK_FLOCK)
        return sys_call(SYS_fcntl, putting->fd, F_OFD_GETLK, &probe) == 0 &&
               probe.l_type != F_UNLCK;
    status = (int)sys_call(SYS_flock, putting->fd, (lock->exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
    if (status == 0)
        (void)sys_call(SYS_flock, putting->fd, LOCK_UN);
    return status == -EAGAIN;
}

static int check_locks(struct putting *putting)
{
    const struct process_image *image = &putting->job->process;

    for (uint32_t i = 0; i < image->lock_count; i++)
        for (uint32_t k = 0; k < image->descriptor_count; k++) {
            const struct record_description *description =
                image->descriptions[image->descriptors[k]->description].record;

            if (image->descriptors[k]->number == image->locks[i]->number &&
                process_image_content(image, description->device, description->inode) ==
                    putting->content &&
                is_locked(putting, image->locks[i]))
                return problem_set(putting->job->why, STATUS_IN_USE,
                                   "%s, which the program had locked, is locked by another process",
                                   putting->path);
        }
    return 0;
}

static int check_present(struct putting *putting)
{
    const struct restore_job *job = putting->job;
    bool reads = putting->content->flags & CONTENT_READ_ONLY;
    struct stat stat;
    int status = sys_fstat(putting->fd, &stat);
    bool is_own;

    if (status != 0)
        return fail(putting, status, "fstat");
    is_own = process_image_is_content(&job->process, putting->content, &stat);
    if (is_own && (reads || !job->keeps_files))
        return reads ? 0 : check_locks(putting);
    status = is_copy(putting, &stat);
    if (status != 0)
        return status < 0 ? status : 0;
    if (is_own)
        return problem_set(job->why, STATUS_REFUSED,
                           "%s has been written to since the checkpoint, and the program that the "
                           "copy is of runs with it: end that program first",
                           putting->path);
    return problem_set(putting->job->why, STATUS_CHANGED,
                       "%s, which the program had open, is now another file; move it away, and it "
                       "is made again from the checkpoint",
                       putting->path);
}

/* --- one after the other --- */

enum step { CHECK, MAKE_ROOM, WRITE, GIVE_UP };

static int put_present(struct putting *putting, enum step step)
{
    int status;

    if (step == CHECK)
        return check_present(putting);
    if ((putting->content->flags & CONTENT_READ_ONLY) || step == GIVE_UP)
        return 0;
    putting->writes = step == WRITE;
    status = put_pages(putting);
    return status == 0 && step == WRITE ? set_size(putting) : status;
}

static int put_absent(struct putting *putting, enum step step)
{
    putting->writes = true;
    switch (step) {
    case CHECK:
        return check_folder(putting);
    case MAKE_ROOM:
        return make(putting);
    case WRITE:
        return give_name(putting);
    default:
        return unmake(putting);
    }
}

static int put_one(struct restore_job *job, const struct record_saved_content *content,
                   enum step step)
{
    struct putting putting = {
        .job = job, .content = content, .path = process_image_content_path(&job->process, content)};
    bool reads = step == CHECK || (content->flags & CONTENT_READ_ONLY);
    int status;

    putting.fd =
        sys_open(putting.path, (reads ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
    if (putting.fd == -ENOENT)
        return put_absent(&putting, step);
    if (putting.fd < 0)
        return fail(&putting, putting.fd, "open");
    status = put_present(&putting, step);
    (void)sys_close(putting.fd);
    return status;
}

static int put_all(struct restore_job *job, enum step step)
{
    int status = 0;

    for (uint32_t i = 0; i < job->process.content_count && status == 0; i++)
        status = put_one(job, job->process.contents[i], step);
    return status;
}

int put_back_check(struct restore_job *job)
{
    if (job->process.content_count == 0)
        return 0;
    if (image_open(&job->put_back, &job->pool, &job->generation, &job->arena, job->why) != 0)
        return job->why->status;
    return put_all(job, CHECK);
}

int put_back(struct restore_job *job)
{
    int status = put_all(job, MAKE_ROOM);

    if (status == 0)
        return put_all(job, WRITE);
    (void)put_all(job, GIVE_UP);
    return status;
}
