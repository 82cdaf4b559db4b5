/*
 * namespace.c - a restore in a pid namespace of its own: where the old ids are taken, or where an
 * ordinary user may not choose ids.
 *
 * Between pheap restore and the program there is then an init process, pid 1 of the namespace: it
 * mounts the namespace's /proc, drives the restore as the program's parent and tracer, reports the
 * outcome and later the end through a pipe, and reaps. It must outlive the program, because its end
 * kills the namespace: the agent is to finish.
 *
 * Always true: an ordinary user's namespace maps that user and group to themselves and nothing
 * else; init holds no descriptor but its pipe once the program runs.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "recovery/restore/job.h"
#include "recovery/restore/namespace.h"

struct outcome { /* the first thing init writes */
    int32_t status;
    int32_t pid;
    struct problem why;
};

static int write_text(const char *path, const char *text)
{
    int fd = sys_open(path, O_WRONLY | O_CLOEXEC, 0);
    ssize_t written;

    if (fd < 0)
        return fd;
    written = sys_write(fd, text, strlen(text));
    (void)sys_close(fd);
    return written < 0 ? (int)written : 0;
}

int namespace_map_ids(unsigned int uid, unsigned int gid)
{
    char text[64];
    int status = write_text("/proc/self/setgroups", "deny");

    if (status == 0 || status == -ENOENT) {
        format_text(text, sizeof text, "%u %u 1", uid, uid);
        status = write_text("/proc/self/uid_map", text);
    }
    if (status == 0) {
        format_text(text, sizeof text, "%u %u 1", gid, gid);
        status = write_text("/proc/self/gid_map", text);
    }
    return status;
}

int namespace_mount_proc(void)
{
    long status = sys_call(SYS_mount, 0, "/", 0, MS_REC | MS_SLAVE, 0);

    if (status == 0)
        status = sys_call(SYS_mount, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0);
    return (int)status;
}

static int map_ids(struct restore_job *job, unsigned int uid, unsigned int gid)
{
    int status = namespace_map_ids(uid, gid);

    return status == 0 ? 0
                       : problem_set(job->why, STATUS_NOT_PERMITTED,
                                     "mapping ids in a user namespace: %s", status_text(status));
}

static int mount_proc(struct restore_job *job)
{
    int status = namespace_mount_proc();

    return status == 0 ? 0
                       : problem_set(job->why, STATUS_NOT_PERMITTED,
                                     "mounting /proc in a namespace: %s (a container that hides "
                                     "parts of /proc forbids it)",
                                     status_text(status));
}

/* In a new namespace numbers begin at 2, where a container's programs have theirs: what is started
 * here before the program is to get higher ones. Where that fails, the number may be taken. */
static void leave_ids_free(const struct process_image *process)
{
    char text[16];
    int highest = process->process->pid;

    for (uint32_t i = 0; i < process->thread_count; i++) {
        int tid = (int)process->threads[i].record->tid;

        highest = tid > highest ? tid : highest;
    }
    format_text(text, sizeof text, "%d", highest);
    (void)write_text("/proc/sys/kernel/ns_last_pid", text);
}

static bool tell(int fd, const void *what, size_t bytes)
{
    ssize_t told;

    for (size_t done = 0; done < bytes; done += (size_t)told)
        while ((told = sys_write(fd, (const char *)what + done, bytes - done)) <= 0)
            if (told != -EINTR)
                return false;
    return true;
}

static void report(int fd, int kind, int value)
{
    struct namespace_event event = {kind, value};

    (void)tell(fd, &event, sizeof event); /* else our exit status says nearly the same */
}

/* Reaps until nothing is left; the program's stops and its end are reported. */
static __attribute__((noreturn)) void init_loop(int report_fd, int program)
{
    int status, ended = 0;
    long pid;

    for (;;) {
        pid = sys_call(SYS_wait4, -1, &status, __WALL | WUNTRACED, 0);
        if (pid == -EINTR)
            continue;
        if (pid < 0)
            break;
        if (pid == program && WIFSTOPPED(status)) {
            report(report_fd, NAMESPACE_STOPPED, WSTOPSIG(status));
        } else if (pid == program) {
            report(report_fd, NAMESPACE_ENDED, status);
            ended = status;
        }
    }
    (void)sys_call(SYS_exit_group, WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended));
    __builtin_unreachable();
}

/* From here on init dies with the restorer. One that was dead before sends no signal, and here
 * every parent is 0: but nobody reads from the pipe any more. */
static void die_with_restorer(const int report_fds[2])
{
    struct pollfd report = {report_fds[1], 0, 0};
    struct timespec at_once = {0, 0};

    (void)sys_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    (void)sys_close(report_fds[0]);
    if (sys_call(SYS_ppoll, &report, 1, &at_once, 0, 0) == 1 && (report.revents & POLLERR))
        (void)sys_call(SYS_exit_group, 1);
}

