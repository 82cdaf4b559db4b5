/*
 * sys_faults.c - see sys_faults.h. Runs in the agent too: raw system calls, no libc.
 */
#include "t/lib/sys_faults.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/kcmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include "core/base/arena.h"
#include "core/base/sys.h"

#define ARENA_CALL (-1) /* in place of a number */

const char *const fault_names[FAULT_KINDS] = {
    [FAULT_EIO] = "EIO",
    [FAULT_ENOSPC] = "ENOSPC",
    [FAULT_EINTR] = "EINTR",
    [FAULT_ENOMEM] = "ENOMEM",
    [FAULT_EMFILE] = "EMFILE",
    [FAULT_EPERM] = "EPERM",
    [FAULT_SHORT] = "a short count",
    [FAULT_ARENA] = "an arena that is full",
};

static const int fault_errors[FAULT_KINDS] = {
    [FAULT_EIO] = EIO,       [FAULT_ENOSPC] = ENOSPC, [FAULT_EINTR] = EINTR,
    [FAULT_ENOMEM] = ENOMEM, [FAULT_EMFILE] = EMFILE, [FAULT_EPERM] = EPERM,
};

struct faults {
    bool armed;
    int process;    /* that armed them */
    bool elsewhere; /* in any process but that one and the test's */
    int test;       /* that called faults_share() */
    enum fault_kind kind;
    unsigned long fail_at, counted;
    long failed_call;
};

static struct faults own;
static struct faults *faults = &own;

static long call_kernel(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* --- what can fail how --- */

#define KIND(kind) (1u << (kind))
#define READS      (KIND(FAULT_EIO) | KIND(FAULT_EINTR) | KIND(FAULT_ENOMEM) | KIND(FAULT_SHORT))
#define WRITES     (KIND(FAULT_EIO) | KIND(FAULT_ENOSPC) | KIND(FAULT_EINTR) | KIND(FAULT_SHORT))
#define SYNCS      (KIND(FAULT_EIO) | KIND(FAULT_ENOSPC) | KIND(FAULT_EINTR))
#define DESCRIPTOR (KIND(FAULT_EMFILE) | KIND(FAULT_ENOMEM))
#define MEMORY     KIND(FAULT_ENOMEM)
#define PERMISSION KIND(FAULT_EPERM)

/* Not listed: what cannot fail (getpid), what must not (exit, close, the detaching of a tracee that
 * is stopped), and what fails only by saying that a thread is gone. */
static const unsigned kinds[] = {
    [SYS_read] = READS,
    [SYS_pread64] = READS,
    [SYS_preadv] = READS,
    [SYS_getdents64] = READS,
    [SYS_write] = WRITES,
    [SYS_pwrite64] = WRITES,
    [SYS_pwritev] = WRITES,
    [SYS_fdatasync] = SYNCS,
    [SYS_fsync] = SYNCS,
    [SYS_fallocate] = SYNCS,
    [SYS_ftruncate] = KIND(FAULT_EIO) | KIND(FAULT_EINTR),
    [SYS_renameat] = KIND(FAULT_EIO) | KIND(FAULT_ENOSPC),
    [SYS_renameat2] = KIND(FAULT_EIO) | KIND(FAULT_ENOSPC),
    [SYS_linkat] = KIND(FAULT_EIO) | KIND(FAULT_ENOSPC),
    [SYS_unlinkat] = KIND(FAULT_EIO) | KIND(FAULT_ENOSPC),
    [SYS_newfstatat] = KIND(FAULT_EIO) | KIND(FAULT_ENOMEM),
    [SYS_statx] = KIND(FAULT_EIO) | KIND(FAULT_ENOMEM),
    [SYS_readlinkat] = KIND(FAULT_EIO) | KIND(FAULT_ENOMEM),
    [SYS_openat] = DESCRIPTOR | KIND(FAULT_EIO) | KIND(FAULT_ENOSPC) | KIND(FAULT_EINTR),
    [SYS_pidfd_getfd] = DESCRIPTOR | PERMISSION,
    [SYS_userfaultfd] = DESCRIPTOR | PERMISSION,
    [SYS_pidfd_open] = DESCRIPTOR,
    [SYS_signalfd4] = DESCRIPTOR,
    [SYS_socket] = DESCRIPTOR,
    [SYS_accept4] = DESCRIPTOR,
    [SYS_memfd_create] = DESCRIPTOR,
    [SYS_pipe2] = DESCRIPTOR,
    [SYS_mmap] = MEMORY,
    [SYS_mprotect] = MEMORY,
    [SYS_mremap] = MEMORY,
    [SYS_madvise] = MEMORY,
    [SYS_clone] = MEMORY | PERMISSION,
    [SYS_clone3] = MEMORY | PERMISSION,
    [SYS_ptrace] = PERMISSION,
    [SYS_unshare] = PERMISSION,
    [SYS_mount] = PERMISSION,
    [SYS_prctl] = PERMISSION,
    [SYS_capset] = PERMISSION,
    [SYS_personality] = PERMISSION,
    [SYS_prlimit64] = PERMISSION,
    [SYS_ioctl] = MEMORY | KIND(FAULT_EINTR),
    [SYS_process_vm_readv] = MEMORY | PERMISSION | KIND(FAULT_SHORT),
    [SYS_process_vm_writev] = MEMORY | PERMISSION,
    [SYS_futex] = KIND(FAULT_EINTR),
    [SYS_nanosleep] = KIND(FAULT_EINTR),
    [SYS_ppoll] = KIND(FAULT_EINTR),
    [SYS_rt_sigtimedwait] = KIND(FAULT_EINTR),
    [SYS_wait4] = KIND(FAULT_EINTR),
};

static unsigned kinds_of(long nr, long first, long second)
{
    if (nr == SYS_ptrace && first != PTRACE_SEIZE)
        return 0;
    if (nr == SYS_futex && (second & FUTEX_CMD_MASK) == FUTEX_WAKE)
        return 0; /* to wake somebody does not fail */
    return (unsigned long)nr < sizeof kinds / sizeof kinds[0] ? kinds[nr] : 0;
}

static bool counts_here(void)
{
    int self = (int)call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0);

    if (faults->elsewhere)
        return self != faults->process && self != faults->test;
    return self == faults->process;
}

