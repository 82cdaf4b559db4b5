/*
 * spawn.c - a new process with the wanted pid that has executed the original program and stands
 * before its first instruction, traced by its parent.
 *
 * The executable is the original one and is executed: that alone makes /proc/PID/exe, the
 * accounting and a debugger's view right, without any capability. Nothing of it runs. Where it is
 * gone and the image has its content, /proc/PID/exe is the tool.
 *
 * Always true: until the driver lets the program go, the death of its tracer kills it
 * (PTRACE_O_EXITKILL), so a failed or killed restore leaves nothing behind. The child runs raw
 * system calls only between its creation and its exec.
 */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "recovery/restore/job.h"

#define EVENT_STOP 128 /* PTRACE_EVENT_STOP */

struct clone_arguments { /* struct clone_args of clone3 */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};

static long clone_process(uint64_t flags, const int *wanted_pid)
{
    struct clone_arguments args = {.flags = flags, .exit_signal = SIGCHLD};

    if (wanted_pid != NULL) {
        args.set_tid = (uint64_t)(uintptr_t)wanted_pid;
        args.set_tid_size = 1;
    }
    return sys_call(SYS_clone3, &args, sizeof args);
}

/* Traced threads are to be reaped by us before the leader's end shows: all are waited for. Not for
 * a child that has been reaped: its pid may be another's, and another child of ours may live on. */
void child_kill(int pid)
{
    int status;
    long got;

    (void)sys_call(SYS_kill, pid, SIGKILL);
    do {
        got = sys_call(SYS_wait4, -1, &status, __WALL, 0);
    } while (got == -EINTR || (got > 0 && (got != pid || WIFSTOPPED(status))));
}

/* CAP_SYS_ADMIN and CAP_CHECKPOINT_RESTORE survive an exec by an ordinary user only as ambient
 * ones; threads with the old ids need one of them. The driver drops them again. */
static int child_keep_capabilities(void)
{
    const uint64_t wanted = 1ull << CAP_SYS_ADMIN | 1ull << CAP_CHECKPOINT_RESTORE;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    long status = sys_call(SYS_capget, &header, data);

    for (int i = 0; i < 2; i++)
        data[i].inheritable |= data[i].permitted & (uint32_t)(wanted >> (32 * i));
    if (status == 0)
        status = sys_call(SYS_capset, &header, data);
    if (status == 0)
        status = sys_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0);
    if (status == 0)
        status =
            sys_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHECKPOINT_RESTORE, 0, 0);
    return (int)status;
}

static int dup_up(int from, int to, bool close_on_exec)
{
    return (int)sys_call(SYS_dup3, from, to, close_on_exec ? O_CLOEXEC : 0);
}

/* The restorer's streams, the pool and the error pipe to their private numbers, all else closed.
 * from: numbers before. */
static int child_descriptors(const struct restore_job *job, int error_fd)
{
    int base = job->first_private_fd;
    int moved = (int)sys_call(SYS_fcntl, error_fd, F_DUPFD_CLOEXEC, base + PRIVATE_COUNT);
    int pool = (int)sys_call(SYS_fcntl, job->lock_fd, F_DUPFD_CLOEXEC, base + PRIVATE_COUNT);
    int status;

    if (moved < 0 || pool < 0)
        return moved < 0 ? moved : pool;
    for (int i = 0; i < 3; i++) {
        status = dup_up(i, base + PRIVATE_STDIO + i, false);
        if (status < 0 && status != -EBADF)
            return status;
        if (status == -EBADF)
            (void)sys_close(base + PRIVATE_STDIO + i);
    }
    status = dup_up(pool, base + PRIVATE_POOL, false);
    if (status >= 0)
        status = dup_up(moved, base + PRIVATE_ERROR, true);
    if (status >= 0)
        status = (int)sys_call(SYS_close_range, base + PRIVATE_COUNT, ~0u, 0);
    if (status >= 0 && base > 0)
        status = (int)sys_call(SYS_close_range, 0, base - 1, 0);
    return status;
}

/* Where the original is gone the tool itself stands in: all that exec maps is unmapped again. */
static const char *executable(const struct restore_job *job)
{
    const struct image_file *file = &job->process.files[job->process.process->executable];

    return file->is_replaced ? "/proc/self/exe" : file->path;
}

