/*
 * drive.c - makes the saved process out of the stopped executable, from the outside.
 *
 * The order, each step a batch of system calls that the process runs by itself:
 *   1. scratch memory with the executor; all but scratch and vdso unmapped; vdso moved
 *   2. mappings, contents, final protections, memory layout
 *   3. descriptors, signal actions, identity, the other threads (stopped), timers
 *   4. in each thread: what the kernel keeps for it; capabilities dropped
 *   5. private descriptors closed; the pool's writer lock let go and, in the leader, the resume
 *      entry called: the new agent takes the lock
 *   6. scratch unmapped, registers and masks set, all detached
 *
 * Always true: up to step 6 the process is traced and dies with us; whoever else took the pool's
 * lock in step 5 makes the new agent fail, and then this process is killed: of two restores at the
 * same time one goes on.
 */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/capture.h"
#include "core/process/connections.h"
#include "core/process/rebuild.h"
#include "recovery/restore/job.h"

#define SCRATCH_LOWEST 0x100000000ull
#define STACK_ROOM_MAX (64ull << 20)
#define VDSO_TEXT_MAX  (64u << 10)
#define EVENT_STOP     128 /* PTRACE_EVENT_STOP */
#define FIXED_CALLS    1024
#define FIXED_DATA     (256u << 10)

struct drive {
    struct restore_job *job;
    struct tracee *leader;
    bool ambient;
    struct tracee *threads; /* all but the leader, at [1] on */
    struct address_space now;
    struct batch batch;
    struct rebuild rebuild;
    uintptr_t scratch;
    size_t scratch_bytes;
};

static int fail(const struct drive *drive, int status, const char *what)
{
    return problem_set(drive->job->why, status, "rebuilding the process: %s: %s", what,
                       status_text(status));
}

/* Where `bytes` of 0f 05 (syscall) are in the vdso, wherever it is now; 0: nowhere. */
static uintptr_t find_syscall(const struct drive *drive, uintptr_t start, size_t bytes)
{
    uint8_t *text = bytes <= VDSO_TEXT_MAX ? arena_alloc(&drive->job->arena, bytes, 16) : NULL;

    if (text == NULL || process_memory_read(drive->leader->tid, start, text, bytes) != 0)
        return 0;
    for (size_t i = 0; i + 1 < bytes; i++)
        if (text[i] == 0x0f && text[i + 1] == 0x05)
            return start + i;
    return 0;
}

static uintptr_t present_syscall(const struct drive *drive)
{
    for (uint32_t i = 0; i < drive->now.count; i++) {
        const struct mapping *mapping = &drive->now.mappings[i];

        if (mapping->kind == MAPPING_VDSO && (mapping->prot & PROT_EXEC))
            return find_syscall(drive, mapping->start, mapping->end - mapping->start);
    }
    return 0;
}

static uintptr_t final_syscall(const struct drive *drive)
{
    const struct process_image *image = &drive->job->process;

    for (uint32_t i = 0; i < image->kernel_mapping_count; i++) {
        const struct record_kernel_mapping *mapping = image->kernel_mappings[i].record;

        if (mapping->is_text)
            return find_syscall(drive, mapping->start, mapping->end - mapping->start);
    }
    return 0;
}

/* The end of something that lies in [start, start + bytes), 0 if nothing does. */
static uintptr_t taken_until(const struct drive *drive, uintptr_t start, size_t bytes)
{
    const struct process_image *image = &drive->job->process;
    uintptr_t end = start + bytes, until = 0;

    for (uint32_t i = 0; i < drive->now.count; i++)
        if (drive->now.mappings[i].start < end && drive->now.mappings[i].end > start)
            until = drive->now.mappings[i].end;
    for (uint32_t i = 0; i < image->mapping_count; i++)
        if (image->mappings[i].record->start < end && image->mappings[i].record->end > start &&
            image->mappings[i].record->end > until)
            until = image->mappings[i].record->end;
    for (uint32_t i = 0; i < image->kernel_mapping_count; i++)
        if (image->kernel_mappings[i].record->start < end &&
            image->kernel_mappings[i].record->end > start &&
            image->kernel_mappings[i].record->end > until)
            until = image->kernel_mappings[i].record->end;
    return until;
}