static bool is_turn(long nr)
{
    unsigned long number;

    if (!counts_here())
        return false;
    number = __atomic_add_fetch(&faults->counted, 1, __ATOMIC_RELAXED);
    if (number != faults->fail_at)
        return false;
    faults->failed_call = nr;
    return true;
}

static long half(long bytes)
{
    return bytes > 1 ? bytes / 2 : bytes;
}

/* Of a list of pieces the first, by half. */
static long half_of_list(long nr, long a, long b, long c, long d, long e, long f)
{
    struct iovec piece = *(const struct iovec *)b;

    piece.iov_len = (size_t)half((long)piece.iov_len);
    (void)c;
    return call_kernel(nr, a, (long)&piece, 1, d, e, f);
}

static long call_in_part(long nr, long a, long b, long c, long d, long e, long f)
{
    switch (nr) {
    case SYS_preadv:
    case SYS_pwritev:
    case SYS_process_vm_readv:
        return half_of_list(nr, a, b, c, d, e, f);
    case SYS_getdents64:
        return call_kernel(nr, a, b, c, d, e, f);
    default:
        return call_kernel(nr, a, b, half(c), d, e, f);
    }
}

/* --- counting --- */

static struct call_counts *counts;
static int counting_process;
static int seized; /* threads */

/* Whether the program is the same still is looked at as often as some of its threads have stopped.
 */
