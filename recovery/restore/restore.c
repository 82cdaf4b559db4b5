/*
 * restore.c - one restore from outside: open, choose, check, count, build.
 *
 * Always true: everything that can be refused, but damaged contents, is refused before anything is
 * built; the resume is counted, under the writer's lock, before anything outside is touched or the
 * program goes on. A crash in between costs a count, nothing else.
 */
#include "recovery/restore/restore.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include "core/agent/control.h"
#include "core/base/format_text.h"
#include "core/base/limits.h"
#include "core/base/sys.h"
#include "core/process/connections.h"
#include "core/process/mapped_files.h"
#include "core/process/processor.h"
#include "recovery/restore/job.h"

#define ARENA_BYTES          (4ull << 30)
#define MS                   1000000ull
#define DYING_WRITER_WAIT_NS (5000 * MS) /* for the agent of a program that was just killed */
#define BUSY_PID_WAIT_NS     (50 * MS)
#define PRIVATE_FD_USUAL     16
#define STREAMS              3

void restore_note(const struct restore_job *job, const char *what)
{
    uint64_t us = (sys_clock_ns(CLOCK_MONOTONIC) - job->began_ns) / 1000;
    char line[160];
    size_t length;

    if (!job->verbose)
        return;
    length = format_text(line, sizeof line, "pheap restore: %4lu.%03lu ms  %s\n",
                         (unsigned long)us / 1000, (unsigned long)us % 1000, what);
    (void)sys_write(2, line, length);
}

static void sleep_ns(uint64_t ns)
{
    struct timespec time = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};

    (void)sys_call(SYS_nanosleep, &time, 0);
}

/* A process that exists and is not dead already. */
static bool is_alive(int pid)
{
    char path[64], text[512];
    const char *state;

    format_text(path, sizeof path, "/proc/%d/stat", pid);
    if (sys_read_file(path, text, sizeof text) <= 0)
        return false;
    state = strrchr(text, ')');
    return state != NULL && state[1] == ' ' && state[2] != 'Z' && state[2] != 'X';
}

/* The pid of the living program that has the pool, 0 if there is none (any more): its agent then
 * lets go of the pool. */
static int pool_user(const char *path)
{
    struct control_request request = {.kind = CONTROL_YIELD};
    struct control_answer answer;
    struct pool pool;
    int status = pool_open(&pool, path, POOL_READ, NULL);

    if (status < 0)
        return 0;
    status = control_ask(pool.super.uuid, &request, &answer, 200);
    pool_close(&pool);
    return status == 0 && is_alive(answer.pid) ? answer.pid : 0;
}

/* The agent of a program that was killed a moment ago may still hold the lock: it is waited for. */
static int open_for_writing(struct restore_job *job, const char *path)
{
    uint64_t give_up = sys_clock_ns(CLOCK_MONOTONIC) + DYING_WRITER_WAIT_NS;
    int status;

    while ((status = pool_open(&job->pool, path, POOL_WRITE, job->why)) == STATUS_IN_USE) {
        int user = pool_user(path);

        if (user != 0)
            return problem_set(job->why, STATUS_IN_USE, "%s is in use by process %d", path, user);
        if (sys_clock_ns(CLOCK_MONOTONIC) > give_up)
            break;
        sleep_ns(2 * MS);
    }
    return status;
}

static int read_record(struct restore_job *job)
{
    size_t bytes = job->generation.record_bytes;
    void *record = bytes <= RECORD_BYTES_MAX ? arena_alloc(&job->arena, bytes + 8, 16) : NULL;
    int status;

    if (record == NULL)
        return problem_set(job->why, STATUS_DAMAGED,
                           "generation %lu: a process record of %zu bytes",
                           (unsigned long)job->generation.number, bytes);
    status = pool_read_record(&job->pool, &job->generation, record, job->why);
    if (status == 0)
        status = process_image_read(&job->process, record, bytes, &job->arena, job->why);
    return status;
}

static int check_owner(struct restore_job *job)
{
    unsigned uid = (unsigned)sys_call(SYS_geteuid);

    if (job->process.process->uid != uid)
        return problem_set(job->why, STATUS_NOT_PERMITTED,
                           "the program ran as user %u; restore it as that user",
                           job->process.process->uid);
    if (!pool_slot_is_valid(job->process.process->slot))
        return problem_set(job->why, STATUS_DAMAGED, "process record: slot %u",
                           job->process.process->slot);
    return 0;
}

/* What its libraries chose by the processor's features must be there still. */
static int check_processor(struct restore_job *job)
{
    const struct record_processor *then = job->process.processor;
    struct record_processor now;
    const char *missing;

    if (then == NULL)
        return 0;
    processor_read(&now);
    missing = processor_lacks(then, &now);
    return missing == NULL
               ? 0
               : problem_set(job->why, STATUS_CHANGED,
                             "the program ran on a processor with %s, which this one lacks: resume "
                             "it on one that has it, or start it anew",
                             missing);
}

