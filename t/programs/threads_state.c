/*
 * threads_state.c - threads that are in the middle of something: holding mutexes of all kinds,
 * waiting for one in the kernel, in a signal handler on a stack of its own, in a restartable
 * sequence, in the vdso, with their vector registers full, made without libc. At each SIGUSR1 it
 * prints what they see: the same each time. SIGUSR2: all of them come to their ends, and exit
 * status 0 says that each did as it should.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RECURSIVE, CHECKING, ROBUST, INHERITING, BOTH, MUTEXES };

static const char *const mutex_names[] = {"recursive", "error-checking", "robust", "PI",
                                          "robust PI"};
static pthread_mutex_t mutexes[MUTEXES];
static _Atomic int round_number, rounds_done, ending;
static __thread int own = 1;
static char holder_line[256];
static _Atomic int ready_count;

static void fail(const char *what)
{
    printf("failed: %s\n", what);
    fflush(stdout);
    _exit(99);
}

static void nap(void)
{
    const struct timespec time = {0, 2000000};

    nanosleep(&time, NULL);
}

/* --- a thread that holds mutexes, and ends without giving the robust ones back --- */

static void make_mutexes(void)
{
    for (int i = 0; i < MUTEXES; i++) {
        pthread_mutexattr_t kind;

        pthread_mutexattr_init(&kind);
        pthread_mutexattr_settype(&kind, i == RECURSIVE ? PTHREAD_MUTEX_RECURSIVE
                                                        : PTHREAD_MUTEX_ERRORCHECK);
        if (i == ROBUST || i == BOTH)
            pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
        if (i == INHERITING || i == BOTH)
            pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
        pthread_mutex_init(&mutexes[i], &kind);
    }
}

static void *hold(void *unused)
{
    int seen = 0;

    own = 4711;
    for (int i = 0; i < MUTEXES; i++)
        if (pthread_mutex_lock(&mutexes[i]) != 0)
            fail("lock");
    ready_count++;
    while (!ending) {
        if (seen != round_number) {
            seen = round_number;
            snprintf(
                holder_line, sizeof holder_line, "holder: own %d, again %d %d, back %d, name %d",
                own, pthread_mutex_lock(&mutexes[RECURSIVE]),
                pthread_mutex_lock(&mutexes[CHECKING]), pthread_mutex_unlock(&mutexes[RECURSIVE]),
                pthread_setname_np(pthread_self(), "holder"));
            rounds_done++;
        }
        nap();
    }
    if (pthread_mutex_unlock(&mutexes[RECURSIVE]) != 0 ||
        pthread_mutex_unlock(&mutexes[CHECKING]) != 0 ||
        pthread_mutex_unlock(&mutexes[INHERITING]) != 0)
        fail("unlock by the owner");
    return unused; /* and with it the robust ones, by the kernel */
}

static void *wait_for_mutex(void *unused) /* in FUTEX_LOCK_PI */
{
    ready_count++;
    if (pthread_mutex_lock(&mutexes[INHERITING]) != 0 ||
        pthread_mutex_unlock(&mutexes[INHERITING]) != 0)
        fail("the waiter's turn");
    return unused;
}

/* --- in a handler on an alternate stack --- */

static char other_stack[65536] __attribute__((aligned(16)));
static _Atomic int in_handler, handler_good, handler_left;

static void linger(int number)
{
    in_handler = number;
    while (!ending) {
        stack_t now;

        handler_good = sigaltstack(NULL, &now) == 0 && now.ss_flags == SS_ONSTACK &&
                       now.ss_sp == other_stack && (char *)&now > other_stack &&
                       (char *)&now < other_stack + sizeof other_stack;
        nap();
    }
}

static void *handle(void *unused)
{
    const stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct sigaction action = {.sa_handler = linger, .sa_flags = SA_ONSTACK};

    sigaltstack(&stack, NULL);
    sigaction(SIGWINCH, &action, NULL);
    ready_count++;
    pthread_kill(pthread_self(), SIGWINCH);
    handler_left = 1;
    return unused;
}

