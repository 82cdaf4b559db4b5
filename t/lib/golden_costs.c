/*
 * golden_costs.c - see golden_costs.h.
 */
#include "t/lib/golden_costs.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "t/lib/tap.h"

static const struct {
    long nr;
    const char *name;
} named[] = {
    {SYS_openat, "openat"},
    {SYS_newfstatat, "newfstatat"},
    {SYS_readlinkat, "readlinkat"},
    {SYS_getdents64, "getdents64"},
    {SYS_ioctl, "ioctl"},
    {SYS_ptrace, "ptrace"},
    {SYS_process_vm_readv, "process_vm_readv"},
    {SYS_process_vm_writev, "process_vm_writev"},
    {SYS_pread64, "pread64"},
    {SYS_preadv, "preadv"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_fdatasync, "fdatasync"},
    {SYS_mmap, "mmap"},
    {SYS_munmap, "munmap"},
    {SYS_mprotect, "mprotect"},
    {SYS_madvise, "madvise"},
    {SYS_pidfd_getfd, "pidfd_getfd"},
    {SYS_prctl, "prctl"},
    {SYS_prlimit64, "prlimit64"},
    {SYS_rt_sigaction, "rt_sigaction"},
    {SYS_rt_sigprocmask, "rt_sigprocmask"},
    {SYS_clone, "clone"},
};

int costs_total(const int counts[COSTS_CALLS])
{
    int sum = 0;

    for (int nr = 0; nr < COSTS_CALLS; nr++)
        sum += counts[nr];
    return sum;
}

void costs_describe(FILE *out, const int counts[COSTS_CALLS])
{
    int left = costs_total(counts);

    fprintf(out, "%d calls", left);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (counts[named[i].nr])
            fprintf(out, ", %s %d", named[i].name, counts[named[i].nr]);
        left -= counts[named[i].nr];
    }
    fprintf(out, ", others %d", left);
}

const char *costs_path(const char *name)
{
    static char path[64];

    snprintf(path, sizeof path, "t/costs/%s%s.txt", name, geteuid() == 0 ? "" : "-unprivileged");
    return path;
}

void costs_compare(const char *path, const char *text)
{
    static char golden[8192];
    FILE *file = fopen(path, getenv("PHEAP_UPDATE_COSTS") ? "w" : "r");

    if (!CHECK(file != NULL))
        return;
    if (getenv("PHEAP_UPDATE_COSTS")) {
        fputs(text, file);
    } else {
        golden[fread(golden, 1, sizeof golden - 1, file)] = 0;
        CHECK_STR(text, golden);
    }
    fclose(file);
}
