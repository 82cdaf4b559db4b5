/*
 * pool_state.h - what a pool's superblock and its agent say about the run in it.
 */
#ifndef PHEAP_TOOLS_POOL_STATE_H
#define PHEAP_TOOLS_POOL_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/agent/control.h"
#include "core/base/status.h"
#include "core/pool/pool.h"

struct pool_state {
    char path[4096]; /* absolute */
    struct superblock super;
    bool super_fell_back;
    bool is_short; /* the file ends before the last of its frames */
};

/*
 * What a person named: a pool by its path, or by the pid of the program that was started with it. A
 * file whose name is a number is a path. *pid: 0 for a path.
 */
MUST_CHECK int pool_state_target(const char *target, char path[4096], uint64_t *pid,
                                 struct problem *why);

/* As pool_open(POOL_READ), which it is. */
MUST_CHECK int pool_state_read(const char *path, struct pool_state *out, struct problem *why);

/* It holds a heap that programs open by themselves, not a program's checkpoints. */
bool pool_state_is_opened(const struct pool_state *state);

/* The generation that --resume goes on from, NULL if there is nothing to resume. */
const struct generation_entry *pool_state_resumable(const struct pool_state *state);

/* The newest generation that is no crash image, NULL if there is none. */
const struct generation_entry *pool_state_newest(const struct pool_state *state);

/* A program runs on the pool: its agent's answer. False when none does. */
bool pool_state_agent(const struct pool_state *state, struct control_answer *answer);

enum pool_use {
    POOL_UNUSED, /* by a living program */
    POOL_RUNS,   /* and its agent has answered */
    POOL_SILENT, /* somebody holds it and does not answer */
};

/*
 * The same, and certain: who holds the pool and does not answer is in the middle of a checkpoint,
 * or about to write the end mark of a program that has ended. It is waited for, up to 3 s, and the
 * superblock is read again.
 */
enum pool_use pool_state_settle(struct pool_state *state, struct control_answer *answer);

/*
 * The answering program's pid as we see it: that of the agent's parent. A program that was resumed
 * in a pid namespace of its own knows itself by another number, which is answer->pid.
 */
int pool_state_outer_pid(const struct control_answer *answer);

/* A process's pid as it knows itself, in its innermost pid namespace; pid itself if it is gone. */
int pool_state_inner_pid(int pid);

/*
 * Waits until the pool's writer lock is free: at once if nobody holds it, up to 2 s for a program
 * that is just ending (after kill -9 its agent lives a moment longer, and lets go of the pool when
 * it is asked). STATUS_IN_USE, with the pid, if it is running. Reads the superblock again, since
 * the one who ended may have written an end mark.
 */
MUST_CHECK int pool_state_wait_free(struct pool_state *state, struct problem *why);

/* The newest process generation older than number, whichever run it is of; NULL: none. */
const struct generation_entry *pool_state_older(const struct pool_state *state, uint64_t number);

#endif
