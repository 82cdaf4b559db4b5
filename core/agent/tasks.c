/*
 * tasks.c - see tasks.h. Everything here may vanish while it is being looked at: what is gone is
 * passed over, and only the process as a whole being gone is an error (-ESRCH).
 */
#include "core/agent/tasks.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/proc_text.h"

#define DIRECTORY_BYTES 8192
#define STAT_BYTES      1024
#define STAT_STATE      3 /* its fields, as proc(5) counts them */
#define STAT_PROCESSOR  39
#define STATUS_BYTES    4096
#define KCMP_VM_TYPE    1 /* KCMP_VM */

static int parse_number(const char **text)
{
    int value = 0;

    while (**text >= '0' && **text <= '9')
        value = value * 10 + (*(*text)++ - '0');
    return value;
}

static int visit_entries(const char *entries, long bytes, task_visit *visit, void *context)
{
    for (long at = 0; at < bytes;) {
        const struct dirent64 *entry = (const struct dirent64 *)(entries + at);
        const char *name = entry->d_name;
        int tid = parse_number(&name), status;

        if (tid > 0 && (status = visit(context, tid)) < 0)
            return status;
        at += entry->d_reclen;
    }
    return 0;
}

int tasks_each(int pid, task_visit *visit, void *context)
{
    char entries[DIRECTORY_BYTES] __attribute__((aligned(8)));
    char path[64];
    long got = 0;
    int fd, status = 0;

    format_text(path, sizeof path, "/proc/%d/task", pid);
    fd = sys_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd == -ENOENT ? -ESRCH : fd;
    while (status == 0 && (got = sys_call(SYS_getdents64, fd, entries, sizeof entries)) > 0)
        status = visit_entries(entries, got, visit, context);
    sys_close(fd);
    if (status == 0 && got < 0 && got != -ENOENT)
        return (int)got;
    return status;
}

struct child_search {
    int pid, except;
    struct children *found;
};

static int look_for_children(void *context, int tid)
{
    const struct child_search *search = context;

    children_add(search->found, search->pid, tid, search->except);
    return 0;
}

int tasks_children(int pid, int except, struct children *out)
{
    struct child_search search = {pid, except, out};

    memset(out, 0, sizeof *out);
    return tasks_each(pid, look_for_children, &search);
}

/* The fields from the state on; NULL: the thread is gone. */
static const char *read_stat(int pid, int tid, char stat[STAT_BYTES])
{
    char path[64];
    const char *end;

    format_text(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
    if (sys_read_file(path, stat, STAT_BYTES) <= 0)
        return NULL;
    end = strrchr(stat, ')'); /* the name before it may hold anything */
    return end && end[1] == ' ' ? end + 2 : NULL;
}

char task_state(int pid, int tid)
{
    char stat[STAT_BYTES];
    const char *fields = read_stat(pid, tid, stat);

    return fields ? fields[0] : 0;
}

int task_processor(int pid, int tid)
{
    char stat[STAT_BYTES];
    const char *at = read_stat(pid, tid, stat);
    int processor = 0;

    if (!at || *at != 'R')
        return -1;
    for (int field = STAT_STATE; at && field < STAT_PROCESSOR; field++)
        at = strchr(at + 1, ' ');
    if (!at || at[1] < '0' || at[1] > '9')
        return -1;
    for (at++; *at >= '0' && *at <= '9' && processor < INT32_MAX / 10 - 1; at++)
        processor = processor * 10 + (*at - '0');
    return processor;
}

int64_t task_status_number(int pid, int tid, const char *field)
{
    char path[64], text[STATUS_BYTES];
    const char *at;
    size_t length = strlen(field);

    format_text(path, sizeof path, "/proc/%d/task/%d/status", pid, tid);
    if (sys_read_file(path, text, sizeof text) <= 0)
        return -1;
    for (at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, field, length) == 0) {
            for (at += length; *at == ' ' || *at == '\t'; at++)
                ;
            return parse_number(&at);
        }
    }
    return -1;
}

/* A value in our own memory is looked for at its address in the other, where kcmp is missing, or
 * finds another memory: none at all is that of a process (or of a main thread) that has ended. */
bool task_has_exec_ed(int pid)
{
    uint64_t seen = 0, mark = sys_clock_ns(CLOCK_MONOTONIC) | 1;
    struct iovec here = {&seen, sizeof seen}, there = {&mark, sizeof mark};
    long result = sys_call(SYS_kcmp, pid, sys_getpid(), KCMP_VM_TYPE, 0, 0);

    if (result == 0 || result == -ESRCH)
        return false;
    result = sys_call(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0);
    return result != -ESRCH && (result != (long)sizeof seen || seen != mark);
}

bool task_has_ended(int pid, int pidfd)
{
    if (sys_call(SYS_pidfd_send_signal, pidfd, 0, 0, 0) == -ESRCH)
        return true;
    return task_state(pid, pid) == 'Z' && task_status_number(pid, pid, "Threads:") == 1;
}

static bool is_for_direct_io(int pid, const char *number)
{
    char name[64], text[STATUS_BYTES];

    format_text(name, sizeof name, "fdinfo/%s", number);
    return proc_read(pid, name, text, sizeof text) > 0 &&
           (proc_number(text, "flags", 8) & O_DIRECT) != 0;
}

bool tasks_do_direct_io(int pid)
{
    char entries[DIRECTORY_BYTES] __attribute__((aligned(8)));
    char path[64];
    bool found = false;
    long got;
    int fd;

    format_text(path, sizeof path, "/proc/%d/fdinfo", pid);
    fd = sys_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return true; /* nothing is known: the careful way */
    while (!found && (got = sys_call(SYS_getdents64, fd, entries, sizeof entries)) > 0) {
        const struct dirent64 *entry;

        for (long at = 0; at < got && !found; at += entry->d_reclen) {
            entry = (const struct dirent64 *)(const void *)(entries + at);
            found = entry->d_name[0] != '.' && is_for_direct_io(pid, entry->d_name);
        }
    }
    sys_close(fd);
    return found;
}

void task_name(int pid, char text[TASK_NAME_BYTES])
{
    char path[64], name[64];
    ssize_t length;

    format_text(path, sizeof path, "/proc/%d/comm", pid);
    length = sys_read_file(path, name, sizeof name);
    if (length > 0 && name[length - 1] == '\n')
        name[length - 1] = 0;
    format_text(text, TASK_NAME_BYTES, "%s", length > 0 ? name : "?");
}