static void note_plan(const struct restore_job *job)
{
    uint64_t extents = 0, mapped = 0, read_in = 0;
    char text[120];

    for (uint32_t i = 0; i < job->plan_count; i++) {
        const struct image_plan *one = &job->plans[i];

        for (uint64_t k = 0; k < one->extent_count; k++)
            mapped += one->extents[k].pages;
        extents += one->extent_count;
        read_in += one->fill_count;
    }
    format_text(text, sizeof text, "contents planned: %lu pages in %lu extents, %lu pages read in",
                (unsigned long)mapped, (unsigned long)extents, (unsigned long)read_in);
    restore_note(job, text);
}

static int check_descriptors(const struct restore_job *job, uint64_t needed)
{
    uint64_t limit = limit_of(RLIMIT_NOFILE);

    return needed <= limit
               ? 0
               : problem_set(
                     job->why, STATUS_REFUSED,
                     "the restore takes %lu descriptors, and the hard limit, RLIMIT_NOFILE, "
                     "is %lu; raise it (ulimit -Hn)",
                     (unsigned long)needed, (unsigned long)limit);
}

/* Ours are above the program's own, and above those that it may have soon if there is room. */
static int choose_numbers(struct restore_job *job)
{
    const struct process_image *process = &job->process;
    uint64_t count = process->descriptor_count, limit = limit_of(RLIMIT_NOFILE);
    uint64_t ours = descriptors_room(process);
    uint64_t first = count > 0 ? process->descriptors[count - 1]->number + 1ull : 0;
    int status;

    if (first < STREAMS)
        first = STREAMS;
    status = check_descriptors(job, first + ours);
    if (status != 0)
        return status;
    if (first < PRIVATE_FD_USUAL)
        first = limit - ours < PRIVATE_FD_USUAL ? limit - ours : PRIVATE_FD_USUAL;
    job->first_private_fd = (int)first;
    job->pool_fd = job->first_private_fd + PRIVATE_POOL;
    return 0;
}

/* Is it ours to run, and are its files still the ones it had? */
static int check(struct restore_job *job)
{
    const struct process_image *process = &job->process;
    int status = check_owner(job);

    if (status == 0)
        status = check_processor(job);
    if (status == 0)
        status = choose_numbers(job);
    if (status == 0)
        status = mapped_files_check(&job->process, job->why);
    if (status == 0)
        descriptors_find_renamed(&job->process, &job->arena);
    if (status == 0)
        status = descriptors_check(process, job->why);
    if (status == 0)
        status = put_back_check(job);
    restore_note(job, "record read, files compared");
    return status;
}

/* --- the plan, made while the executable is started --- */

struct planning {
    struct restore_job *job;
    struct problem why;
    pthread_t thread;
    bool in_thread;
};

static void *plan(void *argument)
{
    struct planning *planning = argument;
    struct restore_job *job = planning->job;
    int status;

    status = image_open_to_plan(&job->image, &job->pool, &job->generation, &job->plan_arena,
                                &planning->why);
    if (status == 0)
        status = contents_plan(job, &planning->why);
    planning->why.status = status;
    if (status == 0)
        note_plan(job);
    return NULL;
}

static void planning_begin(struct planning *planning, struct restore_job *job)
{
    *planning = (struct planning){.job = job};
    planning->in_thread = pthread_create(&planning->thread, NULL, plan, planning) == 0;
    if (!planning->in_thread)
        (void)plan(planning);
}

static int planning_end(struct planning *planning)
{
    struct restore_job *job = planning->job;

    if (planning->in_thread)
        (void)pthread_join(planning->thread, NULL);
    job->is_planned = planning->why.status == 0;
    if (job->is_planned)
        resume_counter_go(job);
    if (planning->why.status != 0 && job->why != NULL)
        *job->why = planning->why;
    return planning->why.status;
}

static bool is_taken(int id)
{
    char path[32];
    struct stat stat;

    format_text(path, sizeof path, "/proc/%d", id);
    return sys_stat(path, &stat) == 0;
}

static bool becomes_free(int id, uint64_t give_up)
{
    while (is_taken(id)) {
        if (is_alive(id) || sys_clock_ns(CLOCK_MONOTONIC) > give_up)
            return false;
        sleep_ns(MS);
    }
    return true;
}

/* Are all ids free here? A process that is just going away is given a moment. */
static bool ids_are_free(const struct process_image *process)
{
    uint64_t give_up = sys_clock_ns(CLOCK_MONOTONIC) + BUSY_PID_WAIT_NS;
    bool free = true;

    for (uint32_t i = 0; i < process->thread_count && free; i++)
        free = becomes_free(process->threads[i].record->tid, give_up);
    for (uint32_t i = 0; i < process->child_count && free; i++)
        free = becomes_free(process->children[i]->pid, give_up);
    return free;
}

