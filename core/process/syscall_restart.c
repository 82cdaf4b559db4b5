/*
 * syscall_restart.c - see syscall_restart.h; the rules are in syscall_rules.c, what runs in the
 * thread is in continuation.c.
 *
 * Always true: registers are changed only together with a continuation that was written whole; if
 * the thread's stack cannot be written, the call restarts with its full time or keeps its short
 * count. Memory of the program is reached by process_vm_readv and _writev only: it may be gone.
 */
#include "core/process/syscall_restart.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/sys.h"
#include "core/process/continuation.h"
#include "core/process/restart_block.h"
#include "core/process/syscall_rules.h"

/* The kernel's own, never seen by a program. */
#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

#define SYSCALL_BYTES  2
#define RED_ZONE_BYTES 128
#define MAX_RW_COUNT   0x7ffff000ull
#define NS_PER_SECOND  1000000000ull
#define LONGEST_NS     (INT64_MAX / 2) /* beyond it a timeout counts as none */
struct restart_table {
    uint64_t epoch;
    int pid, pidfd;
    struct begun_calls begun;
    struct continuation work; /* the one being built, as it will lie on the stack ... */
    struct iovec work_iov[CONTINUATION_IOVS_MAX]; /* ... with its vector behind it */
};

_Static_assert(offsetof(struct restart_table, work_iov) ==
                   offsetof(struct restart_table, work) + sizeof(struct continuation),
               "the vector lies right behind the continuation");

int restart_table_create(struct restart_table **out, struct arena *arena)
{
    struct restart_table *table = arena_alloc(arena, sizeof *table, 64);

    if (!table)
        return -ENOMEM;
    table->epoch = sys_clock_ns(CLOCK_MONOTONIC);
    table->pidfd = -1;
    *out = table;
    return 0;
}

static bool read_memory(uint64_t address, void *out, size_t bytes)
{
    struct iovec here = {out, bytes}, there = {(void *)address, bytes};

    return sys_call(SYS_process_vm_readv, sys_getpid(), &here, 1, &there, 1, 0) == (long)bytes;
}

static bool write_memory(uint64_t address, const void *data, size_t bytes)
{
    struct iovec here = {(void *)(uintptr_t)data, bytes}, there = {(void *)address, bytes};

    return sys_call(SYS_process_vm_writev, sys_getpid(), &here, 1, &there, 1, 0) == (long)bytes;
}

static bool follows_syscall(uint64_t rip)
{
    uint8_t code[SYSCALL_BYTES];

    return read_memory(rip - SYSCALL_BYTES, code, sizeof code) && code[0] == 0x0f &&
           code[1] == 0x05;
}

/* The kernel will issue the call again, or make it -EINTR if a handler runs. */
static void restart(struct tracee *tracee)
{
    tracee->regs.rax = (uint64_t)-ERESTARTNOHAND;
    tracee->regs_changed = true;
}

static uint64_t timespec_ns(const struct timespec *time)
{
    if (time->tv_sec < 0 || (uint64_t)time->tv_sec >= LONGEST_NS / NS_PER_SECOND)
        return LONGEST_NS;
    return (uint64_t)time->tv_sec * NS_PER_SECOND + (uint64_t)time->tv_nsec;
}

/* ---- building a continuation ------------------------------------------------------------- */

static void get_args(const struct user_regs_struct *regs, uint64_t args[6])
{
    args[0] = regs->rdi;
    args[1] = regs->rsi;
    args[2] = regs->rdx;
    args[3] = regs->r10;
    args[4] = regs->r8;
    args[5] = regs->r9;
}

static void begin(struct restart_table *table, const struct user_regs_struct *regs, uint32_t kind)
{
    struct continuation *work = &table->work;

    memset(work, 0, sizeof *work);
    work->rip = regs->rip;
    work->rsp = regs->rsp;
    work->eflags = regs->eflags;
    work->rdi = regs->rdi;
    work->rsi = regs->rsi;
    work->rdx = regs->rdx;
    work->r10 = regs->r10;
    work->r8 = regs->r8;
    work->r9 = regs->r9;
    work->magic = CONTINUATION_MAGIC;
    work->kind = kind;
    work->nr = regs->orig_rax;
    work->epoch = table->epoch;
    get_args(regs, work->args);
}

