/*
 * top_figures.c - see top.h: what a pool, its program and its heap are like now.
 *
 * True always: nothing is written anywhere, no process is stopped. A look ends within half a
 * second or so even if the agent is busy; a view of a generation is made again no more often than
 * lets it take a tenth of the time.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include "recovery/view/blocks.h"
#include "tools/top.h"

#define ANSWER_MSEC 250

struct top_watch {
    struct top_figures figures;
    char path[4096];
    struct live_heap live;
    struct live_figures live_now;
    bool is_live;        /* `live` is open, for live_pid */
    int live_pid;        /* 0: none */
    uint64_t start_time; /* of that process */
    uint64_t seen_allocated, seen_freed, sampled;
    bool has_before, has_first;
    uint64_t before_ns, before_bytes;
    uint64_t class_before[LIVE_CLASSES], class_first[LIVE_CLASSES];
    uint64_t viewed_generation, viewed_sequence; /* what the figures of a generation are of */
    uint64_t next_view_ns;
    struct problem view_why;
    struct view view;
};

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* --- the pool --- */

static void look_at_file(struct top_figures *figures)
{
    struct statvfs disk;
    struct stat st;

    if (stat(figures->state.path, &st) == 0) {
        figures->file_bytes = (uint64_t)st.st_size;
        figures->disk_bytes = (uint64_t)st.st_blocks * 512;
    }
    if (statvfs(figures->state.path, &disk) == 0)
        figures->free_disk_bytes = disk.f_bavail * disk.f_frsize;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t x = ((const struct top_checkpoint *)a)->entry.number;
    uint64_t y = ((const struct top_checkpoint *)b)->entry.number;

    return x > y ? -1 : x < y;
}

static void remember_one(struct top_figures *figures, const struct generation_entry *entry)
{
    uint32_t i = 0;

    while (i < figures->checkpoint_count && figures->checkpoints[i].entry.number != entry->number)
        i++;
    if (i == TOP_CHECKPOINTS) /* the oldest makes room */
        i--;
    else if (i == figures->checkpoint_count)
        figures->checkpoint_count++;
    figures->checkpoints[i] = (struct top_checkpoint){*entry, true};
}

static void remember_checkpoints(struct top_figures *figures)
{
    const struct superblock *super = &figures->state.super;

    for (uint32_t i = 0; i < figures->checkpoint_count; i++)
        figures->checkpoints[i].is_kept = false;
    for (uint32_t i = 0; i < super->generation_count && i < SUPERBLOCK_GENERATIONS; i++) {
        remember_one(figures, &super->generations[i]);
        qsort(figures->checkpoints, figures->checkpoint_count, sizeof figures->checkpoints[0],
              newest_first);
    }
}

static void look_at_pool(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;
    struct pool_state *fresh = malloc(sizeof *fresh);
    uint8_t uuid[16];

    memset(&figures->pool_why, 0, sizeof figures->pool_why);
    memcpy(uuid, figures->state.super.uuid, sizeof uuid);
    if (!fresh) {
        problem_set(&figures->pool_why, -ENOMEM, "no memory");
    } else if (pool_state_read(watch->path, fresh, &figures->pool_why) == 0) {
        if (memcmp(uuid, fresh->super.uuid, sizeof uuid) != 0)
            figures->checkpoint_count = 0; /* another pool has taken its place */
        figures->state = *fresh;
        remember_checkpoints(figures);
        look_at_file(figures);
    }
    free(fresh);
}

/* --- the program --- */

