/*
 * report.c - what the agent has to say, on the program's stderr.
 *
 * Always true: the agent holds none of the program's descriptors; it fetches descriptor 2 for the
 * one write. It writes only if that is still the file it was at the start: a daemon may have
 * closed its stderr and opened a data file in its place; and only if that takes a line without
 * waiting: a pipe may be full. Each reason is reported once until a checkpoint succeeds.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <poll.h>

#include "core/base/format_text.h"
#include "core/base/sys.h"

void report_remember_stderr(struct agent *agent)
{
    struct stat file;

    agent->stderr_inode = 0;
    if (sys_fstat(2, &file) < 0)
        return;
    agent->stderr_device = file.st_dev;
    agent->stderr_inode = file.st_ino;
}

/* A pipe with room has room for a page, more than a line has. */
static bool takes_a_line(int fd)
{
    const struct timespec no_time = {0, 0};
    struct pollfd room = {fd, POLLOUT, 0};

    return sys_call(SYS_ppoll, &room, 1, &no_time, 0, 8) == 1 && (room.revents & POLLOUT);
}

/* Where the agent may not fetch it: the same file, opened anew. */
static int borrow_stderr(const struct agent *agent)
{
    int fd = (int)sys_call(SYS_pidfd_getfd, agent->pidfd, 2, 0);
    char path[64];

    if (fd >= 0 || !agent->halts)
        return fd;
    format_text(path, sizeof path, "/proc/%d/fd/2", agent->program_pid);
    return sys_open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0);
}

static bool write_line(struct agent *agent, const char *text)
{
    bool written = true;
    char line[PROBLEM_TEXT_BYTES + 16];
    size_t length = format_text(line, sizeof line, "pheap: %s\n", text);
    int fd = borrow_stderr(agent);
    struct stat file;

    if (fd < 0)
        return true;
    if (sys_fstat(fd, &file) == 0 && file.st_dev == agent->stderr_device &&
        file.st_ino == agent->stderr_inode && agent->stderr_inode != 0) {
        written = takes_a_line(fd);
        if (written)
            (void)sys_write(fd, line, length);
    }
    sys_close(fd);
    return written;
}

void report_once(struct agent *agent, int reason, const char *text)
{
    int i = 0;

    while (i < AGENT_REASONS && agent->reasons[i] != 0 && agent->reasons[i] != reason)
        i++;
    if (i == AGENT_REASONS || agent->reasons[i] == reason)
        return;
    if (write_line(agent, text))
        agent->reasons[i] = reason; /* else the next time */
}

void report_forget(struct agent *agent)
{
    for (int i = 0; i < AGENT_REASONS; i++)
        agent->reasons[i] = 0;
}