/* How many calls and how much data the largest batch has. */
static void batch_size(const struct restore_job *job, size_t *calls, size_t *data)
{
    const struct process_image *image = &job->process;

    *calls = FIXED_CALLS + image->mapping_count * 10ul + image->descriptor_count * 2ul +
             image->description_count * 10ul + image->pipe_count * 8ul + image->watch_count +
             image->thread_count * 2ul + image->posix_timer_count * 2ul + image->pending_count +
             image->lock_count + image->socket_count * 24ul + image->socket_option_count * 4ul +
             image->socket_message_count;
    *data = FIXED_DATA + image->thread_count * 160ul + image->mapping_count * 96ul +
            image->watch_count * 32ul + image->posix_timer_count * 160ul +
            image->description_count * 160ul + image->pending_count * 144ul +
            image->lock_count * 48ul + image->socket_count * 1024ul +
            image->socket_option_count * 128ul;
    *calls += contents_calls(job);
    for (uint32_t i = 0; i < image->mapping_count; i++)
        if (image->mappings[i].record->file != RECORD_ID_NONE &&
            !(image->mappings[i].record->flags & RECORD_MAPPING_OBJECT))
            *data += strlen(image->files[image->mappings[i].record->file].path) + 32;
    for (uint32_t i = 0; i < image->description_count; i++)
        *data += strlen(image->descriptions[i].path) + 32;
    for (uint32_t i = 0; i < image->pipe_count; i++)
        *data += image->pipes[i].record->content_bytes + 64ul;
    inotify_size(image, calls, data);
    children_size(image, calls, data);
    *calls += image->object_count * 12ul + image->object_part_count;
    for (uint32_t i = 0; i < image->object_count; i++)
        *data += 2 * strlen(image->objects[i].name) + 128;
    for (uint32_t i = 0; i < image->object_part_count; i++)
        *data += image->object_parts[i].bytes + 96ul;
    for (uint32_t i = 0; i < image->socket_message_count; i++)
        *data += image->socket_messages[i].bytes + 32ul;
}

static int map_scratch(struct drive *drive, size_t calls, size_t data)
{
    const uint64_t flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    uintptr_t syscall_address = present_syscall(drive), until;
    long result;
    int status;

    if (syscall_address == 0)
        return fail(drive, STATUS_UNSUPPORTED, "no system call instruction in the vdso");
    drive->scratch_bytes = batch_area_bytes(calls, data) + STAGING_BYTES;
    drive->scratch = SCRATCH_LOWEST;
    while ((until = taken_until(drive, drive->scratch, drive->scratch_bytes)) != 0)
        drive->scratch = until;
    status = tracee_syscall(
        drive->leader, syscall_address, SYS_mmap,
        BATCH_ARGS(drive->scratch, drive->scratch_bytes, PROT_READ | PROT_WRITE, flags, -1ul, 0),
        &result);
    if (status == 0 && result != (long)drive->scratch)
        status = sys_failed(result) ? (int)result : -ENOMEM;
    if (status == 0)
        status = batch_create(&drive->batch, &drive->job->arena, drive->scratch + STAGING_BYTES,
                              calls, data);
    if (status == 0)
        status = batch_install(&drive->batch, drive->leader->tid);
    if (status == 0)
        status = tracee_syscall(drive->leader, syscall_address, SYS_mprotect,
                                BATCH_ARGS(drive->batch.base, PAGE_BYTES, PROT_READ | PROT_EXEC),
                                &result);
    if (status == 0)
        status = (int)result;
    return status == 0 ? 0 : fail(drive, status, "scratch memory");
}

static void read_streams(const struct drive *drive, struct rebuild *rebuild)
{
    for (int i = 0; i < 3; i++) {
        char termios[64];
        long flags = sys_call(SYS_fcntl, i, F_GETFL);

        rebuild->stdio_fd[i] = flags < 0 ? -1 : rebuild->first_private_fd + PRIVATE_STDIO + i;
        rebuild->stdio_flags[i] = flags < 0 ? 0 : (int)flags;
        rebuild->stdio_terminal[i] = sys_call(SYS_ioctl, i, 0x5401 /* TCGETS */, termios) == 0;
    }
    rebuild->terminal = drive->job->terminal;
}

/* What it takes to do with another kernel's vdso: the text of the old one, and a place that neither
 * the program nor we have anything at. */
