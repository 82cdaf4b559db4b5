/*
 * end.c - the beginning and the end of a run in the pool's superblock.
 *
 * Always true: a run is marked ended only when exit, _exit or return from main was noted and the
 * process is gone, and not by a signal as far as the kernel can still tell; anything else leaves it
 * resumable.
 */
#include "core/agent/agent_state.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "core/base/sys.h"
#include "core/process/proc_text.h"

#define STAT_BYTES      1024
#define EXIT_CODE_FIELD 52 /* of /proc/PID/stat */

/* Linux 6.15's, in no header of Debian 12: how a process ended that has been waited for already. */
#define GET_INFO      _IOWR(0xff, 11, struct pidfd_info_0) /* PIDFD_GET_INFO */
#define GET_INFO_EXIT 8ull                                 /* PIDFD_INFO_EXIT */

struct pidfd_info_0 {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
};

static void begin_run(struct superblock *super, void *context)
{
    const struct agent_link *link = context;

    if (!link->resumed_generation && !(link->run_goes_on && super->run_state == RUN_STARTED)) {
        super->run_first_generation = super->next_generation;
        super->resumed_generation = 0;
        super->resume_count = 0;
    }
    super->run_state = RUN_STARTED;
    super->end_status = 0;
    super->slot = link->slot;
    if (link->keep)
        super->keep = link->keep;
}

int agent_note_run(struct agent *agent, struct problem *why)
{
    return pool_update(&agent->pool, begin_run, agent->link, why);
}

static void end_run(struct superblock *super, void *context)
{
    const struct agent_link *link = context;

    super->run_state = RUN_ENDED;
    super->end_status = (link->exit_status & 0xff) << 8; /* as wait() gives it */
}

static int status_of_reaped(const struct agent *agent)
{
    struct pidfd_info_0 info = {.mask = GET_INFO_EXIT};

    if (sys_call(SYS_ioctl, agent->pidfd, GET_INFO, &info) < 0 || !(info.mask & GET_INFO_EXIT))
        return -1;
    return info.exit_code;
}

static int status_of_zombie(const struct agent *agent)
{
    char stat[STAT_BYTES];
    const char *at;

    if (proc_read(agent->program_pid, "stat", stat, sizeof stat) <= 0)
        return -1;
    at = strrchr(stat, ')'); /* field 2, the name, may hold anything */
    if (!at || strncmp(at, ") Z", 3) != 0)
        return -1;
    for (int field = 2; at && field < EXIT_CODE_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return -1;
    at++;
    return (int)text_number(&at, 10);
}

/* How it ended, as wait() gives it; -1 where the kernel does not tell any more. It may be waited
 * for between two looks. */
static int wait_status(const struct agent *agent)
{
    int status = status_of_reaped(agent);

    if (status < 0)
        status = status_of_zombie(agent);
    if (status < 0)
        status = status_of_reaped(agent);
    return status;
}

/*
 * The program is gone; its memory is still here. A process that noted its exit may have been killed
 * before it got there: while it flushed its output to a pipe that nobody read, say. One that ended
 * without a note, by a system call of its own, has neither an end mark nor crashed.
 */
void agent_note_end(struct agent *agent)
{
    struct problem why;
    int status = wait_status(agent);
    bool killed = status >= 0 && WTERMSIG(status) != 0;

    if (agent->link->exit_noted && !killed) {
        if (pool_update(&agent->pool, end_run, agent->link, &why) < 0)
            report_once(agent, why.status, why.text);
    } else if (killed || status < 0) {
        crash_take(agent, status);
    }
}
