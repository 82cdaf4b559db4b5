/*
 * agent_processors.c - the agent works on processors that no thread of its program runs on.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/agent/processors.h"
#include "core/agent/tasks.h"
#include "t/lib/tap.h"

#define MANY_THREADS 40

static struct processors processors;
static cpu_set_t allowed;

static void run_on(int processor)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0)
        _exit(1);
}

/* A child that never sleeps, on this processor; it dies with us. */
static pid_t start_program(int processor)
{
    pid_t child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_on(processor);
        for (;;)
            continue;
    }
    while (task_processor(child, child) != processor)
        usleep(1000);
    return child;
}

static void end_program(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static int first_allowed(void)
{
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &allowed))
            return i;
    abort();
}

static void it_keeps_off_those_where_the_program_runs(void)
{
    int busy = first_allowed();
    pid_t child = start_program(busy);
    cpu_set_t now, expected = allowed;

    if (CPU_COUNT(&allowed) > 1) /* else it has to stay beside it */
        CPU_CLR(busy, &expected);
    processors_keep_off(&processors, child, 1);
    CHECK_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    CHECK(CPU_EQUAL(&now, &expected));
    processors_widen(&processors);
    CHECK_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    CHECK(CPU_EQUAL(&now, &allowed));
    end_program(child);
}

static void a_program_of_many_threads_is_not_looked_at(void)
{
    pid_t child = start_program(first_allowed());
    cpu_set_t now;

    processors_keep_off(&processors, child, 1000);
    CHECK_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    CHECK(CPU_EQUAL(&now, &allowed));
    end_program(child);
}

static void *sleep_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static _Noreturn void run_many_threads(int processor, int ready)
{
    pthread_t thread;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    run_on(processor);
    for (int i = 0; i < MANY_THREADS; i++)
        if (pthread_create(&thread, NULL, sleep_for_ever, NULL) != 0)
            _exit(1);
    if (write(ready, "", 1) != 1)
        _exit(1);
    for (;;)
        continue;
}

/* As at the first checkpoint: nothing is known of its threads. */
static void a_look_at_many_threads_is_given_up(void)
{
    int ready[2];
    char byte;
    pid_t child;
    cpu_set_t now;

    CHECK_EQ(pipe(ready), 0);
    child = fork();
    if (child == 0)
        run_many_threads(first_allowed(), ready[1]);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    while (task_processor(child, child) != first_allowed())
        usleep(1000);
    processors_keep_off(&processors, child, 0);
    CHECK_EQ(sched_getaffinity(0, sizeof now, &now), 0);
    CHECK(CPU_EQUAL(&now, &allowed));
    end_program(child);
    close(ready[0]);
    close(ready[1]);
}

static void one_that_sleeps_runs_nowhere(void)
{
    pid_t child = fork();

    if (child == 0) {
        pause();
        _exit(0);
    }
    while (task_state(child, child) != 'S')
        usleep(1000);
    CHECK_EQ(task_processor(child, child), -1);
    end_program(child);
    CHECK_EQ(task_processor(child, child), -1);
}

int main(int argc, char **argv)
{
    tap_arguments(argc, argv);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 1;
    processors_learn(&processors);
    RUN(it_keeps_off_those_where_the_program_runs);
    RUN(a_program_of_many_threads_is_not_looked_at);
    RUN(a_look_at_many_threads_is_given_up);
    RUN(one_that_sleeps_runs_nowhere);
    return tap_done();
}