static int read_vdso(struct drive *drive)
{
    struct restore_job *job = drive->job;
    const struct record_saved_vdso *saved = job->process.vdso;
    struct rebuild *rebuild = &drive->rebuild;
    uintptr_t until;
    int status;

    if (saved == NULL)
        return 0;
    rebuild->vdso_text = arena_alloc(&job->arena, saved->bytes, 16);
    if (rebuild->vdso_text == NULL)
        return fail(drive, -ENOMEM, "the vdso");
    status = image_read(&job->image, saved->first_page << PAGE_SHIFT, rebuild->vdso_text,
                        saved->bytes, job->why);
    rebuild->vdso_place = drive->scratch + drive->scratch_bytes;
    while ((until = taken_until(drive, rebuild->vdso_place, STAGING_BYTES)) != 0)
        rebuild->vdso_place = until;
    return status;
}

static int prepare(struct drive *drive)
{
    struct restore_job *job = drive->job;
    struct rebuild *rebuild = &drive->rebuild;
    uint64_t stack = job->process.limits->limits[RLIMIT_STACK].soft;
    size_t calls, data;
    char path[64];
    int status;

    format_text(path, sizeof path, "/proc/%d/maps", drive->leader->tid);
    status = maps_read(&drive->now, path, &job->arena);
    if (status < 0)
        return fail(drive, status, path);
    batch_size(job, &calls, &data);
    status = map_scratch(drive, calls, data);
    if (status < 0)
        return status;
    *rebuild = (struct rebuild){
        .image = &job->process,
        .batch = &drive->batch,
        .arena = &job->arena,
        .why = job->why,
        .staging = drive->scratch,
        .widened = job->widened,
        .personality_now = identity_personality(drive->leader->tid),
        .stack_limit_bytes = stack < STACK_ROOM_MAX ? stack : STACK_ROOM_MAX,
        .first_private_fd = job->first_private_fd,
        .keeps_connections = job->keeps_connections,
    };
    read_streams(drive, rebuild);
    return read_vdso(drive);
}

static int run(struct drive *drive, int status)
{
    return status == 0 ? batch_run(&drive->batch, drive->leader, drive->job->why)
           : drive->job->why != NULL && drive->job->why->status == status
               ? status
               : fail(drive, status, "a list of system calls");
}

static int rebuild_memory(struct drive *drive)
{
    struct rebuild *rebuild = &drive->rebuild;
    int status;

    rebuild_children(rebuild);
    rebuild_empty(rebuild, &drive->now, drive->scratch, drive->scratch + drive->scratch_bytes);
    status = run(drive, rebuild_kernel_mappings(rebuild, &drive->now, drive->leader->tid));
    if (status == 0)
        status = rebuild_vdso(rebuild, drive->leader->tid);
    if (status == 0) {
        rebuild_objects(rebuild);
        status = rebuild_mappings(rebuild);
    }
    if (status == 0)
        status = contents_add(drive->job, &drive->batch);
    status = run(drive, status);
    if (status == 0)
        status = contents_fill(drive->job, drive->leader->tid);
    if (status != 0)
        return status;
    rebuild_protections(rebuild);
    rebuild_memory_attributes(rebuild);
    rebuild_memory_layout(rebuild);
    return run(drive, 0);
}

static int rebuild_process(struct drive *drive)
{
    struct rebuild *rebuild = &drive->rebuild;
    int status = rebuild_descriptors(rebuild);

    rebuild_signal_actions(rebuild);
    rebuild_identity(rebuild);
    for (uint32_t i = 1; i < drive->job->process.thread_count; i++)
        rebuild_thread_create(rebuild, i);
    rebuild_timers(rebuild);
    rebuild_pending_signals(rebuild);
    rebuild_terminal(rebuild);
    status = run(drive, status);
    return status == 0 && rebuild->keeps_connections
               ? connections_make(rebuild->image, drive->leader->tid, drive->job->why)
               : status;
}

static void say_guarded(int status)
{
    char line[256];
    size_t length = format_text(
        line, sizeof line,
        "pheap restore: its table of the packet filter cannot be removed (%s): who is still "
        "connected is not told that the connection is gone; restore as root, or nft delete table\n",
        status_text(status));

    (void)sys_write(2, line, length);
}

/* The guard of a newer generation stands, with which this one has nothing to do. A crash image has
 * none: after a kill the packet filter is not asked for anything. */
static bool may_be_guarded(const struct restore_job *job)
{
    const struct superblock *super = &job->pool.super;
    bool guarded = connections_count(&job->process) > 0;

    for (uint32_t i = 0; i < super->generation_count && !guarded; i++)
        guarded = super->generations[i].kind == GENERATION_PROCESS &&
                  super->generations[i].number > job->generation.number;
    return guarded;
}

