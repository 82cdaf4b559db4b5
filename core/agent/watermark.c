/*
 * watermark.c - a checkpoint before the interval is over, because the program has written so much.
 *
 * Always true: looking takes at most a LOOK_SHARE-th of a processor, however large the program is;
 * a checkpoint that is due by the watermark waits as long as one that is due by the interval, when
 * the last one was deferred, failed or stopped the program for long.
 */
#include "core/agent/agent_state.h"

#include "core/base/sys.h"

#define LOOK_NS_MIN 10000000ull
#define LOOK_SHARE  50

static bool looks(const struct agent *agent)
{
    return agent->link->dirty_bytes && !agent->over_watermark &&
           !verify_is_under_way(&agent->verification);
}

void watermark_look(struct agent *agent)
{
    uint64_t limit = agent->link->dirty_bytes / PAGE_BYTES, used_ns, pause_ns;
    int64_t pages;

    if (!looks(agent) || sys_clock_ns(CLOCK_MONOTONIC) < agent->look_ns)
        return;
    used_ns = sys_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    pages = image_writer_count_dirty(agent->writer, &agent->precopy_space, limit);
    used_ns = sys_clock_ns(CLOCK_THREAD_CPUTIME_ID) - used_ns;
    pause_ns = used_ns * LOOK_SHARE < LOOK_NS_MIN ? LOOK_NS_MIN : used_ns * LOOK_SHARE;
    agent->look_ns = sys_clock_ns(CLOCK_MONOTONIC) + pause_ns;
    agent->over_watermark = pages >= 0 && (uint64_t)pages >= limit;
}

uint64_t watermark_wait_ns(const struct agent *agent, uint64_t now_ns)
{
    if (!looks(agent))
        return UINT64_MAX;
    return agent->look_ns > now_ns ? agent->look_ns - now_ns : 0;
}