static bool waits(long nr)
{
    return nr == SYS_kcmp || nr == SYS_wait4 || nr == SYS_nanosleep || nr == SYS_rt_sigtimedwait ||
           nr == SYS_ppoll || nr == SYS_futex || nr == SYS_clock_gettime || nr == SYS_getpid ||
           nr == SYS_gettid;
}

/* Whether a thread that is waited for is a zombie, as often as it is waited for. */
static bool looks_for_zombie(long nr, long path)
{
    size_t length = nr == SYS_openat ? __builtin_strlen((const char *)path) : 0;

    return length > 5 && __builtin_memcmp((const char *)path + length - 5, "/stat", 5) == 0;
}

/* Whether the program has called exec, as often as some of its threads have stopped. */
static bool looks_for_exec(long nr, long type)
{
    return nr == SYS_kcmp && type == KCMP_VM;
}

static void count_call(long nr, long a, long b, long c)
{
    if ((int)call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0) == counting_process || waits(nr) ||
        nr == SYS_read || nr == SYS_close || nr >= COUNTED_CALLS || looks_for_zombie(nr, b) ||
        looks_for_exec(nr, c))
        return;
    seized += nr == SYS_ptrace && a == PTRACE_SEIZE;
    (seized > 0 ? counts->frozen : counts->other)[nr]++;
    seized -= nr == SYS_ptrace && a == PTRACE_DETACH;
    if (nr == SYS_pwrite64)
        counts->written_bytes += (unsigned long)c;
    if (nr == SYS_pread64)
        counts->read_bytes += (unsigned long)c;
}

void faults_count_calls(struct call_counts *in)
{
    counting_process = (int)call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0);
    seized = 0;
    __atomic_store_n(&counts, in, __ATOMIC_SEQ_CST);
}

long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
    if (__atomic_load_n(&counts, __ATOMIC_RELAXED))
        count_call(nr, a, b, c);
    if (!faults->armed || !(kinds_of(nr, a, b) & KIND(faults->kind)) || !is_turn(nr))
        return call_kernel(nr, a, b, c, d, e, f);
    if (faults->kind == FAULT_SHORT)
        return call_in_part(nr, a, b, c, d, e, f);
    return -fault_errors[faults->kind];
}

void *__real_arena_alloc(struct arena *arena, size_t bytes, size_t align);
void *__wrap_arena_alloc(struct arena *arena, size_t bytes, size_t align);

void *__wrap_arena_alloc(struct arena *arena, size_t bytes, size_t align)
{
    if (faults->armed && faults->kind == FAULT_ARENA && is_turn(ARENA_CALL))
        return NULL;
    return __real_arena_alloc(arena, bytes, align);
}

/* --- for the test --- */

void faults_share(void)
{
    void *page = (void *)call_kernel(SYS_mmap, 0, PAGE_BYTES, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (sys_failed((long)page))
        abort();
    faults = page;
    faults->test = (int)call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

static void arm(enum fault_kind kind, unsigned long n, bool elsewhere)
{
    faults->kind = kind;
    faults->fail_at = n;
    faults->counted = 0;
    faults->failed_call = 0;
    faults->elsewhere = elsewhere;
    faults->process = (int)call_kernel(SYS_getpid, 0, 0, 0, 0, 0, 0);
    __atomic_store_n(&faults->armed, true, __ATOMIC_SEQ_CST);
}

void faults_arm(enum fault_kind kind, unsigned long n)
{
    arm(kind, n, false);
}

void faults_arm_agent(enum fault_kind kind, unsigned long n)
{
    arm(kind, n, true);
}

void faults_arm_others(enum fault_kind kind, unsigned long n)
{
    arm(kind, n, true); /* the test's own process is the one that does not count */
}

bool faults_disarm(void)
{
    __atomic_store_n(&faults->armed, false, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&faults->counted, __ATOMIC_SEQ_CST) >= faults->fail_at;
}

long faults_failed_call(void)
{
    return faults->failed_call;
}

unsigned long faults_counted(void)
{
    return faults->counted;
}