/* To be called once the length of the vector is known: addresses in the struct depend on it. */
static void place(struct restart_table *table)
{
    struct continuation *work = &table->work;
    size_t bytes = sizeof *work + work->iov_count * sizeof(struct iovec);

    work->self = (work->rsp - RED_ZONE_BYTES - bytes) & ~15ull;
}

/* Writes the continuation and sends the thread through it. */
static bool commit(struct restart_table *table, struct tracee *tracee)
{
    const struct continuation *work = &table->work;
    size_t bytes = sizeof *work + work->iov_count * sizeof(struct iovec);
    struct user_regs_struct *regs = &tracee->regs;

    if (!write_memory(work->self, work, bytes))
        return false;
    regs->rip = (uintptr_t)continuation_return;
    regs->rsp = work->self;
    regs->orig_rax = work->issue_nr;
    regs->rdi = work->issue_args[0];
    regs->rsi = work->issue_args[1];
    regs->rdx = work->issue_args[2];
    regs->r10 = work->issue_args[3];
    regs->r8 = work->issue_args[4];
    regs->r9 = work->issue_args[5];
    restart(tracee);
    return true;
}

/* ---- time left --------------------------------------------------------------------------- */

static void set_time_left(struct continuation *work, uint64_t left_ns)
{
    uint64_t in_place = work->self + offsetof(struct continuation, timeout);

    work->timeout.tv_sec = (time_t)(left_ns / NS_PER_SECOND);
    work->timeout.tv_nsec = (long)(left_ns % NS_PER_SECOND);
    work->args[work->timeout_argument] =
        syscall_rule(work->nr)->interrupted == INTERRUPTED_MILLISECONDS
            ? (left_ns + 999999) / 1000000
            : in_place;
    continuation_issue_call(work);
}

/* 0: none, or none that ends. */
static uint64_t timeout_of(const struct syscall_rule *rule, const uint64_t args[6])
{
    uint64_t value = args[rule->timeout_argument];
    struct timespec time;

    if (rule->interrupted == INTERRUPTED_MILLISECONDS)
        return (int32_t)value > 0 ? (uint64_t)(int32_t)value * 1000000 : 0;
    if (value == 0 || !read_memory(value, &time, sizeof time))
        return 0;
    return timespec_ns(&time) == LONGEST_NS ? 0 : timespec_ns(&time);
}

static bool continue_timed(struct restart_table *table, struct tracee *tracee,
                           const struct syscall_rule *rule, uint64_t now_ns)
{
    uint64_t timeout_ns;

    begin(table, &tracee->regs, CONTINUATION_TIMED);
    timeout_ns = timeout_of(rule, table->work.args);
    if (timeout_ns == 0)
        return false;
    table->work.timeout_argument = rule->timeout_argument;
    table->work.deadline_ns = now_ns + timeout_ns;
    place(table);
    set_time_left(&table->work, timeout_ns);
    return commit(table, tracee);
}

/* ---- transfers --------------------------------------------------------------------------- */

/* Copies the program's vector behind the continuation; its bytes, or 0. */
static uint64_t take_vector(struct restart_table *table, uint64_t address, uint64_t count)
{
    uint64_t bytes = 0;

    if (count == 0 || count > CONTINUATION_IOVS_MAX ||
        !read_memory(address, table->work_iov, count * sizeof(struct iovec)))
        return 0;
    table->work.iov_count = count;
    for (uint64_t i = 0; i < count; i++)
        bytes += table->work_iov[i].iov_len;
    return bytes;
}