/* The last thing that may fail, and what cannot be done again. Whoever lets the connections be
 * reset has the guard removed as well: the other side is to know. */
static int wake_connections(struct drive *drive)
{
    struct restore_job *job = drive->job;
    int status = may_be_guarded(job) ? guard_remove(job->pool.super.uuid) : 0;

    if (connections_count(&job->process) == 0)
        return 0;
    if (status == -EPROTONOSUPPORT || status == -EOPNOTSUPP)
        status = 0; /* then there was none */
    if (!job->keeps_connections) {
        if (status != 0)
            say_guarded(status);
        return 0;
    }
    if (status != 0)
        return fail(drive, status, "removing its table of the packet filter");
    return connections_wake(&job->process, drive->leader->tid, job->why);
}

/* The stop before a new thread's first instruction. */
static int wait_thread(struct tracee *thread, int tid)
{
    int stop;
    long got;

    while ((got = sys_call(SYS_wait4, tid, &stop, __WALL, 0)) == -EINTR)
        ;
    if (got < 0 || !WIFSTOPPED(stop) || stop >> 16 != EVENT_STOP)
        return got < 0 ? (int)got : -ESRCH;
    thread->tid = tid;
    thread->state = TRACEE_STOPPED;
    return tracee_read_registers(thread);
}