static __attribute__((noreturn)) void init_main(struct restore_job *job, namespace_main *body,
                                                bool user_namespace, unsigned uid, unsigned gid,
                                                const int report_fds[2])
{
    struct outcome outcome = {0};
    uint64_t all = ~0ull;
    int report_fd = report_fds[1], kept;

    (void)sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
    die_with_restorer(report_fds);
    job->why = &outcome.why;
    outcome.status = user_namespace ? map_ids(job, uid, gid) : 0;
    if (outcome.status == 0)
        outcome.status = mount_proc(job);
    if (outcome.status == 0)
        leave_ids_free(&job->process);
    if (outcome.status == 0 && job->shifts_clocks) {
        int status = clocks_shift(&job->process);

        if (status != 0)
            clocks_say_behind(&job->process, status);
    }
    if (outcome.status == 0)
        outcome.status = body(job, user_namespace, &outcome.pid);
    (void)sys_call(SYS_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0);
    /* Unheard of, the restorer would wait for it as long as the program runs. */
    if (!tell(report_fd, &outcome, sizeof outcome) || outcome.status != 0)
        (void)sys_call(SYS_exit_group, 1);
    kept = (int)sys_call(SYS_dup3, report_fd, 0, O_CLOEXEC);
    (void)sys_call(SYS_close_range, 1, ~0u, 0);
    /* It lives as long as the program. */
    arena_destroy(&job->half_arena);
    arena_destroy(&job->plan_arena);
    arena_destroy(&job->arena);
    init_loop(kept, outcome.pid);
}

static int text_to_pid(const char *text)
{
    int pid = 0;

    while (*text >= '0' && *text <= '9' && pid < 100000000)
        pid = pid * 10 + (*text++ - '0');
    return pid;
}

/* What the program's pid is outside: init's only child; 0 when it has ended already. Who kills a
 * program by a pid that was not found would kill its own process group. */
static int find_outer_pid(const struct restore_job *job, int init, int *outer_pid)
{
    char path[64], text[64] = "";
    ssize_t got;

    format_text(path, sizeof path, "/proc/%d/task/%d/children", init, init);
    got = sys_read_file(path, text, sizeof text);
    if (got < 0)
        return problem_set(job->why, (int)got, "cannot read %s: %s", path, status_text((int)got));
    *outer_pid = text_to_pid(text);
    return 0;
}

static long clone_namespace(uint64_t flags)
{
    struct {
        uint64_t flags, unused[3], exit_signal, rest[6];
    } args = {.flags = flags, .exit_signal = SIGCHLD};

    return sys_call(SYS_clone3, &args, sizeof args);
}

static int receive_outcome(struct restore_job *job, int init, int fd, struct restored *out)
{
    struct outcome outcome;
    ssize_t got;

    while ((got = sys_read(fd, &outcome, sizeof outcome)) == -EINTR)
        ;
    if (got != (ssize_t)sizeof outcome)
        return problem_set(job->why, -EIO, "the namespace's init process died");
    if (outcome.status != 0) {
        if (job->why != NULL)
            *job->why = outcome.why;
        return outcome.status;
    }
    out->pid = outcome.pid;
    out->own_namespace = true;
    out->init_pid = init;
    out->status_fd = fd;
    return find_outer_pid(job, init, &out->outer_pid);
}

int spawn_namespace(struct restore_job *job, namespace_main *body, struct restored *out)
{
    unsigned uid = (unsigned)sys_call(SYS_geteuid), gid = (unsigned)sys_call(SYS_getegid);
    bool user_namespace = false;
    int fds[2], status = (int)sys_call(SYS_pipe2, fds, O_CLOEXEC);
    long init;

    if (status < 0)
        return problem_set(job->why, status, "pipe: %s", status_text(status));
    init = clone_namespace(CLONE_NEWPID | CLONE_NEWNS);
    if (init == -EPERM) {
        user_namespace = true;
        init = clone_namespace(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS);
    }
    if (init == 0)
        init_main(job, body, user_namespace, uid, gid, fds);
    (void)sys_close(fds[1]);
    if (init < 0) {
        status =
            problem_set(job->why, STATUS_NOT_PERMITTED,
                        "process ids cannot be chosen here: no privilege, and user namespaces: "
                        "%s; allow them (kernel.unprivileged_userns_clone, "
                        "user.max_user_namespaces) or restore as root",
                        status_text((int)init));
    } else {
        status = receive_outcome(job, (int)init, fds[0], out);
        if (status < 0)
            child_kill((int)init);
    }
    if (status < 0)
        (void)sys_close(fds[0]);
    return status;
}
