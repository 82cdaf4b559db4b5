/*
 * identity.c - record_process and the working directory: who the process is to the kernel.
 *
 * Always true: what would change what the program may do, and cannot be given back (a seccomp
 * filter of its own, a changed root directory, groups, capabilities or namespaces), is refused.
 * Filters that the run began with are those of a container or a service: a restore is under those
 * of its own surroundings.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/credentials.h"
#include "core/process/mapped_files.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"

static int capture_status(struct capture_run *run, struct record_process *record)
{
    ssize_t bytes = proc_read(run->capture->pid, "status", run->text, CAPTURE_TEXT_BYTES);
    const char *ids;
    uint32_t filters;

    if (bytes < 0)
        return problem_set(run->why, (int)bytes, "/proc/%d/status: %s", run->capture->pid,
                           status_text((int)bytes));
    filters = run->capture->inherited_filters + (run->capture->denies_io_uring ? 1u : 0u);
    if (proc_seccomp_filters(run->text) != filters)
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "the program has put a seccomp filter on itself, which cannot be "
                           "checkpointed");
    if (run->capture->denies_io_uring)
        record->flags |= RECORD_DENIES_IO_URING;
    record->umask = (uint32_t)proc_number(run->text, "Umask", 8);
    if (proc_number(run->text, "NoNewPrivs", 10) != 0)
        record->flags |= RECORD_NO_NEW_PRIVILEGES;
    ids = proc_field(run->text, "Uid"); /* real, effective, saved, file system */
    if (ids != NULL) {
        (void)text_number(&ids, 10);
        ids++;
        record->uid = (uint32_t)text_number(&ids, 10);
    }
    ids = proc_field(run->text, "Gid");
    if (ids != NULL) {
        (void)text_number(&ids, 10);
        ids++;
        record->gid = (uint32_t)text_number(&ids, 10);
    }
    /* The agent is still who the program was; a restore would give it back that user's rights. */
    if (record->uid != (uint32_t)sys_call(SYS_geteuid) ||
        record->gid != (uint32_t)sys_call(SYS_getegid))
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "the program has changed its user or group (to %u:%u), which cannot be "
                           "checkpointed",
                           record->uid, record->gid);
    return credentials_check(run);
}

static void capture_kernel(struct record_process *record)
{
    struct utsname name;

    if (sys_call(SYS_uname, &name) != 0)
        return;
    name.release[sizeof record->kernel_release - 1] = 0;
    memcpy(record->kernel_release, name.release, strlen(name.release));
}

uint32_t identity_personality(int pid)
{
    char text[16];
    const char *at = text;

    return proc_read(pid, "personality", text, sizeof text) > 0 ? (uint32_t)text_number(&at, 16)
                                                                : 0;
}

/* run->text: as /proc/PID/exe shows it. */
static int capture_executable(struct capture_run *run, uint32_t *id)
{
    static const char deleted[] = " (deleted)";
    struct stat stat;

    if (!text_ends_with(run->text, deleted) || sys_stat(run->text, &stat) == 0)
        return capture_mapped_file(run, run->text, 0, false, id);
    run->text[strlen(run->text) - (sizeof deleted - 1)] = 0;
    return capture_deleted_file(run, run->text, 0, id);
}

int capture_process(struct capture_run *run)
{
    const struct capture *capture = run->capture;
    struct record_process record = {
        .version = RECORD_FORMAT_VERSION,
        .pid = capture->pid,
        .thread_count = capture->thread_count,
        .slot = capture->slot,
        .flags = memory_calls_flags(capture->memory_calls),
        .resume_entry = capture->resume_entry,
        .realtime_ns = sys_clock_ns(CLOCK_REALTIME),
        .monotonic_ns = sys_clock_ns(CLOCK_MONOTONIC),
    };
    struct record_clocks clocks = {.boottime_ns = sys_clock_ns(CLOCK_BOOTTIME)};
    char root[8];
    int status = capture_status(run, &record);

    if (status != 0)
        return status;
    if (capture->pid == 1)
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "the program is process 1 of a pid namespace, whose end is that of the "
                           "namespace: start it by pheap run, or under an init process "
                           "(docker run --init)");
    if (proc_readlink(capture->pid, "root", root, sizeof root) != 1)
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "the program has changed its root directory (chroot), which cannot be "
                           "checkpointed");
    record.personality = identity_personality(capture->pid);
    capture_kernel(&record);
    /* The executable is the first file, so its id is known before it is in the record. */
    record.executable = 0;
    record_put(run->out, RECORD_PROCESS, &record, sizeof record, NULL, 0);
    record_put(run->out, RECORD_CLOCKS, &clocks, sizeof clocks, NULL, 0);
    record_put(run->out, RECORD_PROCESSOR, capture_cache_processor(capture->cache),
               sizeof(struct record_processor), NULL, 0);
    status = proc_readlink(capture->pid, "exe", run->text, CAPTURE_TEXT_BYTES);
    if (status < 0)
        return problem_set(run->why, status, "/proc/%d/exe: %s", capture->pid, status_text(status));
    return capture_executable(run, &record.executable);
}

