/*
 * halt.c - see halt.h.
 *
 * Always true of the handler: raw system calls, no libc, no thread-local storage, no lock; all
 * signals are blocked in it. It touches the table only after its signal has proved to be from the
 * agent: a forked child has the handler and not the table. Its last access to a halt is the store
 * that frees it.
 */
#include "core/process/halt.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <ucontext.h>
#include "core/base/format_text.h"
#include "core/base/sys.h"
#include "core/process/proc_text.h"
#include "core/process/tracee.h"

#define KERNEL_MASK   8
#define SIGNAL_LAST   64
#define ALIVE_LOOK_NS 100000000
#define CALL_LIMIT_NS 1000000000ull
#define CALL_SPINS    2000u
#define ARCH_GET_FS   0x1003
#define ARCH_GET_GS   0x1004
#define XSTATE_MAGIC  0x46505853u /* FP_XSTATE_MAGIC1 */
#define XSTATE_SW     464         /* of struct _fpx_sw_bytes in the frame */
#define XSTATE_LEGACY 512
#define STAT_BYTES    1024
#define STATUS_BYTES  4096

/* The program's side. In libpheap's data, so an image holds them: halt_install() and halt_forget()
 * make them true again. */
static struct halt_table *halt_table;
static int32_t halt_agent_pid;

static void wake(uint32_t *word)
{
    (void)sys_call(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, 0, 0, 0);
}

static void wait_on(uint32_t *word, uint32_t value, uint64_t longest_ns)
{
    const struct timespec time = {(time_t)(longest_ns / 1000000000),
                                  (long)(longest_ns % 1000000000)};

    (void)sys_call(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &time, 0, 0);
}

/* --- the program's side --- */

static struct halt *find_wanted(struct halt_table *table, int32_t tid)
{
    uint32_t count = __atomic_load_n(&table->count, __ATOMIC_ACQUIRE);

    for (uint32_t i = 0; i < count && i < HALT_THREADS_MAX; i++)
        if (table->halts[i].tid == tid &&
            __atomic_load_n(&table->halts[i].state, __ATOMIC_ACQUIRE) == HALT_WANTED)
            return &table->halts[i];
    return NULL;
}

static bool agent_lives(void)
{
    siginfo_t info = {0};
    long status =
        sys_call(SYS_waitid, P_PID, halt_agent_pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, 0);

    return status == 0 && info.si_pid == 0;
}

static void obey(struct halt *halt)
{
    uint32_t seen = 0;

    for (;;) {
        uint32_t ordered = __atomic_load_n(&halt->ordered, __ATOMIC_ACQUIRE);

        if (ordered == seen) {
            wait_on(&halt->ordered, seen, ALIVE_LOOK_NS);
            if (__atomic_load_n(&halt->ordered, __ATOMIC_ACQUIRE) == seen && !agent_lives())
                return;
            continue;
        }
        seen = ordered;
        if (halt->leaves)
            return;
        halt->result = halt->entry(halt->argument);
        __atomic_store_n(&halt->done, seen, __ATOMIC_RELEASE);
        wake(&halt->done);
    }
}

