/*
 * crash.c - after the program was killed: its memory, which the agent still shares, as a generation
 * of kind crash. For inspection, never resumed.
 *
 * Always true: whoever wants the pool (CONTROL_YIELD) gets it within a moment: between pieces of a
 * few megabytes the control socket is served, and what has been written is made durable piece by
 * piece, so that no single sync is long. The generation is given up then. Killed at any point the
 * agent leaves what any commit leaves: the pool with this generation or without it.
 *
 * The dead program's memory stays in use meanwhile, so there is a time limit.
 *
 * Best effort: where the agent dies with the program (a container or a service that is killed as a
 * whole, the kernel short of memory) there is none.
 */
#include "core/agent/agent_state.h"

#include <errno.h>

#include "core/base/sys.h"
#include "core/process/crash_record.h"

#define SYNC_BYTES    (16u << 20) /* 10 to 200 ms to a disk */
#define TIME_LIMIT_NS 10000000000ull

struct crash {
    struct agent *agent;
    uint64_t synced_bytes; /* of the generation in progress, durable already */
    uint64_t deadline_ns;
};

static int go_on(void *context)
{
    struct crash *crash = context;
    struct pool *pool = &crash->agent->pool;

    control_serve(crash->agent);
    if (crash->agent->pool_wanted || sys_clock_ns(CLOCK_MONOTONIC) > crash->deadline_ns)
        return -ECANCELED;
    if (pool->building_bytes - crash->synced_bytes < SYNC_BYTES)
        return 0;
    crash->synced_bytes = pool->building_bytes;
    return persist_sync(&pool->persist);
}

static int write_record(struct agent *agent, const struct address_space *space, int wait_status,
                        struct record_writer *record, struct problem *why)
{
    struct capture capture = {
        .space = space, .cache = agent->capture_cache, .scratch = &agent->scratch};
    const struct record_crash crash = {
        .pid = agent->program_pid,
        .wait_status = wait_status < 0 ? 0 : wait_status,
        .flags = wait_status < 0 ? 0 : RECORD_CRASH_STATUS_KNOWN,
        .realtime_ns = sys_clock_ns(CLOCK_REALTIME),
        .generation_before = agent->link->committed_generation,
    };

    return crash_record_write(&capture, &crash, record, why);
}

/* Pre-copy and cut as of a running program, only that nothing changes meanwhile. */
static int write_image(struct crash *crash, int wait_status, struct record_writer *record)
{
    struct agent *agent = crash->agent;
    struct address_space space = agent->precopy_space;
    int status = 0;

    if (image_writer_precopy(agent->writer, &agent->precopy_space, NULL) < 0)
        return -ECANCELED;
    status = maps_read(&space, "/proc/self/maps", &agent->scratch);
    if (status == 0)
        status = image_writer_cut(agent->writer, &space, 0, NULL);
    if (status == 0)
        status = write_record(agent, &space, wait_status, record, NULL);
    return status == 0 ? go_on(crash) : status;
}

/* No generation on ground that a restore mapped unseen and nobody has verified; none where nobody
 * could ask for the pool. */
static bool is_possible(const struct agent *agent)
{
    return !agent->link->omits_crash && !agent->misled && !agent->terminated &&
           agent->listen_fd >= 0 && !verify_is_under_way(&agent->verification);
}

void crash_take(struct agent *agent, int wait_status)
{
    struct crash crash = {agent, agent->pool.building_bytes,
                          sys_clock_ns(CLOCK_MONOTONIC) + TIME_LIMIT_NS};
    struct generation_entry entry = {.kind = GENERATION_CRASH, .slot = agent->link->slot};
    struct record_writer record;

    /* Nobody is left to be told why there is none. */
    if (!is_possible(agent) || checkpoint_make_record(agent, &record, NULL) < 0)
        return;
    entry.time_ns = sys_clock_ns(CLOCK_REALTIME);
    image_writer_set_garbage(agent->writer, NULL, NULL); /* what was freed is evidence */
    image_writer_set_step(agent->writer, go_on, &crash);
    if (write_image(&crash, wait_status, &record) == 0)
        (void)!image_writer_commit(agent->writer, &entry, record.buffer, record.used, NULL);
    image_writer_set_step(agent->writer, NULL, NULL);
}