static uint64_t take_message(struct restart_table *table)
{
    struct msghdr *message = &table->work.message;

    if (!read_memory(table->work.args[1], message, sizeof *message))
        return 0;
    return take_vector(table, (uint64_t)message->msg_iov, message->msg_iovlen);
}

/* How much the call was asked to move, in the unit of what it returns; 0: not known. */
static uint64_t take_total(struct restart_table *table, uint32_t advance)
{
    const uint64_t *args = table->work.args;
    uint64_t total = 0;

    switch ((enum continuation_advance)advance) {
    case ADVANCE_NONE:
        return 0;
    case ADVANCE_BUFFER:
        total = args[2];
        break;
    case ADVANCE_FIRST:
        total = args[1];
        break;
    case ADVANCE_COUNT:
        total = args[3];
        break;
    case ADVANCE_HEADERS:
        total =
            (uint32_t)args[2] < CONTINUATION_IOVS_MAX ? (uint32_t)args[2] : CONTINUATION_IOVS_MAX;
        break;
    case ADVANCE_VECTOR:
        total = take_vector(table, args[1], args[2]);
        break;
    case ADVANCE_MESSAGE:
        total = take_message(table);
        break;
    }
    return total < MAX_RW_COUNT ? total : MAX_RW_COUNT;
}

/* ---- sockets with a timeout -------------------------------------------------------------- */

/* A vector call becomes a message call: only those take MSG_DONTWAIT. */
static void make_message_call(struct continuation *work, uint64_t nr)
{
    work->message.msg_iov = (struct iovec *)work->args[1];
    work->message.msg_iovlen = work->args[2];
    work->nr = nr;
    work->args[2] = MSG_DONTWAIT;
}

static void make_buffer_call(struct continuation *work, uint64_t nr)
{
    work->nr = nr;
    work->args[3] = MSG_DONTWAIT;
    work->args[4] = 0;
    work->args[5] = 0;
}

/* Replaces the call by one that does not wait. After place(). */
static void make_unwaiting(struct continuation *work, const struct syscall_rule *rule)
{
    switch (work->nr) {
    case SYS_read:
        make_buffer_call(work, SYS_recvfrom);
        break;
    case SYS_write:
        make_buffer_call(work, SYS_sendto);
        break;
    case SYS_readv:
        make_message_call(work, SYS_recvmsg);
        break;
    case SYS_writev:
        make_message_call(work, SYS_sendmsg);
        work->advance = ADVANCE_MESSAGE;
        break;
    default:
        if (rule->flags_argument >= 0)
            work->args[rule->flags_argument] |= MSG_DONTWAIT;
    }
    if (work->nr == SYS_recvmsg || work->nr == SYS_sendmsg)
        if (work->advance == ADVANCE_MESSAGE || rule->nr == SYS_readv)
            work->args[1] = work->self + offsetof(struct continuation, message);
}

/* Is this call, interrupted before it moved anything, a transfer that must be complete? */
static bool must_complete(const struct syscall_rule *rule, const uint64_t args[6],
                          const struct descriptor_look *look)
{
    return rule->partial != PARTIAL_DEVICE && syscall_is_blocking_transfer(rule, args, look);
}

static const struct timespec *socket_time(const struct syscall_rule *rule,
                                          const struct descriptor_look *look)
{
    if (!S_ISSOCK(look->mode))
        return NULL;
    if (rule->interrupted == INTERRUPTED_RECEIVE)
        return timespec_ns(&look->receive_timeout) ? &look->receive_timeout : NULL;
    return timespec_ns(&look->send_timeout) ? &look->send_timeout : NULL;
}

