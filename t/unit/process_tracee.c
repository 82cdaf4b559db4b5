/*
 * process_tracee.c - a thread is stopped, things run in it, and it notices nothing: no signal is
 * lost or invented, an interrupted sleep ends on time.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/sys.h"
#include "core/process/tracee.h"
#include "t/lib/tap.h"

#define ROUNDS 100

/* ---- a tracer that shares the memory --------------------------------------------------------- */

static struct {
    int (*body)(struct tracee *tracee); /* with the thread stopped; 0 or a status */
    _Atomic int tid;
    _Atomic int rounds;
    _Atomic int status;
    char stack[65536] __attribute__((aligned(16)));
    char call_stack[16384] __attribute__((aligned(16)));
} tracer;

static struct tracee traced;

extern const char test_trap[], test_syscall[];
__asm__(".text\n"
        "test_trap: int3\n"
        "test_syscall: syscall\n"
        "ret\n");

static void nap(long ns)
{
    struct timespec time = {0, ns};

    sys_call(SYS_nanosleep, &time, 0);
}

static int stop(void)
{
    int status = tracee_seize(&traced, tracer.tid, 0), got = 0;

    if (status == 0)
        status = tracee_interrupt(&traced);
    while (status == 0 && (got = tracee_poll(&traced)) == 0)
        nap(20000);
    if (status == 0)
        status = got < 0 ? got : tracee_read_registers(&traced);
    return status;
}

static int tracer_main(void *unused)
{
    int status = 0;

    (void)unused;
    while (!tracer.tid)
        nap(100000);
    for (; status == 0 && tracer.rounds > 0; tracer.rounds--) {
        status = stop();
        if (status == 0)
            status = tracer.body(&traced);
        if (status == 0)
            status = tracee_detach(&traced);
        nap(1000000);
    }
    tracer.status = status;
    tracer.rounds = 0;
    sys_call(SYS_exit_group, 0);
    return 0;
}

static int start_tracer(int (*body)(struct tracee *), int rounds)
{
    int pid;

    tracer.body = body;
    tracer.rounds = rounds;
    tracer.status = 0;
    tracer.tid = 0;
    pid = clone(tracer_main, tracer.stack + sizeof tracer.stack, CLONE_VM, NULL);
    prctl(PR_SET_PTRACER, pid, 0, 0, 0);
    return pid;
}

static void finish_tracer(int pid)
{
    waitpid(pid, NULL, __WALL);
    CHECK_EQ(tracer.status, 0);
}

static int do_nothing(struct tracee *tracee)
{
    (void)tracee;
    return 0;
}

/* ---- calls ------------------------------------------------------------------------------------
 */

static _Atomic int ran_in;

static long note_thread(long argument)
{
    ran_in = sys_gettid();
    return argument + 1;
}

static int call_into(struct tracee *tracee)
{
    long result = 0;
    int status = tracee_call(tracee, (uintptr_t)note_thread, 41,
                             (uintptr_t)tracer.call_stack + sizeof tracer.call_stack,
                             (uintptr_t)test_trap, &result);

    if (status == 0 && (result != 42 || ran_in != tracee->tid))
        return -EINVAL;
    ran_in = 0;
    return status;
}

static void *sleeper(void *unused)
{
    const struct timespec time = {0, 200000000};

    (void)unused;
    tracer.tid = sys_gettid();
    while (tracer.rounds > 0) {
        uint64_t start = sys_clock_ns(CLOCK_MONOTONIC), took;

        CHECK_EQ(nanosleep(&time, NULL), 0);
        took = sys_clock_ns(CLOCK_MONOTONIC) - start;
        tap_check(took >= 200000000 && took < 350000000, __FILE__, __LINE__, "slept %lld us",
                  (long long)took / 1000);
    }
    return NULL;
}

static void a_function_runs_in_a_sleeping_thread_and_the_sleep_ends_on_time(void)
{
    int pid = start_tracer(call_into, ROUNDS);
    pthread_t thread;

    pthread_create(&thread, NULL, sleeper, NULL);
    finish_tracer(pid);
    pthread_join(thread, NULL);
}

static _Atomic unsigned long sum;

/* Registers must survive: the thread computes something that any change would spoil. */
static void *computer(void *unused)
{
    (void)unused;
    tracer.tid = sys_gettid();
    while (tracer.rounds > 0) {
        unsigned long a = 1, b = 2;
        double x = 1;

        for (int i = 0; i < 1000000; i++) {
            a = a * 6364136223846793005ul + b;
            b ^= a >> 7;
            x = x * 1.0000001 + 0.25;
        }
        a += (unsigned long)x;
        if (sum == 0)
            sum = a ^ b;
        CHECK_EQ(a ^ b, sum);
    }
    return NULL;
}

static void a_computing_thread_is_not_disturbed(void)
{
    int pid = start_tracer(call_into, ROUNDS);
    pthread_t thread;

    pthread_create(&thread, NULL, computer, NULL);
    finish_tracer(pid);
    pthread_join(thread, NULL);
}

