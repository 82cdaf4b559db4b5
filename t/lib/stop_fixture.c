/*
 * stop_fixture.c - see stop_fixture.h.
 */
#include "t/lib/stop_fixture.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/sys.h"
#include "core/process/syscall_restart.h"
#include "core/process/tracee.h"
#include "t/lib/tap.h"

#define STOP_EVERY_NS 2000000

/* ---- a tracer that stops one thread again and again ---------------------------------------- */

struct stop_tracer tracer;
struct stop_victim victim;
int tracer_pid;

static struct restart_table *table;
static char tracer_stack[65536] __attribute__((aligned(16)));

void pause_ns(long ns)
{
    struct timespec time = {0, ns};

    sys_call(SYS_nanosleep, &time, 0);
}

static int stop_once(struct tracee *tracee)
{
    int status = tracee_seize(tracee, tracer.tid, 0), got = 0;

    if (status == 0)
        status = tracee_interrupt(tracee);
    while (status == 0 && (got = tracee_poll(tracee)) == 0)
        pause_ns(20000);
    if (status == 0)
        status = got < 0 ? got : tracee_read_registers(tracee);
    if (status == 0)
        status = syscall_restart_fix(table, tracee, tracer.pid, sys_clock_ns(CLOCK_MONOTONIC));
    if (status == 0)
        status = tracee_detach(tracee);
    return status;
}

static int tracer_main(void *unused)
{
    static struct tracee tracee;
    int status = 0;

    (void)unused;
    while (status == 0 && tracer.stops < tracer.wanted) {
        pause_ns(STOP_EVERY_NS);
        status = stop_once(&tracee);
        if (status == 0)
            tracer.stops++;
    }
    tracer.failed = status;
    tracer.stops = tracer.wanted;
    sys_call(SYS_exit_group, 0);
    return 0;
}

bool stops_go_on(void)
{
    return tracer.stops < tracer.wanted;
}

static void *victim_main(void *unused)
{
    (void)unused;
    victim.tid = sys_gettid();
    while (!tracer.tid)
        sched_yield();
    while (stops_go_on())
        victim.body();
    return NULL;
}

void start_tracing(void *(*thread_main)(void *), int wanted)
{
    static struct arena arena;

    if (!arena.base)
        CHECK_OK(arena_create(&arena, 64 * MIB));
    /* each tracer has descriptors of its own, so it needs a table of its own */
    CHECK_OK(restart_table_create(&table, &arena));
    tracer.pid = getpid();
    tracer.tid = 0;
    tracer.stops = tracer.failed = 0;
    tracer.wanted = wanted;
    victim.tid = 0;
    pthread_create(&victim.thread, NULL, thread_main, NULL);
    while (!victim.tid)
        sched_yield();
    tracer.tid = victim.tid;
    tracer_pid = clone(tracer_main, tracer_stack + sizeof tracer_stack, CLONE_VM, NULL);
    CHECK(tracer_pid > 0);
    prctl(PR_SET_PTRACER, tracer_pid, 0, 0, 0);
}

void start_stops(void (*body)(void), int wanted)
{
    victim.body = body;
    start_tracing(victim_main, wanted);
}

void finish_stops(void)
{
    int status;

    while (waitpid(tracer_pid, &status, __WALL) < 0 && errno == EINTR)
        ;
    pthread_join(victim.thread, NULL);
    CHECK_EQ(tracer.failed, 0);
}

void under_stops(void (*body)(void))
{
    start_stops(body, STOPS);
    finish_stops();
}

/* ---- what the threads under test wait for --------------------------------------------------- */

int pipe_ends[2], pair[2], epoll_fd;
_Atomic int partner_quits;

void make_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};

    CHECK_EQ(pipe(pipe_ends), 0);
    epoll_fd = epoll_create1(0);
    CHECK_EQ(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_ends[0], &event), 0);
}

void close_epoll(void)
{
    close(epoll_fd);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

void make_pair(void)
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
}

void close_pair(void)
{
    close(pair[0]);
    close(pair[1]);
}

unsigned char *pattern(void)
{
    static unsigned char bytes[MIB];

    if (!bytes[1])
        for (size_t i = 0; i < MIB; i++)
            bytes[i] = (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 16) * 3 + 1);
    return bytes;
}
