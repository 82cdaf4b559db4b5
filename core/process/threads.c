/*
 * threads.c - record_thread: registers and what the kernel keeps for one thread: robust list,
 * clear-tid address, rseq, alternate stack, blocked signals, name.
 *
 * Always true: the saved registers are such that a new kernel, which knows nothing of an
 * interrupted call or of a restartable sequence, goes on correctly from them; the running
 * thread's own are not touched, but for one inside a restartable sequence: that is over for it too.
 */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/capture_run.h"
#include "core/process/errand.h"
#include "core/process/proc_text.h"
#include "core/process/rebuild.h"
#include "core/process/syscall_restart.h"

#define GET_RSEQ_CONFIGURATION 0x420f
#define RSEQ_CS_OFFSET         8 /* of the rseq_cs pointer in struct rseq */
#define ALTSTACK_ON            1u
#define ALTSTACK_DISABLED      2u
#define CLONE_THREAD_FLAGS                                                                         \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |            \
     CLONE_PTRACE)

_Static_assert(sizeof(struct user_regs_struct) == RECORD_REGISTERS * 8, "as recorded");

struct rseq_configuration { /* of the kernel's ptrace interface */
    uint64_t address;
    uint32_t bytes;
    uint32_t signature;
    uint32_t flags;
    uint32_t pad;
};

struct rseq_section { /* struct rseq_cs */
    uint32_t version, flags;
    uint64_t start, length, abort;
};

/*
 * A thread stopped inside a restartable sequence begins again at its abort handler, as the kernel
 * has it after any preemption. So does the running thread: what is run in it below takes it to
 * user mode outside of the sequence, whereupon the kernel forgets that it was in one, and would let
 * it go on in the middle.
 */
static void leave_rseq_section(int pid, uint64_t rseq, struct tracee *tracee)
{
    struct user_regs_struct *regs = &tracee->regs;
    struct rseq_section section;
    uint64_t address = 0;

    if (process_memory_read(pid, rseq + RSEQ_CS_OFFSET, &address, sizeof address) != 0 ||
        address == 0)
        return;
    if (process_memory_read(pid, address, &section, sizeof section) != 0)
        return;
    if (regs->rip - section.start < section.length) {
        regs->rip = section.abort;
        tracee->regs_changed = true;
    }
}

static int capture_rseq(const struct capture_run *run, const struct tracee *tracee,
                        struct record_thread *record)
{
    struct rseq_configuration rseq = {0};
    long got;

    if (tracee->halt) {
        const struct capture_rseq *own = &run->capture->rseq;

        record->rseq_address = own->bytes ? tracee->regs.fs_base + (uint64_t)own->offset : 0;
        record->rseq_bytes = own->bytes;
        record->rseq_signature = own->bytes ? own->signature : 0;
        return 0;
    }
    got = sys_call(SYS_ptrace, GET_RSEQ_CONFIGURATION, tracee->tid, sizeof rseq, &rseq);

    if (got == -EIO || got == -EINVAL)
        return 0; /* a kernel without rseq */
    if (got < 0)
        return (int)got;
    record->rseq_address = rseq.address;
    record->rseq_bytes = rseq.address != 0 ? rseq.bytes : 0;
    record->rseq_signature = rseq.address != 0 ? rseq.signature : 0;
    return 0;
}

static void capture_thread_name(struct capture_run *run, struct record_thread *record)
{
    char name[64];
    ssize_t length;

    format_text(name, sizeof name, "task/%d/comm", record->tid);
    length = proc_read(run->capture->pid, name, run->text, CAPTURE_TEXT_BYTES);
    if (length > 0 && run->text[length - 1] == '\n')
        length--;
    if (length > 0)
        memcpy(record->name, run->text, length < 15 ? (size_t)length : 15);
}

static int thread_problem(struct capture_run *run, const struct tracee *tracee, int status)
{
    return problem_set(run->why, status, "thread %d: %s", tracee->tid, status_text(status));
}

static int capture_thread(struct capture_run *run, struct tracee *tracee,
                          const struct parasite_thread *report, struct record_thread *record)
{
    struct user_regs_struct regs = tracee->regs;
    int status = (int)sys_call(SYS_get_robust_list, tracee->tid, &record->robust_head,
                               &record->robust_bytes);

    if (status != 0)
        return thread_problem(run, tracee, status);
    syscall_restart_for_image(&regs);
    memcpy(record->registers, &regs, sizeof regs);
    record->xstate_bytes = tracee->xstate_bytes;
    record->clear_tid_address = report->clear_tid_address;
    record->altstack = report->altstack.sp;
    record->altstack_bytes = report->altstack.bytes;
    record->altstack_flags = (uint32_t)report->altstack.flags;
    record->nice = 20 - (int32_t)sys_call(SYS_getpriority, PRIO_PROCESS, tracee->tid);
    capture_thread_name(run, record);
    record_put(run->out, RECORD_THREAD, record, sizeof *record, tracee->xstate,
               tracee->xstate_bytes);
    return capture_thread_attributes(run, tracee->tid, report);
}

/* Of so many threads at once, each on a part of the stack: on a busy machine what takes long is
 * that a thread gets a processor, and they do not wait for one another. */
#define REPORTS_AT_ONCE (CAPTURE_STACK_BYTES / ERRAND_STACK_BYTES)

