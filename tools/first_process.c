/*
 * first_process.c - see first_process.h. A program that is process 1 of its namespace could not be
 * restored: the number belongs to whoever comes first in the next one, and its end ends all, the
 * agent too. So the program becomes a child, with a number that the first processes of the next
 * container, pheap restore among them, do not take: then no second namespace is needed there.
 *
 * Always true: no signal that is passed on is lost between the fork and the wait, since it is held
 * from before the fork.
 */
#include "tools/first_process.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tools/resume.h"

#define LOWEST_PID 100 /* the number of processes that a start burns, at most */

/* As fork(), but the child has at least LOWEST_PID: numbers are given out in order. */
static pid_t fork_with_free_number(void)
{
    for (;;) {
        pid_t pid = fork();

        if (pid == 0 && getpid() < LOWEST_PID)
            _exit(0);
        if (pid <= 0 || pid >= LOWEST_PID)
            return pid;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
}

int first_process_stay(int *exit_status, struct problem *why)
{
    uint64_t before = restore_hold_signals();
    struct restored program = {.status_fd = -1};
    pid_t pid = fork_with_free_number();

    if (pid == 0) {
        restore_release_signals(before);
        return 0;
    }
    if (pid < 0) {
        restore_release_signals(before);
        return problem_set(why, -errno, "fork: %s", strerror(errno));
    }
    program.pid = program.outer_pid = pid;
    *exit_status = resume_wait(&program);
    return 1;
}