/* --- in a restartable sequence: the kernel or a restore ends it at its abort handler --- */

struct sequence {
    uint32_t version, flags;
    uint64_t start, length, abort;
} __attribute__((aligned(32)));

static volatile unsigned long aborted;

static struct rseq *own_rseq(void)
{
    return (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static void *restart(void *unused)
{
    static struct sequence sequence;
    volatile uint64_t *section = (volatile uint64_t *)(void *)&own_rseq()->rseq_cs;

    ready_count++;
    while (!ending) {
        __asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, 8(%0)\n"
                         "lea 2f(%%rip), %%rcx\n sub %%rax, %%rcx\n mov %%rcx, 16(%0)\n"
                         "lea 4f(%%rip), %%rax\n mov %%rax, 24(%0)\n"
                         "mov %0, (%1)\n"
                         "1: pause\n jmp 1b\n" /* only an abort leads out */
                         "2: ud2\n"
                         ".long 0x53053053\n"
                         "4:\n"
                         :
                         : "r"(&sequence), "r"(section)
                         : "rax", "rcx", "memory", "cc");
        aborted++;
    }
    return unused;
}

/* --- vector registers --- */

static _Atomic int vectors_good = -1;

__attribute__((target("avx512f,avx512bw"))) static void *fill_wide(void *unused)
{
    uint64_t pattern[3][8], found[3][8], mask = 0x123456789abcdef0, found_mask = 0;
    int seen = 0;

    for (int i = 0; i < 24; i++)
        pattern[i / 8][i % 8] = 0x0101010101010101u * (unsigned)(i + 3);
    ready_count++;
    while (!ending) {
        __asm__ volatile("vmovdqu64 (%3), %%zmm5\n vmovdqu64 64(%3), %%zmm17\n"
                         "vmovdqu64 128(%3), %%zmm31\n kmovq %4, %%k3\n"
                         "1: pause\n cmpl %5, (%6)\n jne 2f\n cmpl $0, (%7)\n je 1b\n"
                         "2: vmovdqu64 %%zmm5, (%2)\n vmovdqu64 %%zmm17, 64(%2)\n"
                         "vmovdqu64 %%zmm31, 128(%2)\n kmovq %%k3, %0\n"
                         : "=&r"(found_mask), "+m"(found)
                         : "r"(found), "r"(pattern), "r"(mask), "r"(seen), "r"(&round_number),
                           "r"(&ending)
                         : "xmm5", "xmm17", "xmm31", "k3", "memory", "cc");
        vectors_good = memcmp(found, pattern, sizeof found) == 0 && found_mask == mask;
        if (seen != round_number) {
            seen = round_number;
            rounds_done++;
        }
    }
    return unused;
}

__attribute__((target("avx2"))) static void *fill_vectors(void *unused)
{
    uint64_t pattern[4] = {11, 22, 33, 44}, found[4];
    int seen = 0;

    if (__builtin_cpu_supports("avx512bw"))
        return fill_wide(unused);
    ready_count++;
    while (!ending) {
        __asm__ volatile("vmovdqu (%2), %%ymm7\n"
                         "1: pause\n cmpl %3, (%4)\n jne 2f\n cmpl $0, (%5)\n je 1b\n"
                         "2: vmovdqu %%ymm7, (%1)\n"
                         : "+m"(found)
                         : "r"(found), "r"(pattern), "r"(seen), "r"(&round_number), "r"(&ending)
                         : "xmm7", "memory", "cc");
        vectors_good = memcmp(found, pattern, sizeof found) == 0;
        if (seen != round_number) {
            seen = round_number;
            rounds_done++;
        }
    }
    return unused;
}

/* --- in the vdso --- */

static volatile unsigned long ticks;
static _Atomic int went_back;

static void *look_at_the_clock(void *unused)
{
    struct timespec now, last = {0};

    ready_count++;
    while (!ending) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec))
            went_back = 1;
        last = now;
        ticks++;
    }
    return unused;
}

/* --- to be cancelled --- */

