/*
 * parasite.h - what only a thread itself can tell the kernel's view of, asked in one go.
 *
 * parasite_collect() is an errand (errand.h) of stopped threads, of several at once, each with a
 * report of its own, which lies in the agent's memory (the address space is shared). One of them is
 * asked for what belongs to the process too.
 */
#ifndef PHEAP_PROCESS_PARASITE_H
#define PHEAP_PROCESS_PARASITE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>
#include "core/process/record_format.h"

#define PARASITE_POSIX_TIMERS_MAX 64

/* Of the process. */
struct parasite_report {
    /* in */
    uint32_t posix_timer_count;
    int32_t posix_timer_ids[PARASITE_POSIX_TIMERS_MAX];
    uint32_t descriptor_count;
    const uint32_t *descriptors; /* numbers */
    bool *close_on_exec;         /* [i] of descriptors[i]; out */

    /* out */
    uint64_t brk;
    int32_t dumpable, subreaper, huge_pages_off;
    struct record_signal_action actions[RECORD_SIGNALS];
    struct itimerval interval_timers[3];
    struct itimerspec posix_timers[PARASITE_POSIX_TIMERS_MAX];
};

/* Of one thread. */
struct parasite_thread {
    struct parasite_report *process; /* in; NULL: not asked */
    uint64_t clear_tid_address;
    struct {
        uint64_t sp;
        int32_t flags, pad;
        uint64_t bytes;
    } altstack;
    uint64_t timer_slack_ns;
    int32_t death_signal;
};

/* 0 or the first -errno. Argument: a struct parasite_thread. */
long parasite_collect(void *of_one_thread);

#endif