static void drop_capabilities(struct drive *drive)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    struct batch *batch = &drive->batch;

    if (!drive->ambient)
        return;
    batch_add(batch, "ambient capabilities", SYS_prctl,
              BATCH_ARGS(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    batch_add(batch, "capabilities", SYS_capset,
              BATCH_ARGS(batch_data(batch, &header, sizeof header),
                         batch_data(batch, none, sizeof none)));
}

/* A registration of rseq must not find a section that the thread has left. */
static int clear_rseq_section(const struct tracee *thread, const struct record_thread *saved)
{
    const uint64_t none = 0;

    return saved->rseq_address != 0
               ? process_memory_write(thread->tid, saved->rseq_address + 8, &none, sizeof none)
               : 0;
}

static int rebuild_one_thread(struct drive *drive, struct tracee *thread, uint32_t index)
{
    const struct image_thread *saved = &drive->job->process.threads[index];
    int status = clear_rseq_section(thread, saved->record);

    if (status == 0) {
        rebuild_thread(&drive->rebuild, index);
        drop_capabilities(drive);
        if (index == 0)
            batch_add(&drive->batch, "close", SYS_close_range,
                      BATCH_ARGS((uint64_t)drive->job->first_private_fd, ~0u, 0));
        status = batch_run(&drive->batch, thread, drive->job->why);
        if (status < 0)
            return status;
    }
    memcpy(&thread->regs, saved->record->registers, sizeof thread->regs);
    thread->signal_mask = saved->record->signal_mask;
    thread->xstate = arena_alloc(&drive->job->arena, TRACEE_XSTATE_BYTES_MAX, 64);
    if (thread->xstate == NULL)
        return fail(drive, -ENOMEM, "registers");
    memcpy(thread->xstate, saved->xstate, saved->record->xstate_bytes);
    thread->xstate_bytes = saved->record->xstate_bytes;
    return status == 0 ? 0 : fail(drive, status, "rseq");
}

static int rebuild_threads(struct drive *drive)
{
    uint32_t count = drive->job->process.thread_count;
    int status = 0;

    drive->threads = arena_alloc(&drive->job->arena, count * sizeof *drive->threads, 16);
    if (drive->threads == NULL)
        return fail(drive, -ENOMEM, "threads");
    for (uint32_t i = 1; i < count && status == 0; i++) {
        int tid = drive->job->process.threads[i].record->tid;

        status = wait_thread(&drive->threads[i], tid);
        status = status < 0 ? fail(drive, status, "a new thread")
                            : rebuild_one_thread(drive, &drive->threads[i], i);
    }
    return status == 0 ? rebuild_one_thread(drive, drive->leader, 0) : status;
}

static void release_pool(struct pool *pool)
{
    struct flock lock = {
        .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTE_WRITER, .l_len = 1};

    (void)sys_call(SYS_fcntl, pool->fd, F_OFD_SETLK, &lock);
}

/* The program's own code starts its new agent, which takes the lock that we let go. */
static int start_agent(struct drive *drive)
{
    struct restore_job *job = drive->job;
    struct resume_arguments *arguments = arena_alloc(&job->arena, sizeof *arguments, 16);
    uint64_t address = batch_room(&drive->batch, sizeof *arguments);
    long result = 0;
    int status = arguments != NULL && address != 0 ? 0 : -ENOMEM;

    if (status == 0) {
        arguments->generation = job->generation.number;
        memcpy(arguments->pool_path, job->pool.path, strlen(job->pool.path) + 1);
        status = process_memory_write(drive->leader->tid, address, arguments, sizeof *arguments);
    }
    release_pool(&job->pool);
    if (status == 0)
        status =
            tracee_call(drive->leader, job->process.process->resume_entry, address,
                        batch_stack_top(&drive->batch), batch_trap_address(&drive->batch), &result);
    if (status == 0)
        status = (int)result;
    return status >= 0 ? 0 : fail(drive, status, "starting its agent");
}

/* Behind the agent's start, whose reservations are not for the program to lock. */
static int lock_future(struct drive *drive, uintptr_t syscall_address)
{
    uint32_t flags = drive->job->process.process->flags;
    uint64_t locks =
        MCL_FUTURE | (flags & RECORD_LOCKS_FUTURE_ON_FAULT ? (uint64_t)MCL_ONFAULT : 0);
    long ignored; /* what it may lock is up to RLIMIT_MEMLOCK; the program runs without */

    return flags & RECORD_LOCKS_FUTURE
               ? tracee_syscall(drive->leader, syscall_address, SYS_mlockall,
                                BATCH_ARGS(locks, 0, 0, 0, 0, 0), &ignored)
               : 0;
}

static int set_thread(struct drive *drive, struct tracee *thread)
{
    int status = tracee_write_xstate(thread);

    if (status < 0)
        return fail(drive, status, "extended registers (another processor?)");
    status = tracee_write_registers(thread);
    if (status == 0)
        status = tracee_set_signal_mask(thread, thread->signal_mask);
    return status < 0 ? fail(drive, status, "registers") : 0;
}

static int let_go(struct drive *drive)
{
    uint32_t count = drive->job->process.thread_count;
    uintptr_t syscall_address = final_syscall(drive);
    long result = 0;
    int status = syscall_address != 0
                     ? tracee_syscall(drive->leader, syscall_address, SYS_munmap,
                                      BATCH_ARGS(drive->scratch, drive->scratch_bytes), &result)
                     : STATUS_UNSUPPORTED;

    if (status == 0)
        status = (int)result;
    if (status == 0)
        status = lock_future(drive, syscall_address);
    if (status < 0)
        return fail(drive, status, "unmapping scratch memory");
    status = wake_connections(drive);
    if (status < 0)
        return status;
    for (uint32_t i = 1; i < count && status == 0; i++)
        status = set_thread(drive, &drive->threads[i]);
    if (status == 0)
        status = set_thread(drive, drive->leader);
    rebuild_limits(&drive->job->process, drive->leader->tid);
    for (uint32_t i = 1; i < count && status == 0; i++)
        status = tracee_detach(&drive->threads[i]);
    if (status == 0)
        status = tracee_detach(drive->leader);
    return status == 0 ? 0 : fail(drive, status, "letting it go");
}

/* Before memory is mapped: a file that is gone may be mapped too. */
static int put_files_back(struct drive *drive)
{
    struct restore_job *job = drive->job;
    int status = job->process.content_count > 0 ? resume_counter_wait(job) : 0;

    return status == 0 && job->process.content_count > 0 ? put_back(job) : status;
}

static int wait_for_resume_counter(struct drive *drive)
{
    return resume_counter_wait(drive->job);
}

int drive_rebuild(struct restore_job *job, struct spawned *spawned)
{
    static int (*const steps[])(struct drive *) = {
        prepare,         put_files_back,  rebuild_memory, wait_for_resume_counter,
        rebuild_process, rebuild_threads, start_agent,    let_go};
    static const char *const notes[] = {"executable stopped",
                                        "files put back",
                                        "memory mapped and read in",
                                        "resume counted",
                                        "files and threads made",
                                        "threads ready",
                                        "agent started",
                                        "let go"};
    struct drive drive = {.job = job, .leader = &spawned->leader, .ambient = spawned->ambient};
    int status = 0;

    for (size_t i = 0; i < sizeof steps / sizeof *steps && status == 0; i++) {
        status = steps[i](&drive);
        restore_note(job, notes[i]);
    }
    return status;
}
