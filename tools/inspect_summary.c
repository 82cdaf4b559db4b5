/*
 * inspect_summary.c - the view summary: what the superblock says.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "tools/command.h"
#include "tools/inspect.h"
#include "tools/table.h"

const char *inspect_kind_name(uint32_t kind)
{
    switch (kind) {
    case GENERATION_PROCESS:
        return "process";
    case GENERATION_HEAP:
        return "heap";
    case GENERATION_CRASH:
        return "crash";
    default:
        return "unknown";
    }
}

static const char *run_state_name(uint32_t run_state)
{
    switch (run_state) {
    case RUN_NONE:
        return "none";
    case RUN_STARTED:
        return "started";
    case RUN_ENDED:
        return "ended";
    default:
        return "unknown";
    }
}

static void show_uuid(char buffer[33], const uint8_t uuid[16])
{
    for (int i = 0; i < 16; i++)
        snprintf(buffer + 2 * i, 3, "%02x", uuid[i]);
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* Without holes. */
static uint64_t disk_bytes(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static uint32_t listed(const struct superblock *super)
{
    return super->generation_count < SUPERBLOCK_GENERATIONS ? super->generation_count
                                                            : SUPERBLOCK_GENERATIONS;
}

static int summary_json(const struct inspection *inspection, bool running,
                        const struct control_answer *agent)
{
    const struct superblock *super = &inspection->state.super;
    const struct generation_entry *resumable = pool_state_resumable(&inspection->state);
    json_t *json = inspection->json;
    char uuid[33];

    show_uuid(uuid, super->uuid);
    json_object_set_new(json, "pool",
                        table_text(inspection->state.path, strlen(inspection->state.path)));
    json_object_set_new(json, "uuid", json_string(uuid));
    json_object_set_new(json, "format_version", json_integer(super->format_version));
    json_object_set_new(json, "created_ns", json_integer((json_int_t)super->created_ns));
    json_object_set_new(json, "file_bytes",
                        json_integer((json_int_t)file_bytes(inspection->state.path)));
    json_object_set_new(json, "disk_bytes",
                        json_integer((json_int_t)disk_bytes(inspection->state.path)));
    json_object_set_new(json, "frames", json_integer((json_int_t)super->frame_count));
    json_object_set_new(json, "slot", json_integer(super->slot));
    json_object_set_new(json, "keep", json_integer(super->keep));
    json_object_set_new(json, "run_state", json_string(run_state_name(super->run_state)));
    json_object_set_new(json, "end_status", json_integer(super->end_status));
    json_object_set_new(json, "resume_generation",
                        resumable ? json_integer((json_int_t)resumable->number) : json_null());
    json_object_set_new(json, "resumed_generation",
                        json_integer((json_int_t)super->resumed_generation));
    json_object_set_new(json, "resume_count", json_integer(super->resume_count));
    json_object_set_new(json, "superblock_fell_back",
                        json_boolean(inspection->state.super_fell_back));
    json_object_set_new(json, "file_is_short", json_boolean(inspection->state.is_short));
    json_object_set_new(
        json, "program",
        running ? json_pack("{s:i, s:i, s:I, s:I, s:s, s:s}", "pid", (int)agent->pid, "outer_pid",
                            pool_state_outer_pid(agent), "checkpoints",
                            (json_int_t)agent->checkpoints, "deferred", (json_int_t)agent->deferred,
                            "tracking", agent->tracking, "storage", agent->storage)
                : json_null());
    return 0;
}

static void print_run(const struct pool_state *state, enum pool_use use,
                      const struct control_answer *agent)
{
    const struct superblock *super = &state->super;
    const struct generation_entry *resumable = pool_state_resumable(state);

    if (use == POOL_RUNS)
        printf("  program      runs as pid %d, %" PRIu64 " checkpoint%s, dirty pages by %s\n"
               "  storage      %s\n",
               pool_state_outer_pid(agent), agent->checkpoints, agent->checkpoints == 1 ? "" : "s",
               agent->tracking, agent->storage);
    else if (use == POOL_SILENT)
        printf("  program      holds the pool, and its agent does not answer: fuser %s\n",
               state->path);
    else if (super->log.extent_count > 0)
        printf("  program      any that opens it: a heap with a log of transactions\n");
    else if (super->run_state == RUN_NONE)
        printf("  program      none so far\n");
    else if (super->run_state == RUN_ENDED && WIFEXITED(super->end_status))
        printf("  program      ended with exit status %d\n", WEXITSTATUS(super->end_status));
    else if (super->run_state == RUN_ENDED)
        printf("  program      ended by signal %d\n", WTERMSIG(super->end_status));
    else if (resumable)
        printf("  program      was killed; pheap restore goes on from generation %" PRIu64 "\n",
               resumable->number);
    else
        printf("  program      was killed before its first checkpoint; nothing to resume\n");
}

static const struct generation_entry *newest_crash(const struct superblock *super)
{
    for (uint32_t i = listed(super); i-- > 0;)
        if (super->generations[i].kind == GENERATION_CRASH)
            return &super->generations[i];
    return NULL;
}

static void print_crash(const struct pool_state *state)
{
    const struct generation_entry *entry = newest_crash(&state->super);
    char time_text[32], size[32], cause[32];
    struct record_crash crash;

    if (entry && inspect_read_crash(state, entry, &crash))
        printf("  crash image  generation %" PRIu64 ": pid %d was killed %s, %s: memory of %s\n",
               entry->number, (int)crash.pid, inspect_crash_cause(cause, &crash),
               inspect_time(time_text, entry->time_ns), show_bytes(size, entry->page_count * 4096));
}

static void print_newest(const struct pool_state *state)
{
    const struct superblock *super = &state->super;
    const struct generation_entry *entry;
    char time_text[32], size[32], pause[32];

    if (listed(super) == 0) {
        printf("  generations  none\n");
        return;
    }
    entry = pool_state_newest(state);
    if (!entry)
        entry = &super->generations[listed(super) - 1];
    printf("  generations  %u, the newest %u are kept; newest %" PRIu64
           " (%s, %s): memory of %s, pause %s\n",
           listed(super), super->keep, entry->number, inspect_kind_name(entry->kind),
           inspect_time(time_text, entry->time_ns), show_bytes(size, entry->page_count * 4096),
           show_ns(pause, entry->pause_ns));
}

static void print_short(const struct pool_state *state)
{
    char size[32], whole[32];

    printf("  damage       the file is cut short: %s of %s; pheap recover --check %s says what is "
           "whole\n",
           show_bytes(size, file_bytes(state->path)),
           show_bytes(whole, state->super.frame_count << FRAME_SHIFT), state->path);
}

int inspect_summary(struct inspection *inspection, struct problem *why)
{
    const struct superblock *super = &inspection->state.super;
    struct control_answer agent;
    enum pool_use use = pool_state_settle(&inspection->state, &agent);
    char text[64], size[32];

    (void)why;
    agent.tracking[sizeof agent.tracking - 1] = 0;
    if (inspection->json)
        return summary_json(inspection, use == POOL_RUNS, &agent);
    inspect_heading(inspection, inspection->state.path);
    show_uuid(text, super->uuid);
    printf("  pool         %s, format %u, slot %u, %s\n", text, super->format_version, super->slot,
           show_bytes(size, file_bytes(inspection->state.path)));
    printf("  made         %s\n", inspect_time(text, super->created_ns));
    print_run(&inspection->state, use, &agent);
    print_newest(&inspection->state);
    print_crash(&inspection->state);
    if (super->resume_count)
        printf("  resumed      generation %" PRIu64 ", %u time%s\n", super->resumed_generation,
               super->resume_count, super->resume_count == 1 ? "" : "s");
    if (inspection->state.is_short)
        print_short(&inspection->state);
    if (inspection->state.super_fell_back)
        printf(
            "  damage       the newest superblock is torn or damaged: an older state is shown\n");
    return 0;
}
