/*
 * resume_counter.c - a process of its own that counts the resume in the superblock, durably, while
 * the new process is built: the disk is not waited for more than it must be. It begins when it is
 * told that there is something to resume; it is made before, when its pid cannot be one that the
 * new process is about to take.
 *
 * Always true: nothing outside is touched and nothing is let go before resume_counter_wait() has
 * returned 0. The lock on the pool is the restorer's, shared with the counter by fork, so the pool
 * has one writer. A counter that was killed is told from one that is done by the mark in the shared
 * page.
 */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/prctl.h>
#include "core/base/sys.h"
#include "recovery/restore/job.h"

enum { UNDECIDED = 0, COUNT = 1, CANCEL = 2 };

struct count_result {
    int decision; /* futex */
    int done;
    struct problem why;
};

_Static_assert(sizeof(struct count_result) <= PAGE_BYTES, "one shared page");

static void count_resume(struct superblock *super, void *context)
{
    resume_count(super, *(const uint64_t *)context);
}

static void decide(struct count_result *result, int decision)
{
    int undecided = UNDECIDED;

    (void)__atomic_compare_exchange_n(&result->decision, &undecided, decision, false,
                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    (void)sys_call(SYS_futex, &result->decision, FUTEX_WAKE, 1, 0, 0, 0);
}

static __attribute__((noreturn)) void resume_counter_main(struct restore_job *job, int restorer)
{
    struct count_result *result = job->count;
    int status;

    (void)sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (sys_call(SYS_getppid) != restorer)
        (void)sys_call(SYS_exit_group, 0); /* it was killed before that: no signal comes */
    while (__atomic_load_n(&result->decision, __ATOMIC_SEQ_CST) == UNDECIDED)
        (void)sys_call(SYS_futex, &result->decision, FUTEX_WAIT, UNDECIDED, 0, 0, 0);
    if (result->decision == CANCEL)
        (void)sys_call(SYS_exit_group, 0);
    job->why = &result->why;
    status = pool_update(&job->pool, count_resume, &job->generation.number, job->why);
    result->why.status = status;
    __atomic_store_n(&result->done, 1, __ATOMIC_SEQ_CST);
    (void)sys_call(SYS_exit_group, 0);
    __builtin_unreachable();
}

int resume_counter_start(struct restore_job *job)
{
    int restorer = sys_getpid();
    int fds[2], status = (int)sys_call(SYS_pipe2, fds, O_CLOEXEC);
    void *page =
        sys_mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    long pid;

    if (status == 0 && sys_failed((long)page))
        status = (int)(long)page;
    if (status < 0)
        return problem_set(job->why, status, "counting the resume: %s", status_text(status));
    job->count = page;
    pid = sys_call(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        resume_counter_main(job, restorer);
    (void)sys_close(fds[1]);
    job->count_fd = fds[0];
    return pid > 0 ? 0 : problem_set(job->why, (int)pid, "fork: %s", status_text((int)pid));
}

void resume_counter_go(struct restore_job *job)
{
    decide(job->count, COUNT);
}

int resume_counter_wait(struct restore_job *job)
{
    struct count_result *result = job->count;
    char byte;

    while (sys_read(job->count_fd, &byte, 1) == -EINTR)
        ;
    if (!__atomic_load_n(&result->done, __ATOMIC_SEQ_CST))
        return problem_set(job->why, -ECHILD, "%s: the process that counts the resume was killed",
                           job->pool.path);
    if (result->why.status != 0 && job->why != NULL)
        *job->why = result->why;
    return result->why.status;
}

void resume_counter_end(struct restore_job *job)
{
    if (job->count_fd >= 0)
        (void)sys_close(job->count_fd);
    if (job->count == NULL)
        return;
    decide(job->count, CANCEL);
    (void)sys_munmap(job->count, PAGE_BYTES);
}
