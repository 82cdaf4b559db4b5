/*
 * sys_faults.h - the n-th system call, or the n-th allocation from an arena, fails.
 *
 * For programs of t/faults, whose layers are compiled with -DSYS_FAULTS: all of core and recovery
 * reach the kernel through sys_call6(), which is here. Counted are the calls that could fail in the
 * way in question; the one whose turn it is fails without being made, or, with FAULT_SHORT, is
 * made for half of its bytes. What runs inside a stopped thread or an emptied process is compiled
 * as ever.
 *
 *     faults_arm(FAULT_EIO, n);
 *     ... what is under test ...
 *     hit = faults_disarm();     false: there is no n-th call, and the loop over n is over
 */
#ifndef PHEAP_T_LIB_SYS_FAULTS_H
#define PHEAP_T_LIB_SYS_FAULTS_H

#include <stdbool.h>

enum fault_kind {
    FAULT_EIO,
    FAULT_ENOSPC,
    FAULT_EINTR,
    FAULT_ENOMEM,
    FAULT_EMFILE,
    FAULT_EPERM,
    FAULT_SHORT,
    FAULT_ARENA, /* arena_alloc() finds no more: link with -Wl,--wrap=arena_alloc */
    FAULT_KINDS,
};

extern const char *const fault_names[FAULT_KINDS];

/* Before the first use, in a program that forks or has an agent: what is counted is shared by all
 * of them. */
void faults_share(void);

/* From now on, in the calling process and, by_agent, only in others that share its memory. */
void faults_arm(enum fault_kind kind, unsigned long n);
void faults_arm_agent(enum fault_kind kind, unsigned long n);
void faults_arm_others(enum fault_kind kind, unsigned long n); /* by the test: in all but itself */
bool faults_disarm(void);

/*
 * Instead of failing anything: how often each system call is made by the agents of this process, or
 * by processes that it forks meanwhile, those apart that lie between the seizing of the first
 * thread and the letting go of the last. Those that wait for somebody, and so may be made any
 * number of times, are not counted.
 */
#define COUNTED_CALLS 512

struct call_counts {
    int frozen[COUNTED_CALLS], other[COUNTED_CALLS];
    unsigned long written_bytes, read_bytes; /* asked for, by pread and pwrite */
};

void faults_count_calls(struct call_counts *counts); /* in shared memory; NULL: no more */

/* The number of the system call that failed last, and how many were counted; for messages. */
long faults_failed_call(void);
unsigned long faults_counted(void);

#endif
