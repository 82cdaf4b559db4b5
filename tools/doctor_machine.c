/*
 * doctor_machine.c - what the kernel, its settings and the limits of this process allow.
 * True always: a feature counts as there when it has done its work once.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/kernel_features.h"
#include "core/process/connections.h"
#include "core/process/proc_text.h"
#include "tools/command.h"
#include "tools/doctor.h"

#define STATUS_BYTES    4096
#define MAP_COUNT_USUAL 65530
#define RESERVE_BYTES   (1ull << 40) /* of a slot */

static void look_at_kernel(struct doctor *doctor)
{
    struct utsname name;

    if (uname(&name) < 0)
        return;
    if (strcmp(name.machine, "x86_64") != 0)
        doctor_find(doctor, "kernel", DOCTOR_NO, "use a machine with 64-bit x86 processors",
                    "%s %s on %s", name.sysname, name.release, name.machine);
    else
        doctor_find(doctor, "kernel", DOCTOR_OK, NULL, "%s %s on %s", name.sysname, name.release,
                    name.machine);
}

/* Why the kernel does not find them in the best way, and what would make it. */
static void look_at_fallback(struct doctor *doctor, struct kernel_features *features)
{
    const char *reason = features->pagemap_scan ? "userfaultfd does not work" : "no PAGEMAP_SCAN";
    const char *advice =
        features->pagemap_scan
            ? "allow the system call userfaultfd in the container's or service's filter"
            : "a kernel from Linux 6.7 on finds them at a fraction of the time";
    int error = features->pagemap_scan ? features->userfaultfd_error : features->pagemap_scan_error;

    kernel_features_probe_soft_dirty(features);
    doctor_find(doctor, "written pages", DOCTOR_LIMITED, advice, "found by %s: %s (%s)",
                features->soft_dirty ? "soft-dirty bits" : "comparing checksums", reason,
                strerror(-error));
}

static void look_at_tracking(struct doctor *doctor)
{
    struct kernel_features features;

    kernel_features_probe(&features);
    if (features.userfaultfd_wp_async && features.pagemap_scan)
        doctor_find(doctor, "written pages", DOCTOR_OK, NULL,
                    "found by the kernel (PAGEMAP_SCAN, asynchronous write protection)");
    else
        look_at_fallback(doctor, &features);
}

/* Seizes its parent as an agent would. Exit status: an errno. */
static int seize_parent(int parent, int go)
{
    char byte;
    int status;

    if (read(go, &byte, 1) != 1)
        return EIO;
    if (ptrace(PTRACE_SEIZE, parent, 0, 0) < 0)
        return errno;
    if (ptrace(PTRACE_INTERRUPT, parent, 0, 0) < 0 || waitpid(parent, &status, __WALL) < 0)
        return errno;
    return ptrace(PTRACE_DETACH, parent, 0, 0) < 0 ? errno : 0;
}

/* 0, or why a companion process may not stop this one. */
static int try_ptrace(void)
{
    int go[2], status = 0;
    pid_t child;

    if (pipe(go) < 0)
        return errno;
    child = fork();
    if (child == 0)
        _exit(seize_parent(getppid(), go[0]));
    if (child > 0) {
        prctl(PR_SET_PTRACER, child, 0, 0, 0);
        if (write(go[1], "", 1) != 1)
            kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
        prctl(PR_SET_PTRACER, 0, 0, 0, 0);
    }
    close(go[0]);
    close(go[1]);
    return child < 0 ? EAGAIN : WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* A number behind a name in /proc/self/status. */
static long status_field(const char *name)
{
    char text[STATUS_BYTES];

    return proc_read(getpid(), "status", text, sizeof text) > 0 ? (long)proc_number(text, name, 10)
                                                                : 0;
}

static void look_at_ptrace(struct doctor *doctor)
{
    long scope = doctor_number("/proc/sys/kernel/yama/ptrace_scope", 0);
    long tracer = status_field("TracerPid");
    int error;

    if (tracer > 0) {
        doctor_find(doctor, "stopping threads", DOCTOR_LIMITED,
                    "ask again without it; a program under a debugger has no checkpoints meanwhile",
                    "this process is being traced (by pid %ld), so it cannot be tried", tracer);
        return;
    }
    error = try_ptrace();
    if (error == 0)
        doctor_find(doctor, "stopping threads", DOCTOR_OK, NULL,
                    "ptrace works (kernel.yama.ptrace_scope is %ld)", scope);
    else
        doctor_find(doctor, "stopping threads", DOCTOR_NO,
                    scope >= 2 ? "set kernel.yama.ptrace_scope to 1 or 0"
                               : "allow the system call ptrace in the container's or service's "
                                 "filter (docker run --security-opt seccomp=..., "
                                 "SystemCallFilter=); checkpoints, not restores, can do without "
                                 "by PHEAP_FREEZE=signal",
                    "ptrace does not work: %s (kernel.yama.ptrace_scope is %ld, Seccomp %ld)",
                    strerror(error), scope, status_field("Seccomp"));
}

static void look_at_memory(struct doctor *doctor)
{
    long maps = doctor_number("/proc/sys/vm/max_map_count", MAP_COUNT_USUAL);
    long overcommit = doctor_number("/proc/sys/vm/overcommit_memory", 0);
    struct rlimit space;
    char text[32];

    if (maps < MAP_COUNT_USUAL)
        doctor_find(doctor, "mappings", DOCTOR_LIMITED,
                    "sysctl vm.max_map_count=65530, as kernels have it",
                    "vm.max_map_count is %ld: a restore of a scattered heap may not fit", maps);
    else
        doctor_find(doctor, "mappings", DOCTOR_OK, NULL, "vm.max_map_count is %ld", maps);
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur < RESERVE_BYTES)
        doctor_find(doctor, "address space", DOCTOR_LIMITED,
                    "ulimit -v unlimited, if larger heaps are wanted",
                    "limited to %s: the heap takes five eighths of it at most",
                    show_bytes(text, space.rlim_cur));
    else
        doctor_find(doctor, "address space", DOCTOR_OK, NULL,
                    "not limited; vm.overcommit_memory is %ld", overcommit);
}

/* Not a limit of what is usually asked for. */
static void look_at_connections(struct doctor *doctor)
{
    int status = connections_possible();

    if (status == 0)
        doctor_find(doctor, "connections", DOCTOR_OK, NULL,
                    "with --on-term --tcp-established TCP connections outlive a restart "
                    "(CAP_NET_ADMIN is there)");
    else
        doctor_find(doctor, "connections", DOCTOR_OK, NULL,
                    "come back reset; for --tcp-established CAP_NET_ADMIN is missing (%s)",
                    strerror(-status));
}

void doctor_machine(struct doctor *doctor)
{
    look_at_kernel(doctor);
    look_at_tracking(doctor);
    look_at_ptrace(doctor);
    look_at_memory(doctor);
    look_at_connections(doctor);
}