static int inject_gettid(struct tracee *tracee)
{
    const uint64_t none[6] = {0};
    long result = 0;
    int status = tracee_syscall(tracee, (uintptr_t)test_syscall, SYS_gettid, none, &result);

    return status ? status : result == tracee->tid ? 0 : -EINVAL;
}

static void a_system_call_runs_in_a_sleeping_thread(void)
{
    int pid = start_tracer(inject_gettid, ROUNDS);
    pthread_t thread;

    pthread_create(&thread, NULL, sleeper, NULL);
    finish_tracer(pid);
    pthread_join(thread, NULL);
}

/* ---- signals -----------------------------------------------------------------------------------
 */

static _Atomic int handled;

static void count_signal(int signal)
{
    (void)signal;
    handled++;
}

static void *waiter(void *unused)
{
    (void)unused;
    tracer.tid = sys_gettid();
    while (tracer.rounds > 0)
        usleep(100);
    return NULL;
}

static void signals_are_lost(int (*body)(struct tracee *), int signal)
{
    struct sigaction action = {.sa_handler = count_signal};
    pthread_t thread;
    int pid, sent = 0;

    handled = 0;
    sigaction(signal, &action, NULL);
    pid = start_tracer(body, ROUNDS);
    pthread_create(&thread, NULL, waiter, NULL);
    while (tracer.rounds > 0) {
        sent += pthread_kill(thread, signal) == 0;
        usleep(300);
    }
    finish_tracer(pid);
    pthread_join(thread, NULL);
    CHECK_EQ(handled, sent);
    CHECK(sent > 50);
}

static void no_signal_is_lost_in_a_stop(void)
{
    signals_are_lost(do_nothing, SIGRTMIN + 3);
}

static void no_signal_is_lost_in_a_call(void)
{
    signals_are_lost(call_into, SIGRTMIN + 3);
}

static int wait_for_stop_signal(struct tracee *tracee)
{
    kill(getppid(), SIGSTOP);
    nap(5000000);
    return call_into(tracee);
}

static int stop_and_continue(struct tracee *tracee)
{
    int status = wait_for_stop_signal(tracee);

    kill(getppid(), SIGCONT);
    return status;
}

static int be_stopped(int (*body)(struct tracee *))
{
    int pid = start_tracer(body, 1);
    pthread_t thread;

    pthread_create(&thread, NULL, waiter, NULL);
    waitpid(pid, NULL, __WALL);
    pthread_join(thread, NULL);
    return tracer.status == 0 ? 0 : 1;
}

static void a_stop_signal_that_meets_a_call_stops_the_process_after_it(void)
{
    int status = 0, pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        _exit(be_stopped(wait_for_stop_signal));
    CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
    CHECK(WIFSTOPPED(status));
    usleep(50000); /* the tracer is done; the process stays stopped */
    CHECK_EQ(waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGCONT);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_stop_that_is_undone_before_the_thread_is_let_go_is_over(void)
{
    int status = 0, pid;
    bool ended = false;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        _exit(be_stopped(stop_and_continue));
    for (int i = 0; i < 200 && !ended; i++) {
        usleep(10000);
        ended = waitpid(pid, &status, WNOHANG) == pid;
    }
    CHECK(ended);
    if (!ended) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int poll_after_the_end(struct tracee *tracee)
{
    sys_call(SYS_tgkill, getppid(), tracee->tid, SIGKILL);
    return 0;
}

_Noreturn static void be_killed_while_stopped(void)
{
    pthread_t thread;

    start_tracer(poll_after_the_end, 1);
    pthread_create(&thread, NULL, waiter, NULL);
    for (;;)
        pause();
}

static void a_process_killed_while_stopped_ends(void)
{
    int status = 0, pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        be_killed_while_stopped();
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_thread_that_is_gone_cannot_be_seized(void)
{
    struct tracee tracee;

    CHECK_EQ(tracee_seize(&tracee, 0x3ffffff, 0), -ESRCH);
    CHECK_EQ(tracee.state, TRACEE_NONE);
    CHECK_EQ(tracee_poll(&tracee), -ESRCH);
    CHECK_EQ(tracee_detach(&tracee), -ESRCH);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    RUN(a_function_runs_in_a_sleeping_thread_and_the_sleep_ends_on_time);
    RUN(a_computing_thread_is_not_disturbed);
    RUN(a_system_call_runs_in_a_sleeping_thread);
    RUN(no_signal_is_lost_in_a_stop);
    RUN(no_signal_is_lost_in_a_call);
    RUN(a_stop_signal_that_meets_a_call_stops_the_process_after_it);
    RUN(a_stop_that_is_undone_before_the_thread_is_let_go_is_over);
    RUN(a_process_killed_while_stopped_ends);
    RUN(a_thread_that_is_gone_cannot_be_seized);
    return tap_done();
}
