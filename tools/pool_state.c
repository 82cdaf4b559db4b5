/*
 * pool_state.c - see pool_state.h. True always: nothing here writes to a pool; the writer's lock is
 * taken for a moment only, to learn whether somebody has it.
 */
#include "tools/pool_state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tools/command.h"

#define WAIT_STEP_NS       10000000   /* 10 ms */
#define WAIT_LIMIT_NS      2000000000 /* 2 s: the longest that an ended program was seen to linger */
#define WAIT_LIVING_NS     200000000  /* a program that answers as living this long is running */
#define WAIT_SILENT_NS     3000000000 /* one that does not answer may be at a long checkpoint */
#define AGENT_TIMEOUT_MSEC 1000

int pool_state_read(const char *path, struct pool_state *out, struct problem *why)
{
    struct pool pool;
    int status = pool_open(&pool, path, POOL_READ, why);

    if (status < 0)
        return status;
    memcpy(out->path, pool.path, sizeof out->path);
    out->super = pool.super;
    out->super_fell_back = pool.super_fell_back;
    out->is_short = pool.file_frames < pool.super.frame_count;
    pool_close(&pool);
    return 0;
}

static uint32_t generation_count(const struct superblock *super)
{
    return super->generation_count < SUPERBLOCK_GENERATIONS ? super->generation_count
                                                            : SUPERBLOCK_GENERATIONS;
}

static const struct generation_entry *newest_process(const struct superblock *super, uint64_t low,
                                                     uint64_t below)
{
    const struct generation_entry *newest = NULL;

    for (uint32_t i = 0; i < generation_count(super); i++) {
        const struct generation_entry *entry = &super->generations[i];

        if (entry->kind == GENERATION_PROCESS && entry->number >= low && entry->number < below &&
            (!newest || entry->number > newest->number))
            newest = entry;
    }
    return newest;
}

const struct generation_entry *pool_state_resumable(const struct pool_state *state)
{
    if (state->super.run_state != RUN_STARTED)
        return NULL;
    return newest_process(&state->super, state->super.run_first_generation, UINT64_MAX);
}

const struct generation_entry *pool_state_newest(const struct pool_state *state)
{
    for (uint32_t i = generation_count(&state->super); i-- > 0;)
        if (state->super.generations[i].kind != GENERATION_CRASH)
            return &state->super.generations[i];
    return NULL;
}

const struct generation_entry *pool_state_older(const struct pool_state *state, uint64_t number)
{
    return newest_process(&state->super, 0, number);
}

static bool ask_agent(const struct pool_state *state, uint32_t kind, struct control_answer *answer)
{
    const struct control_request request = {.kind = kind};

    memset(answer, 0, sizeof *answer);
    return control_ask(state->super.uuid, &request, answer, AGENT_TIMEOUT_MSEC) == 0;
}

bool pool_state_agent(const struct pool_state *state, struct control_answer *answer)
{
    return ask_agent(state, CONTROL_STATUS, answer) && answer->status == 0;
}

/* The last number of a line of /proc/PID/status, or `otherwise`. */
static int status_number(int pid, const char *line_name, int otherwise)
{
    char path[32], line[256], *last;
    int found = otherwise;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, line_name, strlen(line_name)) == 0 && (last = strrchr(line, '\t')))
            found = atoi(last + 1);
    }
    if (file)
        fclose(file);
    return found;
}

int pool_state_inner_pid(int pid)
{
    return status_number(pid, "NSpid:", pid);
}

int pool_state_outer_pid(const struct control_answer *answer)
{
    int parent = answer->agent_pid > 0 ? status_number(answer->agent_pid, "PPid:", 0) : 0;

    return parent > 0 && pool_state_inner_pid(parent) == answer->pid ? parent : answer->pid;
}

/* 0, STATUS_IN_USE, or what else keeps the pool from being opened. */
static int try_writer_lock(const char *path, struct problem *why)
{
    struct pool pool;
    int status = pool_open(&pool, path, POOL_WRITE, why);

    if (status == 0)
        pool_close(&pool);
    return status;
}

static bool is_dead(int pid)
{
    char path[32], stat[512], *state;
    FILE *file;
    size_t length;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "re");
    if (!file)
        return true;
    length = fread(stat, 1, sizeof stat - 1, file);
    fclose(file);
    stat[length] = 0;
    state = strrchr(stat, ')');
    return !state || !state[1] || state[2] == 'Z' || state[2] == 'X';
}

