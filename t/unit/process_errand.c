/*
 * process_errand.c - stopped threads run a function for their tracer, several at once; the tracer
 * is killed at random moments, and none of them notices anything.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/sys.h"
#include "core/process/errand.h"
#include "t/lib/tap.h"

#define SEVERAL    8
#define ROUNDS     20
#define KILLS      400
#define MEET_TRIES 10000000
#define SLEEP_NS   20000000
#define LATE_NS    5000000000 /* of a sleep, on a busy machine */

/* ---- a tracer that shares the memory --------------------------------------------------------- */

static struct {
    _Atomic int rounds; /* to go */
    _Atomic int status;
    char stack[65536] __attribute__((aligned(16)));
    struct place *place;
} tracer;

/* A tracer's own: threads may be in here for a moment after its death. */
struct place {
    uint32_t tid; /* 0: the kernel has seen its end */
    char call_stacks[SEVERAL][ERRAND_STACK_BYTES] __attribute__((aligned(16)));
};

static _Atomic int tids[SEVERAL], arrived, met, finished;

static void nap(long ns)
{
    struct timespec time = {0, ns};

    sys_call(SYS_nanosleep, &time, 0);
}

/* Returns only when all of them are in here: one after the other they would not meet. */
__attribute__((target("general-regs-only"))) static long meet(void *number)
{
    const uint32_t *tid = &tracer.place->tid;

    atomic_fetch_add(&met, 1);
    for (int tries = 0; met < SEVERAL && __atomic_load_n(tid, __ATOMIC_RELAXED) != 0; tries++)
        if (sys_call(SYS_sched_yield) < 0 || tries > MEET_TRIES)
            return -1;
    return (long)number + sys_call(SYS_gettid);
}

static int stop_one(struct tracee *tracee, int tid)
{
    int status = tracee_seize(tracee, tid, 0);

    if (status == 0)
        status = tracee_interrupt(tracee);
    while (status == 0 && (status = tracee_poll(tracee)) == 0)
        nap(10000);
    return status < 0 ? status : tracee_read_registers(tracee);
}

static uintptr_t stack_of(int i)
{
    return (uintptr_t)tracer.place->call_stacks[i + 1];
}

static int send_all(void)
{
    static struct tracee tracees[SEVERAL];
    int failed = 0;

    met = 0;
    for (int i = 0; i < SEVERAL && failed == 0; i++)
        failed = stop_one(&tracees[i], tids[i]);
    for (int i = 0; i < SEVERAL && failed == 0; i++)
        failed = errand_start(&tracees[i], meet, (void *)(long)i, stack_of(i), &tracer.place->tid);
    for (int i = 0; i < SEVERAL && failed == 0; i++)
        failed = errand_recall(&tracees[i], stack_of(i));
    for (int i = 0; i < SEVERAL; i++) {
        long result = 0;
        int status = failed ? failed : errand_finish(&tracees[i], stack_of(i), &result);

        if (failed == 0 && (status < 0 || result != i + tracees[i].tid))
            failed = status < 0 ? status : -EINVAL;
        (void)tracee_detach(&tracees[i]);
    }
    return failed;
}

static int tracer_main(void *unused)
{
    int status = 0;

    (void)unused;
    tracer.place->tid = (uint32_t)sys_call(SYS_set_tid_address, &tracer.place->tid);
    for (; status == 0 && tracer.rounds > 0; tracer.rounds--) {
        status = send_all();
        nap(300000);
    }
    tracer.status = status;
    sys_call(SYS_exit_group, 0);
    return 0;
}