static __attribute__((noreturn)) void child_main(const struct restore_job *job, int go_fd,
                                                 int error_fd, bool ambient)
{
    const char *path = executable(job);
    const char *argv[] = {path, NULL}, *environment[] = {NULL};
    uint64_t all = ~0ull;
    char byte;
    long status;

    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
    while ((status = sys_read(go_fd, &byte, 1)) == -EINTR)
        ;
    if (status != 1) /* the tracer has died before it was one */
        (void)sys_call(SYS_exit_group, 127);
    status = child_descriptors(job, error_fd);
    if (status >= 0)
        error_fd = job->first_private_fd + PRIVATE_ERROR;
    /* Containers forbid it. It only makes restores alike: all that exec maps is unmapped again. */
    (void)sys_call(SYS_personality, ADDR_NO_RANDOMIZE);
    if (status >= 0 && ambient)
        status = child_keep_capabilities();
    if (status >= 0)
        status = sys_call(SYS_execve, path, argv, environment);
    (void)sys_write(error_fd, &status, sizeof status);
    (void)sys_call(SYS_exit_group, 127);
    __builtin_unreachable();
}

/* Waits for the tracee's next stop; 0 and *status, or -ECHILD when it ended. */
static int next_stop(int pid, int *status)
{
    long got;

    while ((got = sys_call(SYS_wait4, pid, status, __WALL, 0)) == -EINTR)
        ;
    if (got < 0)
        return (int)got;
    return WIFSTOPPED(*status) ? 0 : -ECHILD;
}

static int resume_tracee(int pid, int signal)
{
    return (int)sys_call(SYS_ptrace, PTRACE_CONT, pid, 0, signal);
}

/* From the seized child to the stop at the program's first instruction. */
static int run_to_exec(struct tracee *leader)
{
    bool executed = false;
    int stop, status;

    for (;;) {
        status = next_stop(leader->tid, &stop);
        if (status < 0) {
            leader->state = TRACEE_GONE;
            return status;
        }
        if (executed && stop >> 16 == EVENT_STOP)
            break;
        if (stop >> 16 == PTRACE_EVENT_EXEC) {
            /* Still inside execve: a stop at the border to user mode is asked for, where system
             * calls can be injected. */
            executed = true;
            status = (int)sys_call(SYS_ptrace, PTRACE_INTERRUPT, leader->tid, 0, 0);
            if (status < 0)
                return status;
        }
        status = resume_tracee(leader->tid, stop >> 16 == 0 ? WSTOPSIG(stop) : 0);
        if (status < 0)
            return status;
    }
    leader->state = TRACEE_STOPPED;
    return tracee_read_registers(leader);
}

static int trace_child(struct restore_job *job, struct spawned *out, int go_fd, int error_fd)
{
    int status =
        tracee_seize(&out->leader, out->leader.tid, PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL);
    long reason = 0;

    if (status < 0)
        return problem_set(job->why, STATUS_NOT_PERMITTED,
                           "ptrace of our own child: %s; pheap needs ptrace (see kernel.yama."
                           "ptrace_scope, seccomp)",
                           status_text(status));
    if (sys_write(go_fd, "", 1) != 1)
        return problem_set(job->why, -EIO, "starting the child");
    status = run_to_exec(&out->leader);
    if (status == 0)
        return 0;
    if (sys_read(error_fd, &reason, sizeof reason) == sizeof reason)
        status = (int)reason;
    else if (status == -ECHILD)
        return problem_set(job->why, status, "the process that was to execute %s has ended",
                           executable(job));
    return problem_set(job->why, status, "executing %s: %s", executable(job), status_text(status));
}

int spawn_stopped(struct restore_job *job, bool in_user_namespace, struct spawned *out)
{
    int go[2], error[2], pid = job->process.process->pid;
    int status = (int)sys_call(SYS_pipe2, go, O_CLOEXEC);
    long child;

    memset(out, 0, sizeof *out);
    if (status == 0 && (status = (int)sys_call(SYS_pipe2, error, O_CLOEXEC)) < 0) {
        (void)sys_close(go[0]);
        (void)sys_close(go[1]);
    }
    if (status < 0)
        return problem_set(job->why, status, "pipe: %s", status_text(status));
    child = clone_process(0, &pid);
    if (child == 0) {
        (void)sys_close(go[1]); /* the last end: whoever waits for it sees us die */
        child_main(job, go[0], error[1], in_user_namespace);
    }
    (void)sys_close(error[1]);
    if (child > 0) {
        out->leader.tid = (int)child;
        out->ambient = in_user_namespace;
        status = trace_child(job, out, go[1], error[0]);
        if (status < 0 && out->leader.state != TRACEE_GONE)
            child_kill((int)child);
    } else {
        status = problem_set(job->why, (int)child, "a process with pid %d: %s", pid,
                             status_text((int)child));
    }
    (void)sys_close(go[0]); /* not before: a child that is dead already is no SIGPIPE of ours */
    (void)sys_close(go[1]);
    (void)sys_close(error[0]);
    return status;
}