bool pool_state_is_opened(const struct pool_state *state)
{
    return state->super.log.extent_count > 0;
}

static int in_use(const struct pool_state *state, int pid, struct problem *why)
{
    if (pool_state_is_opened(state))
        return problem_set(why, STATUS_IN_USE,
                           "%s: a program has this heap open; end it first (fuser %s finds it)",
                           state->path, state->path);
    if (pid > 0)
        return problem_set(why, STATUS_IN_USE,
                           "%s: in use by pid %d; end that program first, or take another pool",
                           state->path, pid);
    return problem_set(why, STATUS_IN_USE,
                       "%s: in use by a process that does not answer; find it with fuser %s",
                       state->path, state->path);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static enum pool_use look_at_use(const struct pool_state *state, struct control_answer *answer)
{
    struct problem ignored;

    if (ask_agent(state, CONTROL_STATUS, answer))
        return answer->status == 0 ? POOL_RUNS : POOL_UNUSED;
    return try_writer_lock(state->path, &ignored) == STATUS_IN_USE ? POOL_SILENT : POOL_UNUSED;
}

enum pool_use pool_state_settle(struct pool_state *state, struct control_answer *answer)
{
    const struct timespec step = {0, WAIT_STEP_NS};
    uint64_t until_ns = now_ns() + WAIT_SILENT_NS;
    struct pool_state again;
    struct problem ignored;
    enum pool_use use;

    while ((use = look_at_use(state, answer)) == POOL_SILENT && now_ns() < until_ns)
        nanosleep(&step, NULL);
    if (use != POOL_RUNS && pool_state_read(state->path, &again, &ignored) == 0)
        *state = again;
    return use;
}

int pool_state_wait_free(struct pool_state *state, struct problem *why)
{
    const struct timespec step = {0, WAIT_STEP_NS};
    struct control_answer answer;
    uint64_t waited_ns = 0;
    int pid = 0, status;

    while ((status = try_writer_lock(state->path, why)) == STATUS_IN_USE) {
        if (ask_agent(state, CONTROL_YIELD, &answer))
            pid = pool_state_outer_pid(&answer);
        if (waited_ns >= WAIT_LIMIT_NS || (pid > 0 && waited_ns >= WAIT_LIVING_NS && !is_dead(pid)))
            return in_use(state, pid, why);
        nanosleep(&step, NULL);
        waited_ns += WAIT_STEP_NS;
    }
    if (status < 0)
        return status;
    return pool_state_read(state->path, state, why);
}

/* The pool that process pid was started with: PHEAP_POOL in its environment. */
static int pool_of_process(uint64_t pid, char path[4096], struct problem *why)
{
    char file_name[64], *variable = NULL;
    size_t size = 0;
    int status = STATUS_REFUSED;
    FILE *file;

    snprintf(file_name, sizeof file_name, "/proc/%" PRIu64 "/environ", pid);
    file = fopen(file_name, "re");
    if (!file)
        return problem_set(why, errno == EACCES ? STATUS_NOT_OWNER : -errno,
                           "no process %llu that could be looked at: %s; give its pool instead",
                           (unsigned long long)pid, strerror(errno));
    while (getdelim(&variable, &size, 0, file) > 0) {
        if (strncmp(variable, "PHEAP_POOL=", 11) == 0 && strlen(variable + 11) < 4096) {
            strcpy(path, variable + 11);
            status = 0;
        }
    }
    free(variable);
    fclose(file);
    return status == 0
               ? 0
               : problem_set(why, STATUS_REFUSED,
                             "process %llu was not started under pheap; see pheap run --help",
                             (unsigned long long)pid);
}

int pool_state_target(const char *target, char path[4096], uint64_t *pid, struct problem *why)
{
    *pid = 0;
    if (strlen(target) >= 4096)
        return problem_set(why, STATUS_USAGE, "the path of the pool is too long");
    strcpy(path, target);
    if (parse_number(target, 1, INT32_MAX, pid) < 0 || access(target, F_OK) == 0)
        *pid = 0; /* a path, or a pool whose name is a number */
    return *pid ? pool_of_process(*pid, path, why) : 0;
}
