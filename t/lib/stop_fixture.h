/*
 * stop_fixture.h - one thread of a test in a system call, stopped again and again by a tracer that
 * shares the memory, each stop with syscall_restart_fix(); and the pipes and sockets that the call
 * is made on. One thread is under stops at a time.
 */
#ifndef PHEAP_T_LIB_STOP_FIXTURE_H
#define PHEAP_T_LIB_STOP_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>

#define STOPS 100
#define MIB   (1u << 20)

/* The tracer: a child with the test's memory, for a thread cannot trace its own process. */
extern struct stop_tracer {
    int pid, tid; /* whom it stops */
    _Atomic int stops;
    _Atomic int wanted;
    _Atomic int failed; /* status of what went wrong */
} tracer;
extern int tracer_pid; /* its own; wait for it with __WALL */

/* The thread that is stopped. */
extern struct stop_victim {
    void (*body)(void);
    _Atomic int tid;
    pthread_t thread;
} victim;

/* Sleeps, without errno; not the whole time when a signal comes. */
void pause_ns(long ns);

/* Starts thread_main as the victim, and the tracer, which ends after the wanted number of stops.
 * thread_main must set victim.tid and wait for tracer.tid before the call under test. */
void start_tracing(void *(*thread_main)(void *), int wanted);

/* The same with a victim that runs body again and again while the stops go on. */
void start_stops(void (*body)(void), int wanted);
bool stops_go_on(void);
void finish_stops(void); /* waits for tracer and victim; the test is failed if the tracer failed */

/* Runs body again and again in a thread of its own until it has been stopped a hundred times. */
void under_stops(void (*body)(void));

/* What the calls under test are made on. The test is failed when one cannot be made. */
extern int pipe_ends[2], pair[2], epoll_fd;
void make_epoll(void); /* an epoll_fd that waits for the read end of a new pipe */
void close_epoll(void);
void make_pair(void); /* of stream sockets */
void close_pair(void);

/* Tells a thread on the other end of them, which a test started, to come to its end. */
extern _Atomic int partner_quits;

/* What is sent: MIB bytes, the same each time. */
unsigned char *pattern(void);

#endif