static void *be_cancelled(void *unused)
{
    int state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    ready_count++;
    while (!ending)
        nap();
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
    for (;;)
        pause();
    return unused;
}

/* --- made without libc: no thread-local storage, no stack protector, raw system calls --- */

static char raw_stack[65536] __attribute__((aligned(16)));
static volatile unsigned long raw_steps;
static volatile int raw_tid, raw_seen_tid;

static int raw_call(long number, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return (int)result;
}

static int run_raw(void *unused)
{
    const struct timespec time = {0, 1000000};

    (void)unused;
    while (!ending) {
        raw_steps++;
        raw_seen_tid = raw_call(SYS_gettid, 0, 0, 0);
        raw_call(SYS_nanosleep, (long)&time, 0, 0);
    }
    raw_call(SYS_exit, 0, 0, 0);
    return 0;
}

static void start_raw(void)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID;

    if (clone(run_raw, raw_stack + sizeof raw_stack, flags, NULL, &raw_tid, NULL, &raw_tid) < 0)
        fail("clone");
}

static bool moves(const volatile unsigned long *counter)
{
    unsigned long before = *counter;

    for (int i = 0; i < 2000 && *counter == before; i++)
        nap();
    return *counter != before;
}

/* Bytes of stack, touched on the way down. */
static unsigned long deep(unsigned long bytes)
{
    volatile char room[4096];

    room[0] = (char)bytes;
    return bytes < sizeof room ? 0 : deep(bytes - sizeof room) + (room[0] == (char)bytes);
}

static void report(void)
{
    int wanted = rounds_done + 2;

    round_number++;
    while (rounds_done < wanted)
        nap();
    printf("%s\n", holder_line);
    for (int i = 0; i < MUTEXES; i++)
        printf("%s: try %d, unlock by another %d\n", mutex_names[i],
               pthread_mutex_trylock(&mutexes[i]), pthread_mutex_unlock(&mutexes[i]));
    printf("handler: signal %d, on its stack %d, left %d\n", in_handler, handler_good,
           handler_left);
    printf("the stack grows by %lu pages\n", deep(4 << 20));
    printf("vectors %d\n", vectors_good);
    printf("sequences end %d, registered %d\n", moves(&aborted), (int32_t)own_rseq()->cpu_id >= 0);
    printf("clock moves %d, back %d\n", moves(&ticks), went_back);
    printf("raw thread moves %d, has its id %d\n", moves(&raw_steps), raw_tid == raw_seen_tid);
    printf("end\n");
    fflush(stdout);
}

static void check_end(pthread_t *threads)
{
    void *result;

    ending = 1;
    pthread_join(threads[0], NULL);
    for (int i = ROBUST; i <= BOTH; i += BOTH - ROBUST)
        if (pthread_mutex_lock(&mutexes[i]) != EOWNERDEAD)
            fail("a robust mutex whose owner died");
    for (int i = 1; i < 6; i++)
        pthread_join(threads[i], NULL);
    pthread_cancel(threads[6]);
    if (pthread_join(threads[6], &result) != 0 || result != PTHREAD_CANCELED)
        fail("cancelling");
    while (raw_tid != 0)
        nap(); /* the kernel clears it */
    if (!handler_left || went_back)
        fail("the end of a handler");
}

int main(void)
{
    static void *(*const bodies[])(void *) = {hold,         wait_for_mutex,    handle,      restart,
                                              fill_vectors, look_at_the_clock, be_cancelled};
    pthread_t threads[7];
    sigset_t both;
    int number = 0;

    sigemptyset(&both);
    sigaddset(&both, SIGUSR1);
    sigaddset(&both, SIGUSR2);
    sigprocmask(SIG_BLOCK, &both, NULL);
    make_mutexes();
    for (int i = 0; i < 7; i++) {
        pthread_create(&threads[i], NULL, bodies[i], NULL);
        while (ready_count <= i)
            nap();
    }
    start_raw();
    printf("ready\n");
    fflush(stdout);
    while (sigwait(&both, &number) == 0 && number == SIGUSR1)
        report();
    check_end(threads);
    return 0;
}
