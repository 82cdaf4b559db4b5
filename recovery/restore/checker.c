/*
 * checker.c - a process of its own that verifies the contents to be read in and counts the resume
 * in the superblock, durably, while the new process is built: neither is waited for more than
 * it must be.
 *
 * Always true: nothing outside is touched and nothing is let go before checker_wait() has returned
 * 0. The lock on the pool is the restorer's, shared with the checker by fork, so the pool has one
 * writer. A checker that dies (a file that shrinks under it: SIGBUS) is told from one that is
 * done by the mark in the shared page.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include "core/base/sys.h"
#include "recovery/restore/job.h"

struct check_result {
    int done;
    struct problem why;
};

_Static_assert(sizeof(struct check_result) <= PAGE_BYTES, "one shared page");

static void count_resume(struct superblock *super, void *context)
{
    resume_count(super, *(const uint64_t *)context);
}

static __attribute__((noreturn)) void checker_main(struct restore_job *job)
{
    struct check_result *result = job->check;
    int status;

    (void)sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    job->why = &result->why;
    status = contents_verify(job);
    if (status == 0)
        status = pool_update(&job->pool, count_resume, &job->generation.number, job->why);
    result->why.status = status;
    __atomic_store_n(&result->done, 1, __ATOMIC_SEQ_CST);
    (void)sys_call(SYS_exit_group, 0);
    __builtin_unreachable();
}

int checker_start(struct restore_job *job)
{
    int fds[2], status = (int)sys_call(SYS_pipe2, fds, O_CLOEXEC);
    void *page =
        sys_mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long pid;

    if (status == 0 && sys_failed((long)page))
        status = (int)(long)page;
    if (status < 0)
        return problem_set(job->why, status, "starting the checker: %s", status_text(status));
    job->check = page;
    pid = sys_call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        checker_main(job);
    (void)sys_close(fds[1]);
    job->check_fd = fds[0];
    return pid > 0 ? 0 : problem_set(job->why, (int)pid, "fork: %s", status_text((int)pid));
}

int checker_wait(struct restore_job *job)
{
    struct check_result *result = job->check;
    char byte;

    while (sys_read(job->check_fd, &byte, 1) == -EINTR)
        ;
    if (!__atomic_load_n(&result->done, __ATOMIC_SEQ_CST))
        return problem_set(job->why, STATUS_DAMAGED,
                           "%s: its contents cannot be read; is the file cut short?",
                           job->pool.path);
    if (result->why.status != 0 && job->why != NULL)
        *job->why = result->why;
    return result->why.status;
}

void checker_end(struct restore_job *job)
{
    if (job->check_fd >= 0)
        (void)sys_close(job->check_fd);
    if (job->check != NULL)
        (void)sys_munmap(job->check, PAGE_BYTES);
}