/* When a process was started, in the kernel's ticks; 0: it is gone, or a zombie. */
static uint64_t start_time(int pid)
{
    char path[32], stat[1024], *at;
    unsigned long long ticks = 0;
    size_t length;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    file = fopen(path, "re");
    length = file ? fread(stat, 1, sizeof stat - 1, file) : 0;
    if (file)
        fclose(file);
    stat[length] = 0;
    at = strrchr(stat, ')');
    if (!at || !at[1] || at[2] == 'Z' || at[2] == 'X')
        return 0;
    at++;
    for (int field = 3; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    return at && sscanf(at, "%llu", &ticks) == 1 ? ticks : 0;
}

static void forget_program(struct top_watch *watch)
{
    if (watch->is_live)
        live_heap_close(&watch->live);
    watch->is_live = watch->has_before = false;
    watch->live_pid = 0;
}

static void say_end(struct top_figures *figures)
{
    const struct superblock *super = &figures->state.super;
    const struct generation_entry *resumable = pool_state_resumable(&figures->state);
    char *text = figures->run;
    const size_t size = sizeof figures->run;

    if (super->log.extent_count > 0)
        snprintf(text, size, "a heap that programs open by themselves");
    else if (super->run_state == RUN_NONE)
        snprintf(text, size, "no program has run on it so far");
    else if (super->run_state == RUN_ENDED && WIFEXITED(super->end_status))
        snprintf(text, size, "the program has ended with exit status %d",
                 WEXITSTATUS(super->end_status));
    else if (super->run_state == RUN_ENDED)
        snprintf(text, size, "the program was ended by signal %d", WTERMSIG(super->end_status));
    else if (resumable)
        snprintf(text, size,
                 "the program was killed; pheap restore goes on from generation %" PRIu64,
                 resumable->number);
    else
        snprintf(text, size, "the program was killed before its first checkpoint");
}

static bool ask(struct top_figures *figures)
{
    const struct control_request request = {.kind = CONTROL_STATUS};
    struct control_answer answer = {0};

    if (control_ask(figures->state.super.uuid, &request, &answer, ANSWER_MSEC) < 0 ||
        answer.status < 0)
        return false;
    answer.tracking[sizeof answer.tracking - 1] = 0;
    figures->agent = answer;
    return true;
}

/* An agent that is writing a large generation may not answer in time: the program that it told of
 * runs as long as there is that process. */
static void look_at_program(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;
    int pid;

    figures->answers = ask(figures);
    pid = figures->answers ? pool_state_outer_pid(&figures->agent) : watch->live_pid;
    if (pid != watch->live_pid) {
        forget_program(watch);
        watch->live_pid = figures->pid = pid;
        watch->start_time = start_time(pid);
    }
    figures->runs = pid > 0 && watch->start_time && start_time(pid) == watch->start_time;
    if (figures->runs) {
        snprintf(figures->run, sizeof figures->run, "runs as pid %d", pid);
        return;
    }
    forget_program(watch);
}

/* --- its heap --- */

static int look_live(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;
    struct problem *why = &figures->heap_why;
    int status = 0;

    if (!figures->runs)
        return problem_set(why, -ESRCH, "%s", figures->run);
    if (!watch->is_live) {
        status = live_heap_open(&watch->live, figures->pid, figures->state.super.slot);
        if (status < 0)
            return problem_set(why, status, "%s", status_text(status));
        watch->is_live = true;
    }
    status = live_heap_look(&watch->live, &watch->live_now, why);
    if (status == 0)
        figures->heap = watch->live_now;
    return status;
}

static void take_classes(struct live_figures *out, const struct class_table *table)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < LIVE_CLASSES; i++) {
        out->classes[i] = (struct live_class){table[i].spans, table[i].span_bytes, table[i].used,
                                              table[i].used_bytes};
        out->used += table[i].used;
        out->used_bytes += table[i].used_bytes;
        out->span_bytes += table[i].span_bytes;
    }
}

static int view_generation(struct top_watch *watch)
{
    static struct class_table table[BLOCK_CLASSES];
    struct top_figures *figures = &watch->figures;
    struct block_map map;
    int status = view_open(&watch->view, watch->path, 0, &watch->view_why);

    if (status == 0)
        status = block_map_build(&map, &watch->view, &watch->view_why);
    if (status == 0) {
        block_map_classes(&map, map.used, table);
        take_classes(&figures->heap, table);
        watch->viewed_generation = watch->view.generation.number;
    }
    view_close(&watch->view);
    return status;
}

/* The newest generation, if there is a newer one (or a log) than the last time. */
static void look_at_generation(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;
    const struct superblock *super = &figures->state.super;
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    bool has_log = super->log.extent_count > 0;

    if (figures->pool_why.status < 0 || super->generation_count == 0) {
        figures->source = watch->viewed_generation ? TOP_GENERATION : TOP_NOTHING;
        return;
    }
    if ((has_log || super->sequence != watch->viewed_sequence) && begin >= watch->next_view_ns) {
        if (view_generation(watch) < 0)
            watch->viewed_generation = 0;
        watch->viewed_sequence = super->sequence;
        watch->next_view_ns = begin + 10 * (now_ns(CLOCK_MONOTONIC) - begin);
    }
    figures->generation = watch->viewed_generation;
    figures->source = watch->viewed_generation ? TOP_GENERATION : TOP_NOTHING;
    if (figures->source == TOP_NOTHING)
        figures->heap_why = watch->view_why;
}

