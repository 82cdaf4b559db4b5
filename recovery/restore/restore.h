/*
 * restore.h - brings a process back from a generation, and stays as its parent.
 *
 * Calling sequence (pheap restore, pheap run --resume): restore_process(), then restore_wait().
 * What a crash leaves: before the rebuilt process is let go nothing has changed outside but the
 * pool's resume count, and files cut back or put back to what they were at the checkpoint; all of
 * it can be done again.
 */
#ifndef PHEAP_RECOVERY_RESTORE_H
#define PHEAP_RECOVERY_RESTORE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/format.h"

struct restore_options {
    const char *pool_path;
    uint64_t generation; /* 0: the newest process generation of the present run; after three
                            resumes of one generation without a newer one, the one before */
    bool verbose;
    bool tcp_established; /* TCP connections that the generation has are gone on with; else reset */
    bool keeps_files; /* the program that the generation is of runs: its files are not put back */
};

struct restored {
    int pid;       /* as the program knows itself */
    int outer_pid; /* as we see it; the same unless own_namespace; 0: it has ended already */
    bool own_namespace;
    uint64_t generation;
    uint32_t connections; /* TCP connections that were kept */
    /* for restore_wait(): */
    int init_pid;  /* own_namespace: the process between us and it, else 0 */
    int status_fd; /* where that one reports stops and the end, else -1 */
};

/* Rebuilds the process and lets it run. The statuses a person should know: STATUS_ENDED,
 * STATUS_NO_GENERATION, STATUS_IN_USE, STATUS_CHANGED, STATUS_DAMAGED, STATUS_NOT_PERMITTED. */
MUST_CHECK int restore_process(const struct restore_options *options, struct restored *out,
                               struct problem *why);

/* Says why there is nothing that a restore without a number takes, and what could be named:
 * STATUS_ENDED or STATUS_NO_GENERATION. */
MUST_CHECK int restore_nothing(const struct superblock *super, struct problem *why);

/* Blocks what restore_wait() forwards, before there is a child that it could be meant for; what the
 * mask was. restore_process() does it by itself. */
uint64_t restore_hold_signals(void);
void restore_release_signals(uint64_t before);

/* Forwards signals until the process ends; its wait status. */
int restore_wait(const struct restored *restored);

#endif
