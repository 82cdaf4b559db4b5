/*
 * doctor_ids.c - how a resumed program gets its old process ids: in this pid namespace, or in one
 * of its own. True always: what is tried, is tried in child processes that are gone at the end.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "recovery/restore/namespace.h"
#include "tools/doctor.h"

struct clone_arguments { /* clone3's, up to what chooses ids */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size;
};

static int wait_for(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* 0, or why the id of a new process cannot be chosen. */
static int try_chosen_id(void)
{
    long limit = doctor_number("/proc/sys/kernel/pid_max", 32768);

    for (pid_t wanted = (pid_t)limit - 1; wanted > limit / 2; wanted--) {
        struct clone_arguments arguments = {
            .exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&wanted, .set_tid_size = 1};
        long child = syscall(SYS_clone3, &arguments, sizeof arguments);

        if (child == 0)
            _exit(0);
        if (child > 0)
            return wait_for((pid_t)child);
        if (errno != EEXIST)
            return errno;
    }
    return EAGAIN;
}

/* In a new pid namespace: may it have its own /proc? Exit status: an errno. */
static int mount_own_proc(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(-namespace_mount_proc());
    return child < 0 ? errno : wait_for(child);
}

/* 0, or why there can be no pid namespace; *by_user: only with a user namespace around it. */
static int try_namespace(bool *by_user)
{
    const unsigned int uid = geteuid(), gid = getegid();
    int error, status;
    pid_t child;

    *by_user = false;
    for (;;) {
        if ((child = fork()) == 0) {
            int flags = CLONE_NEWPID | CLONE_NEWNS | (*by_user ? CLONE_NEWUSER : 0);

            if (unshare(flags) < 0)
                _exit(errno);
            if (*by_user && (status = namespace_map_ids(uid, gid)) < 0)
                _exit(-status);
            _exit(mount_own_proc());
        }
        error = child < 0 ? errno : wait_for(child);
        if (error == 0 || *by_user)
            return error;
        *by_user = true;
    }
}

void doctor_ids(struct doctor *doctor)
{
    bool by_user;
    int chosen = try_chosen_id(), own = try_namespace(&by_user);

    if (chosen == 0)
        doctor_find(doctor, "process ids", own == 0 ? DOCTOR_OK : DOCTOR_LIMITED,
                    own == 0 ? NULL
                             : "allow pid namespaces, or restore before other processes take the "
                               "numbers",
                    "a resumed program gets its old pid here%s",
                    own == 0 ? "; where it is taken, "
                               "in a pid namespace of its own"
                             : "; where it is taken it cannot be resumed");
    else if (own == 0)
        doctor_find(doctor, "process ids", DOCTOR_OK, NULL,
                    "a resumed program lives in a pid namespace of its own%s and has another pid "
                    "outside (old ids cannot be chosen here: %s)",
                    by_user ? ", in a user namespace," : "", strerror(chosen));
    else
        doctor_find(doctor, "process ids", DOCTOR_NO,
                    "give CAP_CHECKPOINT_RESTORE (docker run --cap-add, AmbientCapabilities=), or "
                    "allow user namespaces (kernel.unprivileged_userns_clone, user."
                    "max_user_namespaces, the container's filter)",
                    "checkpoints only: old ids cannot be chosen (%s), a pid namespace not made "
                    "(%s)",
                    strerror(chosen), strerror(own));
}