static void handle(int signal, const siginfo_t *info, const void *context)
{
    uint32_t wanted = HALT_WANTED;
    struct halt *halt;

    (void)signal;
    if (info->si_code != SI_TKILL || info->si_pid != halt_agent_pid || halt_agent_pid == 0)
        return; /* somebody else's: as if it were ignored */
    halt = find_wanted(halt_table, (int32_t)sys_call(SYS_gettid));
    if (!halt)
        return;
    halt->context = context;
    (void)sys_call(SYS_arch_prctl, ARCH_GET_FS, &halt->fs_base);
    (void)sys_call(SYS_arch_prctl, ARCH_GET_GS, &halt->gs_base);
    if (!__atomic_compare_exchange_n(&halt->state, &wanted, HALT_ARRIVED, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return; /* too late */
    __atomic_add_fetch(&halt_table->arrived, 1, __ATOMIC_RELEASE);
    wake(&halt_table->arrived);
    obey(halt);
    __atomic_store_n(&halt->state, HALT_FREE, __ATOMIC_RELEASE);
}

static bool take_signal(int signal)
{
    const struct kernel_sigaction action = {
        .handler = (uintptr_t)handle,
        .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_RESTORER,
        .restorer = (uintptr_t)sys_signal_return,
        .mask = ~0ull,
    };
    struct kernel_sigaction before = {0, 0, 0, 0};
    const uint64_t bit = 1ull << (signal - 1);

    if (sys_call(SYS_rt_sigaction, signal, 0, &before, KERNEL_MASK) < 0 ||
        (before.handler != (uintptr_t)SIG_DFL && before.handler != action.handler))
        return false;
    (void)sys_call(SYS_rt_sigprocmask, SIG_UNBLOCK, &bit, 0, KERNEL_MASK);
    return sys_call(SYS_rt_sigaction, signal, &action, 0, KERNEL_MASK) == 0;
}

int halt_install(struct halt_table **out, struct arena *arena)
{
    struct halt_table *table = arena_alloc(arena, sizeof *table, 64);

    halt_forget();
    if (!table)
        return -ENOMEM;
    table->signal = SIGURG;
    if (!take_signal(SIGURG)) {
        for (table->signal = SIGNAL_LAST; table->signal > 33; table->signal--)
            if (take_signal(table->signal))
                break;
        if (table->signal == 33)
            return STATUS_LIMIT;
    }
    halt_table = table;
    *out = table;
    return 0;
}

void halt_forget(void)
{
    halt_agent_pid = 0;
    halt_table = NULL;
}

/* --- the agent's side --- */

void halt_set_agent(struct halt_table *table, int agent_pid)
{
    table->agent_pid = agent_pid;
    __atomic_store_n(&halt_agent_pid, agent_pid, __ATOMIC_RELEASE);
}

/* Whether the thread would run a handler: a signal at its default could end the program. */
static int check_signal(const struct halt_table *table, int pid, int tid)
{
    uint64_t bit = 1ull << (table->signal - 1);
    char name[64], text[STATUS_BYTES];

    format_text(name, sizeof name, "task/%d/status", tid);
    if (proc_read(pid, name, text, sizeof text) <= 0)
        return -ESRCH;
    if (!(proc_number(text, "SigCgt", 16) & bit))
        return STATUS_REFUSED;
    return proc_number(text, "SigBlk", 16) & bit ? STATUS_DEFERRED : 0;
}

/* Where no signal may be queued it arrives all the same, but does not say from whom it is, and the
 * handler would leave it at that: a sleep interrupted for nothing. */
static int send_signal(int pid, int tid, int signal)
{
    struct rlimit64 queued = {1, 1};

    (void)sys_call(SYS_prlimit64, pid, RLIMIT_SIGPENDING, 0, &queued);
    return queued.rlim_cur == 0 ? -EAGAIN : (int)sys_call(SYS_tgkill, pid, tid, signal);
}

int halt_begin(struct halt_table *table, struct tracee *tracee, int pid, int tid)
{
    int status = table->count < HALT_THREADS_MAX ? check_signal(table, pid, tid) : STATUS_LIMIT;
    struct halt *halt;

    if (status < 0)
        return status;
    halt = &table->halts[table->count];
    *halt = (struct halt){.tid = tid, .state = HALT_WANTED};
    __atomic_store_n(&table->count, table->count + 1, __ATOMIC_RELEASE);
    tracee->tid = tid;
    tracee->halt = halt;
    tracee->regs_read = tracee->regs_changed = false;
    tracee->state = TRACEE_RUNNING;
    status = send_signal(pid, tid, table->signal);
    if (status < 0) {
        halt->state = HALT_FREE;
        tracee->state = TRACEE_NONE;
    }
    return status;
}

/* From its last stores until it sleeps on the futex the thread still writes to its stack. */
static bool is_asleep(int tid)
{
    char text[STAT_BYTES];
    const char *end;

    if (proc_read(tid, "stat", text, sizeof text) <= 0)
        return false;
    end = strrchr(text, ')'); /* the last one ends the name */
    return end && end[1] == ' ' && end[2] == 'S';
}

int halt_has_arrived(const struct tracee *tracee)
{
    return __atomic_load_n(&tracee->halt->state, __ATOMIC_ACQUIRE) == HALT_ARRIVED &&
           is_asleep(tracee->tid);
}

void halt_wait(struct halt_table *table, uint32_t seen, uint64_t longest_ns)
{
    wait_on(&table->arrived, seen, longest_ns);
}

bool halt_settle(struct halt_table *table)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (__atomic_load_n(&table->halts[i].state, __ATOMIC_ACQUIRE) != HALT_FREE)
            return false;
    __atomic_store_n(&table->count, 0, __ATOMIC_RELEASE);
    return true;
}

/* As the kernel will give them back when the handler returns. */
void halt_read_registers(struct tracee *tracee)
{
    const ucontext_t *context = tracee->halt->context;
    const greg_t *from = context->uc_mcontext.gregs;
    uint64_t segments = (uint64_t)from[REG_CSGSFS];

    tracee->regs = (struct user_regs_struct){
        .r15 = (unsigned long long)from[REG_R15],
        .r14 = (unsigned long long)from[REG_R14],
        .r13 = (unsigned long long)from[REG_R13],
        .r12 = (unsigned long long)from[REG_R12],
        .r11 = (unsigned long long)from[REG_R11],
        .r10 = (unsigned long long)from[REG_R10],
        .r9 = (unsigned long long)from[REG_R9],
        .r8 = (unsigned long long)from[REG_R8],
        .rbp = (unsigned long long)from[REG_RBP],
        .rbx = (unsigned long long)from[REG_RBX],
        .rax = (unsigned long long)from[REG_RAX],
        .rcx = (unsigned long long)from[REG_RCX],
        .rdx = (unsigned long long)from[REG_RDX],
        .rsi = (unsigned long long)from[REG_RSI],
        .rdi = (unsigned long long)from[REG_RDI],
        .rip = (unsigned long long)from[REG_RIP],
        .rsp = (unsigned long long)from[REG_RSP],
        .eflags = (unsigned long long)from[REG_EFL],
        .orig_rax = (unsigned long long)-1,
        .cs = segments & 0xffff,
        .ss = segments >> 48,
        .fs_base = tracee->halt->fs_base,
        .gs_base = tracee->halt->gs_base,
    };
    memcpy(&tracee->signal_mask, &context->uc_sigmask, sizeof tracee->signal_mask);
    tracee->regs_read = true;
    tracee->regs_changed = false;
}

/* Of all that the kernel has switched on: as large as PTRACE_SETREGSET wants it. */
static uint32_t xstate_bytes_of_machine(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    if (!__get_cpuid_count(0xd, 0, &eax, &ebx, &ecx, &edx) || ebx < XSTATE_LEGACY)
        return XSTATE_LEGACY;
    return ebx;
}

/* The frame's image is an XSAVE area, of the features that the thread may use. */
int halt_read_xstate(struct tracee *tracee)
{
    const ucontext_t *context = tracee->halt->context;
    const uint8_t *frame = (const void *)context->uc_mcontext.fpregs;
    uint32_t whole = xstate_bytes_of_machine(), bytes = XSTATE_LEGACY;
    struct {
        uint32_t magic, extended_bytes;
        uint64_t features;
        uint32_t bytes;
    } said;

    if (!frame || whole > TRACEE_XSTATE_BYTES_MAX)
        return -EINVAL;
    memcpy(&said, frame + XSTATE_SW, sizeof said);
    if (said.magic == XSTATE_MAGIC)
        bytes = said.bytes;
    if (bytes > whole || bytes < XSTATE_LEGACY)
        return -EINVAL;
    memset(tracee->xstate, 0, whole);
    memcpy(tracee->xstate, frame, bytes);
    memset(tracee->xstate + XSTATE_SW, 0, XSTATE_LEGACY - XSTATE_SW);
    memcpy(tracee->xstate + XSTATE_SW, &said.features, sizeof said.features);
    tracee->xstate_bytes = whole;
    return 0;
}

static void order(struct halt *halt)
{
    __atomic_add_fetch(&halt->ordered, 1, __ATOMIC_RELEASE);
    wake(&halt->ordered);
}

/* A process that is stopped by SIGSTOP meanwhile answers nothing: it is not waited for. */
int halt_call(struct tracee *tracee, long (*entry)(void *), void *argument, long *result)
{
    struct halt *halt = tracee->halt;
    uint64_t deadline_ns = sys_clock_ns(CLOCK_MONOTONIC) + CALL_LIMIT_NS;
    uint32_t done, spins = 0;

    halt->entry = entry;
    halt->argument = argument;
    order(halt);
    while ((done = __atomic_load_n(&halt->done, __ATOMIC_ACQUIRE)) != halt->ordered) {
        if (spins++ < CALL_SPINS)
            continue;
        if (sys_clock_ns(CLOCK_MONOTONIC) >= deadline_ns)
            return -ETIMEDOUT;
        wait_on(&halt->done, done, 1000000);
    }
    *result = halt->result;
    return 0;
}

void halt_release(struct tracee *tracee)
{
    struct halt *halt = tracee->halt;
    uint32_t wanted = HALT_WANTED;

    tracee->state = TRACEE_NONE;
    if (__atomic_compare_exchange_n(&halt->state, &wanted, HALT_FREE, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED))
        return;
    halt->leaves = 1;
    order(halt);
}

/* --- descriptors --- */

struct lending {
    int number;
    struct sockaddr_un to;
    socklen_t to_bytes;
};

/* In the halted thread: the lowest free number is ours for a moment, and nobody runs to see it. */
static long lend(void *argument)
{
    const struct lending *lending = argument;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char nothing = 0;
    struct iovec data = {&nothing, 1};
    struct msghdr message = {
        .msg_name = (void *)(uintptr_t)&lending->to,
        .msg_namelen = lending->to_bytes,
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    long socket = sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), sent;

    if (socket < 0)
        return socket;
    control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &lending->number, sizeof lending->number);
    sent = sys_call(SYS_sendmsg, socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    sys_close((int)socket);
    return sent < 0 ? sent : 0;
}

static int receive(int socket)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char nothing = 0;
    struct iovec data = {&nothing, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    long got = sys_call(SYS_recvmsg, socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    int fd = -EBADF;

    if (got < 0)
        return (int)got;
    if (message.msg_controllen >= CMSG_LEN(sizeof(int)) && control.header.cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

int halt_lend(struct tracee *tracee, int number)
{
    /* Bound without a name: the kernel gives it one in the abstract name space. */
    const sa_family_t family = AF_UNIX;
    struct lending lending = {.number = number, .to_bytes = sizeof lending.to};
    int socket = (int)sys_call(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    long said = 0;
    int status = socket < 0 ? socket : (int)sys_call(SYS_bind, socket, &family, sizeof family);

    if (status == 0)
        status = (int)sys_call(SYS_getsockname, socket, &lending.to, &lending.to_bytes);
    if (status == 0)
        status = halt_call(tracee, lend, &lending, &said);
    if (status == 0)
        status = (int)said;
    if (status == 0)
        status = receive(socket);
    if (socket >= 0)
        sys_close(socket);
    return status;
}