static bool continue_polled(struct restart_table *table, struct tracee *tracee,
                            const struct syscall_rule *rule, const struct descriptor_look *look,
                            uint64_t moved)
{
    struct continuation *work = &table->work;

    begin(table, &tracee->regs, CONTINUATION_POLLED);
    work->poll.fd = (int)work->args[0];
    work->poll.events = rule->interrupted == INTERRUPTED_RECEIVE ? POLLIN : POLLOUT;
    work->timeout = *socket_time(rule, look);
    work->timeout_result = rule->nr == SYS_connect ? -EINPROGRESS : -EAGAIN;
    if (must_complete(rule, work->args, look)) {
        work->advance = rule->advance;
        work->total = take_total(table, rule->advance);
        if (work->total == 0)
            return false;
    }
    place(table);
    make_unwaiting(work, rule);
    if (work->advance != ADVANCE_NONE)
        continuation_advance(work, table->work_iov, moved);
    continuation_issue_poll(work);
    return commit(table, tracee);
}

/* ---- the two cases: -EINTR and a short count ---------------------------------------------- */

static bool look(struct restart_table *table, int pid, uint64_t fd, struct descriptor_look *out)
{
    if (table->pidfd < 0 || table->pid != pid) {
        if (table->pidfd >= 0)
            sys_close(table->pidfd);
        table->pidfd = (int)sys_call(SYS_pidfd_open, pid, 0);
        table->pid = pid;
    }
    return table->pidfd >= 0 && descriptor_look(table->pidfd, (int)fd, out) == 0;
}

static bool continue_on_socket(struct restart_table *table, struct tracee *tracee,
                               const struct syscall_rule *rule, int pid)
{
    struct descriptor_look seen;

    if (!look(table, pid, tracee->regs.rdi, &seen) || !socket_time(rule, &seen))
        return false;
    /* recvmsg fills in the program's own header: it cannot be done in parts before the first. */
    if (rule->nr == SYS_recvmsg && (tracee->regs.rdx & MSG_WAITALL))
        return false;
    if (rule->nr == SYS_connect && !(seen.internet && seen.stream_socket))
        return false;
    return continue_polled(table, tracee, rule, &seen, 0);
}

static void fix_interrupted(struct restart_table *table, struct tracee *tracee,
                            const struct syscall_rule *rule, int pid, uint64_t now_ns)
{
    bool done = false;

    switch ((enum interrupted)rule->interrupted) {
    case INTERRUPTED_RETRY:
        break;
    case INTERRUPTED_MILLISECONDS:
    case INTERRUPTED_TIMESPEC:
        done = continue_timed(table, tracee, rule, now_ns);
        break;
    case INTERRUPTED_RECEIVE:
    case INTERRUPTED_SEND:
        done = continue_on_socket(table, tracee, rule, pid);
        break;
    }
    if (!done)
        restart(tracee);
}

static void fix_short(struct restart_table *table, struct tracee *tracee,
                      const struct syscall_rule *rule, int pid)
{
    const uint64_t moved = tracee->regs.rax;
    struct descriptor_look seen = {0};
    struct continuation *work = &table->work;

    begin(table, &tracee->regs, CONTINUATION_TRANSFER);
    work->advance = rule->advance;
    work->total = take_total(table, rule->advance);
    if (moved >= work->total)
        return;
    if (syscall_rule_needs_look(rule) && !look(table, pid, work->args[0], &seen))
        return;
    if (!syscall_is_blocking_transfer(rule, work->args, &seen))
        return;
    if (socket_time(rule, &seen)) {
        (void)continue_polled(table, tracee, rule, &seen, moved);
        return;
    }
    place(table);
    if (work->advance == ADVANCE_MESSAGE)
        work->args[1] = work->self + offsetof(struct continuation, message);
    continuation_advance(work, table->work_iov, moved);
    continuation_issue_call(work);
    (void)commit(table, tracee);
}

/* ---- a thread that is in its continuation already ------------------------------------------ */

static bool load(struct restart_table *table, uint64_t address)
{
    struct continuation *work = &table->work;

    return read_memory(address, work, sizeof *work) && work->magic == CONTINUATION_MAGIC &&
           work->self == address && work->iov_count <= CONTINUATION_IOVS_MAX &&
           (work->iov_count == 0 || read_memory(address + sizeof *work, table->work_iov,
                                                work->iov_count * sizeof(struct iovec)));
}