struct reports {
    struct parasite_thread said[REPORTS_AT_ONCE];
    struct record_thread records[REPORTS_AT_ONCE];
};

static uintptr_t stack_of(const struct capture_run *run, uint32_t place)
{
    return run->capture->call_stack_top - place * ERRAND_STACK_BYTES;
}

static int start_report(struct capture_run *run, struct tracee *tracee, uint32_t place,
                        struct reports *reports)
{
    struct parasite_thread *said = &reports->said[place];
    struct record_thread *record = &reports->records[place];
    int status = tracee_read_xstate(tracee);

    *record = (struct record_thread){.tid = tracee->tid, .signal_mask = tracee->signal_mask};
    *said =
        (struct parasite_thread){.process = tracee == run->capture->threads ? run->report : NULL};
    if (status == 0)
        status = capture_rseq(run, tracee, record);
    if (status == 0 && record->rseq_address != 0)
        leave_rseq_section(capture_memory_pid(run), record->rseq_address, tracee);
    if (status == 0)
        status = errand_start(tracee, parasite_collect, said, stack_of(run, place),
                              run->capture->tracer);
    return status == 0 ? 0 : thread_problem(run, tracee, status);
}

/* All that were started are waited for, whatever becomes of one: none may run when they are let go
 * with their own registers. */
static int collect_reports(struct capture_run *run, struct tracee *threads, uint32_t count,
                           struct reports *reports)
{
    uint32_t started = 0;
    int status = 0;

    while (status == 0 && started < count) {
        status = start_report(run, &threads[started], started, reports);
        started += status == 0;
    }
    for (uint32_t i = 0; i < started; i++) {
        int recalled = errand_recall(&threads[i], stack_of(run, i));

        if (recalled < 0 && status == 0)
            status = thread_problem(run, &threads[i], recalled);
    }
    for (uint32_t i = 0; i < started; i++) {
        long said = 0;
        int ended = errand_finish(&threads[i], stack_of(run, i), &said);

        ended = ended == 0 ? (int)said : ended;
        if (ended != 0 && status == 0)
            status = thread_problem(run, &threads[i], ended);
    }
    return status;
}

int capture_threads(struct capture_run *run)
{
    struct tracee *threads = run->capture->threads;
    uint32_t left = run->capture->thread_count, count;
    struct reports reports;
    int status = 0;

    for (; left > 0 && status == 0; left -= count, threads += count) {
        count = left < REPORTS_AT_ONCE ? left : REPORTS_AT_ONCE;
        status = collect_reports(run, threads, count, &reports);
        for (uint32_t i = 0; i < count && status == 0; i++)
            status = capture_thread(run, &threads[i], &reports.said[i], &reports.records[i]);
    }
    return status;
}

/*
 * The new thread is traced like its maker (CLONE_PTRACE) and stops before its first instruction,
 * so it never runs on the maker's stack; the maker itself is not stopped by it.
 */
void rebuild_thread_create(struct rebuild *rebuild, uint32_t index)
{
    const struct record_thread *thread = rebuild->image->threads[index].record;
    struct batch *batch = rebuild->batch;
    uint64_t tid = batch_data(batch, &thread->tid, sizeof thread->tid);
    uint64_t args[11] = {
        /* struct clone_args */
        [0] = CLONE_THREAD_FLAGS,
        [8] = tid,
        [9] = 1, /* how many ids at set_tid */
    };

    batch_add(batch, rebuild_text(rebuild, "thread %d", thread->tid), SYS_clone3,
              BATCH_ARGS(batch_data(batch, args, sizeof args), sizeof args));
    batch_expect(batch, thread->tid);
}

static void rebuild_altstack(struct rebuild *rebuild, const struct record_thread *thread)
{
    uint64_t stack[3] = {thread->altstack, thread->altstack_flags & ~ALTSTACK_ON,
                         thread->altstack_bytes};

    if (thread->altstack_flags & ALTSTACK_DISABLED)
        return;
    batch_add(rebuild->batch, "alternate signal stack", SYS_sigaltstack,
              BATCH_ARGS(batch_data(rebuild->batch, stack, sizeof stack), 0));
}

void rebuild_thread(struct rebuild *rebuild, uint32_t index)
{
    const struct record_thread *thread = rebuild->image->threads[index].record;
    struct batch *batch = rebuild->batch;

    batch_add(batch, "name", SYS_prctl,
              BATCH_ARGS(PR_SET_NAME, batch_data(batch, thread->name, sizeof thread->name)));
    if (thread->robust_head != 0)
        batch_add(batch, "robust list", SYS_set_robust_list,
                  BATCH_ARGS(thread->robust_head, thread->robust_bytes));
    batch_add(batch, "clear-tid address", SYS_set_tid_address,
              BATCH_ARGS(thread->clear_tid_address));
    rebuild_altstack(rebuild, thread);
    if (thread->nice != 0) {
        batch_add(batch, "nice value", SYS_setpriority,
                  BATCH_ARGS(PRIO_PROCESS, 0, (uint64_t)(int64_t)thread->nice));
        batch_may_fail(batch); /* a lower one needs a privilege; the program runs without */
    }
    rebuild_thread_attributes(rebuild, index);
    if (thread->rseq_address != 0)
        batch_add(batch, "rseq", SYS_rseq,
                  BATCH_ARGS(thread->rseq_address, thread->rseq_bytes, 0, thread->rseq_signature));
}
