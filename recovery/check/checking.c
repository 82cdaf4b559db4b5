/*
 * checking.c - the order of the check, and what its steps share.
 */
#include "recovery/check/checking.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "core/base/sys.h"
#include "core/pool/pool.h"

static check_step *const steps[] = {
    check_superblocks, check_generations, check_indexes, check_log,
    check_contents,    check_records,     check_heaps,
};

struct place place_at(uint64_t offset)
{
    return (struct place){.offset = offset};
}

struct place place_of(uint64_t generation, uint64_t offset, uint64_t address)
{
    return (struct place){offset, generation, address};
}

void check_tell(struct checking *checking, enum finding_kind kind, enum severity severity,
                struct place place, const char *expected, const char *found, ...)
{
    struct finding finding = {.kind = kind, .severity = severity, .place = place};
    va_list args;

    snprintf(finding.expected, sizeof finding.expected, "%s", expected);
    va_start(args, found);
    vsnprintf(finding.found, sizeof finding.found, found, args);
    va_end(args);
    pthread_mutex_lock(&checking->lock);
    if (severity > checking->result->worst)
        checking->result->worst = severity;
    if (checking->result->counts[kind]++ < FINDING_TELL_MAX)
        checking->request->found(checking->request->context, &finding);
    pthread_mutex_unlock(&checking->lock);
}

void check_spoilt(struct checking *checking, uint32_t index)
{
    __atomic_fetch_or(&checking->result->damaged, 1u << index, __ATOMIC_RELAXED);
}

int check_read(struct checking *checking, void *buffer, uint64_t bytes, uint64_t offset)
{
    int status;

    if (offset > checking->file_bytes || bytes > checking->file_bytes - offset)
        return -EIO;
    status = sys_pread_all(checking->fd, buffer, bytes, offset);
    if (status < 0 && status != -EIO)
        __atomic_store_n(&checking->read_failed, status, __ATOMIC_RELAXED);
    return status;
}

/* --- the file --- */

static int judge_file(struct checking *checking)
{
    const char *path = checking->request->path;
    uint32_t user = (uint32_t)sys_call(SYS_geteuid);
    struct stat info;
    int status = sys_fstat(checking->fd, &info);

    if (status < 0)
        return problem_set(checking->why, status, "cannot examine '%s': %s", path,
                           status_text(status));
    if (!S_ISREG(info.st_mode))
        return problem_set(checking->why, STATUS_NOT_A_POOL,
                           "'%s' is not a pool: it is no regular file; name another path", path);
    if (info.st_uid != user && user != 0)
        return problem_set(checking->why, STATUS_NOT_OWNER,
                           "pool '%s' belongs to user %u, not to you (user %u): only its owner may "
                           "use it",
                           path, info.st_uid, user);
    checking->file_bytes = (uint64_t)info.st_size;
    checking->result->file_bytes = checking->file_bytes;
    return 0;
}

static int open_file(struct checking *checking)
{
    const char *path = checking->request->path;
    int fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);

    if (fd < 0)
        return pool_explain_open(fd, path, POOL_READ, checking->why);
    checking->fd = fd;
    return judge_file(checking);
}

int check_pool(const struct check_request *request, struct check_result *result,
               struct problem *why)
{
    struct checking checking = {.request = request, .result = result, .why = why, .fd = -1};
    int status;

    memset(result, 0, sizeof *result);
    pthread_mutex_init(&checking.lock, NULL);
    status = open_file(&checking);
    for (size_t i = 0; status == 0 && i < sizeof steps / sizeof steps[0]; i++)
        status = steps[i](&checking);
    if (status == 0 && checking.read_failed)
        status = problem_set(why, checking.read_failed, "cannot read '%s': %s", request->path,
                             status_text(checking.read_failed));
    frames_forget_all(&checking);
    if (checking.fd >= 0)
        sys_close(checking.fd); /* the locks go with it */
    pthread_mutex_destroy(&checking.lock);
    return status;
}