static int start_tracer(int rounds)
{
    int pid;

    tracer.rounds = rounds;
    tracer.status = 0;
    tracer.place = mmap(NULL, sizeof *tracer.place, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    pid = clone(tracer_main, tracer.stack + sizeof tracer.stack, CLONE_VM, NULL);
    prctl(PR_SET_PTRACER, pid, 0, 0, 0);
    return pid;
}

/* ---- threads that notice what is done to them --------------------------------------------------
 */

static _Atomic int handled;

static void sleep_once(void)
{
    const struct timespec time = {0, SLEEP_NS};
    uint64_t began = sys_clock_ns(CLOCK_MONOTONIC), took;

    CHECK_EQ(nanosleep(&time, NULL), 0);
    took = sys_clock_ns(CLOCK_MONOTONIC) - began;
    tap_check(took >= SLEEP_NS && took < SLEEP_NS + LATE_NS, __FILE__, __LINE__, "slept %lld us",
              (long long)took / 1000);
}

/* Registers must survive: any change would spoil the sum. */
static void compute_once(void)
{
    static _Atomic unsigned long sum;
    unsigned long a = 1, b = 2, expected = 0;
    double x = 1;

    for (int i = 0; i < 100000; i++) {
        a = a * 6364136223846793005ul + b;
        b ^= a >> 7;
        x = x * 1.0000001 + 0.25;
    }
    a += (unsigned long)x;
    if (!atomic_compare_exchange_strong(&sum, &expected, a ^ b))
        CHECK_EQ(a ^ b, expected);
}

static void call_once(void)
{
    int ppid = getppid(), pipe_ends[2];
    char counter = 0, back = 0;

    CHECK_EQ(pipe(pipe_ends), 0);
    for (int i = 0; i < 200; i++) {
        counter++;
        CHECK_EQ(write(pipe_ends[1], &counter, 1), 1);
        CHECK_EQ(read(pipe_ends[0], &back, 1), 1);
        CHECK_EQ(back, counter);
        CHECK_EQ(getppid(), ppid);
    }
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static int other_pipe[2];

/* Waits in read() most of the time. */
static void read_once(void)
{
    char byte = 0;

    CHECK_EQ(read(other_pipe[0], &byte, 1), 1);
    CHECK_EQ(byte, 'x');
}

static void feed_once(void)
{
    CHECK_EQ(write(other_pipe[1], "x", 1), 1);
    nap(2000000);
}

static void (*const bodies[])(void) = {sleep_once, compute_once, call_once, read_once, feed_once};

/* Thread 0, and those whose number is odd, block SIGALRM: each finds its own mask again. */
static void *subject(void *number)
{
    const long i = (long)number;
    void (*body)(void) = bodies[(size_t)i % (sizeof bodies / sizeof *bodies)];
    sigset_t mask, now;

    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    if (body == sleep_once || i % 2 == 1)
        sigaddset(&mask, SIGALRM);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    tids[i] = sys_gettid();
    arrived++;
    while (!finished) {
        body();
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        CHECK_EQ(memcmp(&now, &mask, 8), 0);
    }
    return NULL;
}

static void count_signal(int signal)
{
    volatile char room[2048];

    for (size_t i = 0; i < sizeof room; i++)
        room[i] = (char)signal;
    handled++;
}

static pthread_t threads[SEVERAL];

static void start_subjects(void)
{
    finished = arrived = 0;
    CHECK_EQ(pipe(other_pipe), 0);
    for (long i = 0; i < SEVERAL; i++)
        pthread_create(&threads[i], NULL, subject, (void *)i);
    while (arrived < SEVERAL)
        nap(100000);
}

static void finish_subjects(void)
{
    finished = 1;
    CHECK_EQ(write(other_pipe[1], "x", 1), 1);
    for (int i = 0; i < SEVERAL; i++)
        pthread_join(threads[i], NULL);
    close(other_pipe[0]);
    close(other_pipe[1]);
}

/* ---- tests -------------------------------------------------------------------------------------
 */

static void functions_run_in_several_threads_at_once(void)
{
    int pid;

    start_subjects();
    pid = start_tracer(ROUNDS);
    waitpid(pid, NULL, __WALL);
    CHECK_EQ(tracer.status, 0);
    CHECK_EQ(tracer.place->tid, 0);
    finish_subjects();
}

/* Wherever it was: all threads go on, and each finds everything as it was. */
static void whenever_the_tracer_is_killed_nobody_notices(void)
{
    const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    int out = 0, status;

    signal(SIGALRM, count_signal); /* SA_RESTART */
    start_subjects();
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < KILLS; i++) {
        int pid = start_tracer(INT32_MAX);

        nap(300000 + random() % 3000000);
        out += met > 0 && met < SEVERAL;
        kill(pid, SIGKILL);
        CHECK_EQ(waitpid(pid, &status, __WALL), pid);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    finish_subjects();
    CHECK(handled > 0);
    tap_note("%d kills, %d while some were on their way to an errand, %d signals handled", KILLS,
             out, handled);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(functions_run_in_several_threads_at_once);
    RUN(whenever_the_tracer_is_killed_nobody_notices);
    return tap_done();
}