static void update_timed(struct restart_table *table, uint64_t now_ns)
{
    struct continuation *work = &table->work;
    uint64_t left_ns = timespec_ns(&work->timeout);

    if (work->epoch == table->epoch) {
        left_ns = work->deadline_ns > now_ns ? work->deadline_ns - now_ns : 0;
    } else { /* restored: its clock was another */
        work->epoch = table->epoch;
        work->deadline_ns = now_ns + left_ns;
    }
    set_time_left(work, left_ns);
}

static void fix_continuation(struct restart_table *table, struct tracee *tracee, uint64_t now_ns)
{
    struct continuation *work = &table->work;
    int64_t returned = (int64_t)tracee->regs.rax;

    if (!load(table, tracee->regs.rsp))
        return;
    if (work->kind == CONTINUATION_TIMED && returned == -EINTR && syscall_rule(work->nr)) {
        update_timed(table, now_ns);
        (void)commit(table, tracee);
    } else if (work->kind == CONTINUATION_TRANSFER && returned == -EINTR) {
        restart(tracee);
    } else if (work->kind == CONTINUATION_TRANSFER && returned > 0 &&
               work->moved + (uint64_t)returned < work->total) {
        continuation_advance(work, table->work_iov, (uint64_t)returned);
        continuation_issue_call(work);
        (void)commit(table, tracee);
    } else if (work->kind == CONTINUATION_POLLED && !work->polling && returned == -EINTR) {
        continuation_issue_poll(work);
        (void)commit(table, tracee);
    }
}

int syscall_restart_fix(struct restart_table *table, struct tracee *tracee, int pid,
                        uint64_t now_ns)
{
    const struct user_regs_struct *regs = &tracee->regs;
    int64_t returned = (int64_t)regs->rax;
    const struct syscall_rule *rule;

    if ((int64_t)regs->orig_rax < 0)
        return 0;
    if (returned == -ERESTART_RESTARTBLOCK) {
        restart_block_name(&table->begun, tracee);
        return 0;
    }
    if (returned != -EINTR && returned <= 0)
        return 0;
    if (regs->rip == (uintptr_t)continuation_return) {
        fix_continuation(table, tracee, now_ns);
        return 0;
    }
    rule = syscall_rule(regs->orig_rax);
    if (!rule || (returned > 0 && rule->partial == PARTIAL_NATURAL) || !follows_syscall(regs->rip))
        return 0;
    if (returned < 0)
        fix_interrupted(table, tracee, rule, pid, now_ns);
    else
        fix_short(table, tracee, rule, pid);
    return 0;
}

static bool is_to_restart(const struct user_regs_struct *regs)
{
    int64_t returned = (int64_t)regs->rax;

    return (int64_t)regs->orig_rax >= 0 &&
           (returned == -ERESTARTSYS || returned == -ERESTARTNOINTR ||
            returned == -ERESTARTNOHAND || returned == -ERESTART_RESTARTBLOCK);
}

void syscall_restart_by_itself(struct user_regs_struct *regs)
{
    bool goes_on = (int64_t)regs->rax == -ERESTART_RESTARTBLOCK;

    if (is_to_restart(regs)) {
        regs->rip -= SYSCALL_BYTES;
        regs->rax = goes_on ? (uint64_t)SYS_restart_syscall : regs->orig_rax;
    }
    regs->orig_rax = (uint64_t)-1;
}

void syscall_restart_for_image(struct user_regs_struct *regs)
{
    bool goes_on = (int64_t)regs->rax == -ERESTART_RESTARTBLOCK;

    if (is_to_restart(regs)) {
        if (goes_on && regs->orig_rax == SYS_restart_syscall) {
            regs->rax = (uint64_t)-EINTR; /* nobody knows any more which call it was */
        } else {
            regs->rip -= SYSCALL_BYTES;
            regs->rax = regs->orig_rax;
        }
    }
    regs->orig_rax = (uint64_t)-1;
}