static int build(struct restore_job *job, bool in_user_namespace, int *pid)
{
    struct spawned spawned;
    struct planning planning;
    int plan_status = 0, status;

    if (!job->is_planned)
        planning_begin(&planning, job);
    status = spawn_stopped(job, in_user_namespace, &spawned);
    if (!job->is_planned)
        plan_status = planning_end(&planning);
    if (status != 0)
        return plan_status != 0 ? plan_status : status;
    *pid = spawned.leader.tid;
    status = plan_status != 0 ? plan_status : drive_rebuild(job, &spawned);
    if (status != 0)
        child_kill(spawned.leader.tid);
    return status;
}

static int build_anywhere(struct restore_job *job, struct restored *out)
{
    uint64_t give_up = sys_clock_ns(CLOCK_MONOTONIC) + BUSY_PID_WAIT_NS;
    int status = -EEXIST;

    *out = (struct restored){.generation = job->generation.number, .status_fd = -1};
    if (clocks_are_behind(&job->process)) {
        int shifted = clocks_shift(&job->process);

        job->shifts_clocks = shifted == -EPERM; /* an own user namespace may permit it */
        if (shifted != 0 && !job->shifts_clocks)
            clocks_say_behind(&job->process, shifted);
    }
    if (!job->shifts_clocks && ids_are_free(&job->process)) {
        /* An id may be in use still as that of a group or session whose last member is dying. */
        while ((status = build(job, false, &out->pid)) == -EEXIST &&
               sys_clock_ns(CLOCK_MONOTONIC) < give_up)
            sleep_ns(MS);
        out->outer_pid = out->pid;
    }
    if (status == -EEXIST || status == -EPERM)
        status = spawn_namespace(job, build, out);
    return status;
}

static int restore_locked(struct restore_job *job, uint64_t wanted, struct restored *out)
{
    int status = resume_choose(&job->pool.super, wanted, &job->generation, job->why);
    uint64_t held;

    if (status != 0)
        return status;
    job->lock_fd = pool_lock_generation(&job->pool, job->generation.number, job->why);
    if (job->lock_fd < 0)
        return job->lock_fd;
    status = read_record(job);
    if (status == 0)
        status = check(job);
    held = restore_hold_signals(); /* one that ended us now would leave the counter behind */
    if (status == 0)
        status = resume_counter_start(job);
    if (status == 0)
        status = build_anywhere(job, out);
    if (status == 0)
        out->connections = job->keeps_connections ? connections_count(&job->process) : 0;
    resume_counter_end(job);
    if (status != 0)
        restore_release_signals(held);
    (void)sys_close(job->lock_fd);
    return status;
}

/* An ignored SIGCHLD would let the program vanish unwaited; its agent, an orphan when the program
 * ends, comes to us, so that we end after it. */
static void become_parent(void)
{
    struct {
        uint64_t handler, flags, restorer, mask;
    } default_action = {0};

    (void)sys_call(SYS_rt_sigaction, SIGCHLD, &default_action, 0, 8);
    (void)sys_call(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* Descriptors of ours must not take the numbers of streams that we were started without. */
static void fill_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (sys_call(SYS_fcntl, fd, F_GETFD) == -EBADF)
            (void)sys_open("/dev/null", O_RDWR, 0);
}

int restore_process(const struct restore_options *options, struct restored *out,
                    struct problem *why)
{
    struct restore_job job = {.why = why,
                              .verbose = options->verbose,
                              .keeps_files = options->keeps_files,
                              .keeps_connections = options->tcp_established,
                              .terminal = terminal_of_restorer(),
                              .began_ns = sys_clock_ns(CLOCK_MONOTONIC),
                              .lock_fd = -1,
                              .count_fd = -1};
    int status = arena_create(&job.arena, ARENA_BYTES);

    if (status == 0)
        status = arena_create(&job.plan_arena, ARENA_BYTES);
    if (status == 0)
        status = arena_create(&job.half_arena, ARENA_BYTES);
    if (status != 0)
        return problem_set(why, status, "no address space for the restore");
    become_parent();
    /* The new process inherits these until it gets the program's own, at the end. */
    (void)limit_raise(RLIMIT_NOFILE);
    (void)limit_raise(RLIMIT_FSIZE);
    fill_standard_streams();
    status = check_descriptors(&job, STREAMS + descriptors_room(&job.process));
    if (status == 0)
        status = open_for_writing(&job, options->pool_path);
    if (status == 0) {
        status = restore_locked(&job, options->generation, out);
        pool_close(&job.pool);
    }
    arena_destroy(&job.half_arena);
    arena_destroy(&job.plan_arena);
    arena_destroy(&job.arena);
    return status;
}