static void find_rates(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;
    const struct live_figures *heap = &figures->heap;

    figures->rates = TOP_NO_RATES;
    if (figures->source == TOP_PROGRAM && watch->has_before && heap->rate_bytes) {
        /* Estimates: they need not agree with what was counted. What was allocated and is not
         * there any more was freed. */
        uint64_t sum = heap->sampled_bytes, before = watch->sampled;
        int64_t allocated = sum > before ? (int64_t)(sum - before) : 0;
        int64_t freed = allocated - figures->change_bytes;

        figures->rates = TOP_SAMPLED;
        figures->allocated_bytes = (uint64_t)allocated;
        figures->freed_bytes = freed > 0 ? (uint64_t)freed : 0;
    } else if (figures->source == TOP_PROGRAM && watch->has_before) {
        figures->rates = TOP_SEEN;
        figures->allocated_bytes = heap->seen_allocated_bytes - watch->seen_allocated;
        figures->freed_bytes = heap->seen_freed_bytes - watch->seen_freed;
    }
    watch->sampled = heap->sampled_bytes;
    watch->seen_allocated = heap->seen_allocated_bytes;
    watch->seen_freed = heap->seen_freed_bytes;
}

static void find_growth(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;

    figures->change_bytes =
        watch->has_before ? (int64_t)(figures->heap.used_bytes - watch->before_bytes) : 0;
    for (uint32_t i = 0; i < LIVE_CLASSES; i++) {
        const struct live_class *is = &figures->heap.classes[i];

        if (!watch->has_first)
            watch->class_first[i] = is->used_bytes;
        figures->classes[i] = (struct top_class){
            .block_bytes = i < SIZE_CLASSES ? size_class_block_bytes(i) : 0,
            .is = *is,
            .change_bytes =
                watch->has_before ? (int64_t)(is->used_bytes - watch->class_before[i]) : 0,
            .growth_bytes = (int64_t)(is->used_bytes - watch->class_first[i])};
        watch->class_before[i] = is->used_bytes;
    }
    watch->before_bytes = figures->heap.used_bytes;
}

static void look_at_heap(struct top_watch *watch)
{
    struct top_figures *figures = &watch->figures;
    enum top_source before = figures->source;
    uint64_t now = now_ns(CLOCK_MONOTONIC);

    memset(&figures->heap_why, 0, sizeof figures->heap_why);
    figures->source = TOP_PROGRAM;
    if (look_live(watch) < 0)
        look_at_generation(watch);
    if (figures->source != before)
        watch->has_before = false; /* the two are not to be compared */
    figures->elapsed_ns = watch->has_before ? now - watch->before_ns : 0;
    find_growth(watch);
    find_rates(watch);
    watch->before_ns = now;
    watch->has_before = watch->has_first = figures->source != TOP_NOTHING;
}

/* --- in order --- */

const struct top_figures *top_look(struct top_watch *watch)
{
    watch->figures.time_ns = now_ns(CLOCK_REALTIME);
    look_at_program(watch);
    look_at_pool(watch); /* behind it: what ended the program is in the pool by then */
    if (!watch->figures.runs)
        say_end(&watch->figures);
    look_at_heap(watch);
    return &watch->figures;
}

void top_begin_anew(struct top_watch *watch)
{
    for (uint32_t i = 0; i < LIVE_CLASSES; i++)
        watch->class_first[i] = watch->figures.heap.classes[i].used_bytes;
}

/* Its agent need not answer, but if one does it must be that of this process. */
static int begin_with_process(struct top_watch *watch, int pid, struct problem *why)
{
    struct control_answer who;

    if (pool_state_agent(&watch->figures.state, &who) && pool_state_outer_pid(&who) != pid)
        return problem_set(why, STATUS_REFUSED,
                           "process %d has no pool of its own: %s belongs to pid %d", pid,
                           watch->path, pool_state_outer_pid(&who));
    watch->live_pid = watch->figures.pid = pid;
    watch->start_time = start_time(pid);
    return 0;
}

int top_open(struct top_watch **out, const char *target, struct problem *why)
{
    struct top_watch *watch = calloc(1, sizeof *watch);
    uint64_t pid = 0;
    int status;

    *out = watch;
    if (!watch)
        return problem_set(why, -ENOMEM, "no memory");
    status = pool_state_target(target, watch->path, &pid, why);
    if (status == 0)
        status = pool_state_read(watch->path, &watch->figures.state, why);
    if (status == 0 && pid)
        status = begin_with_process(watch, (int)pid, why);
    if (status < 0) {
        free(watch);
        *out = NULL;
        return status;
    }
    /* Absolute: what comes later does not depend on where we are. */
    memcpy(watch->path, watch->figures.state.path, sizeof watch->path);
    return 0;
}

void top_close(struct top_watch *watch)
{
    if (!watch)
        return;
    forget_program(watch);
    free(watch);
}