int capture_limits(struct capture_run *run)
{
    struct record_limits record;

    for (int i = 0; i < RECORD_LIMIT_COUNT; i++) {
        long status = sys_call(SYS_prlimit64, run->capture->pid, i, 0, &record.limits[i]);

        if (status < 0)
            return problem_set(run->why, (int)status, "resource limit %d: %s", i,
                               status_text((int)status));
    }
    record_put(run->out, RECORD_LIMITS, &record, sizeof record, NULL, 0);
    return 0;
}

/* A hard limit that an ordinary user may not raise stays; the soft one then goes up to it. */
void rebuild_limits(const struct process_image *image, int pid)
{
    for (int i = 0; i < RECORD_LIMIT_COUNT; i++) {
        uint64_t wanted[2] = {image->limits->limits[i].soft, image->limits->limits[i].hard};
        uint64_t present[2];

        if (sys_call(SYS_prlimit64, pid, i, wanted, 0) == 0 ||
            sys_call(SYS_prlimit64, pid, i, 0, present) != 0)
            continue;
        present[0] = wanted[0] < present[1] ? wanted[0] : present[1];
        (void)sys_call(SYS_prlimit64, pid, i, present, 0);
    }
}

int capture_directory(struct capture_run *run)
{
    int length = proc_readlink(run->capture->pid, "cwd", run->text, CAPTURE_TEXT_BYTES);
    struct stat by_name;

    if (length < 0)
        return problem_set(run->why, length, "/proc/%d/cwd: %s", run->capture->pid,
                           status_text(length));
    if (sys_stat(run->text, &by_name) != 0)
        return problem_set(run->why, STATUS_UNSUPPORTED,
                           "the program's working directory %s is gone", run->text);
    record_put(run->out, RECORD_DIRECTORY, NULL, 0, run->text, (size_t)length + 1);
    return 0;
}

void rebuild_identity(struct rebuild *rebuild)
{
    /* Kernels before 6.3 do not tell what the program had registered for, and an unregistered
     * expedited barrier fails with EPERM: all kinds are registered, which costs next to nothing. */
    static const uint64_t barriers[] = {MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
                                        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE,
                                        MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ};
    const struct process_image *image = rebuild->image;
    struct batch *batch = rebuild->batch;

    batch_add(batch,
              rebuild_text(rebuild, "its working directory %s must be there", image->directory),
              SYS_chdir, BATCH_ARGS(batch_string(batch, image->directory)));
    batch_add(batch, "umask", SYS_umask, BATCH_ARGS(image->process->umask & 0777));
    if (image->process->personality != rebuild->personality_now)
        batch_add(batch, "personality", SYS_personality, BATCH_ARGS(image->process->personality));
    for (size_t i = 0; i < sizeof barriers / sizeof *barriers; i++) {
        batch_add(batch, "membarrier", SYS_membarrier, BATCH_ARGS(barriers[i], 0, 0));
        batch_may_fail(batch);
    }
    rebuild_process_attributes(rebuild);
    if (image->process->flags & RECORD_NO_NEW_PRIVILEGES)
        batch_add(batch, "no_new_privs", SYS_prctl, BATCH_ARGS(PR_SET_NO_NEW_PRIVS, 1));
    rebuild_filter(rebuild);
}
