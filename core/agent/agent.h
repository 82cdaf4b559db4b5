/*
 * agent.h - the companion process that takes checkpoints (DESIGN.md 6).
 *
 * agent_start() is called on a thread of the program, by the constructor of libpheap and, after a
 * restore, by the resume entry. It makes the agent's arena (never saved), and clones the agent
 * into the program's address space: CLONE_VM without CLONE_THREAD, CLONE_FILES, CLONE_FS, exit
 * signal 0. The agent closes every inherited descriptor, opens the pool, takes its lock, and then
 * answers agent_start(), which waits for that.
 *
 * The program's side shares one struct agent_link with the agent; it lies in libpheap's data and is
 * saved with the image, where resume overwrites it.
 */
#ifndef PHEAP_AGENT_AGENT_H
#define PHEAP_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/persist.h"
#include "core/process/capture.h"
#include "core/process/memory_attributes.h"

#define AGENT_PATH_BYTES 4096

/*
 * How the program asks its agent for something: no socket, because a descriptor of the program's
 * would be part of the next image. One request at a time; `lock` is the askers'.
 */
struct agent_mailbox {
    uint32_t lock;
    uint32_t kind; /* enum control_request_kind; 0: no request */
    uint64_t start, end;
    int32_t status;      /* of the last answer */
    uint32_t answered;   /* futex: answers given */
    uint64_t generation; /* with the last answer to CONTROL_CHECKPOINT, if its status is 0 */
};

enum agent_termination {
    AGENT_TERMINATION_NONE,
    AGENT_TERMINATION_ASKED,   /* by the program: a checkpoint, and then SIGTERM */
    AGENT_TERMINATION_SAVED,   /* by the agent, with SIGTERM: it is durable */
    AGENT_TERMINATION_REFUSED, /* by the agent, with SIGTERM: there is none */
};

struct agent_link {
    /* written by the program before agent_start() */
    char pool_path[AGENT_PATH_BYTES]; /* absolute */
    uint64_t interval_ns;             /* 0: only on request */
    uint64_t dirty_bytes;             /* a checkpoint when so much was written; 0: never */
    uint32_t keep;                    /* 0: the pool's own */
    uint32_t slot;
    uint32_t track;              /* enum tracking: PHEAP_TRACK */
    uint32_t checks_cuts;        /* PHEAP_CHECK=cut */
    uint32_t by_signal;          /* PHEAP_FREEZE=signal: threads halt themselves, nobody traces */
    struct capture_rseq rseq;    /* libc's, for that */
    int32_t halt_signal;         /* which; 0: none. Written by agent_start() */
    uint32_t at_exit;            /* --at-exit: a generation at normal exit */
    uint32_t ignores_children;   /* --children=ignore */
    uint32_t keeps_connections;  /* --tcp-established: when SIGTERM ends the program */
    uint32_t denies_io_uring;    /* --deny io_uring, and the filter is there */
    uint32_t self_contained;     /* --self-contained: generations have the mapped files' pages */
    uint64_t files_bytes;        /* --files=save: of files up to this size; 0: not */
    uint32_t omits_crash;        /* --no-crash: none of kind crash after a kill */
    uint64_t resumed_generation; /* base of the next generation; 0: a new program */
    uint32_t run_goes_on;        /* 1: an exec in the same process: the run began earlier */
    uint32_t inherited_filters;  /* seccomp filters that the run began with */
    uintptr_t resume_entry;
    /* Found by the constructor when the pool lay on DAX. An image holds it with the library that it
     * points into; where the pool lies when that is resumed is looked at anew. */
    struct persist_pmem pmem;

    /* written by the program while it runs */
    uint32_t exit_noted; /* 1: exit_status is what exit or _exit was called with; an image that was
                            cut after it holds it, and will end with it */
    int32_t exit_status;
    uint32_t termination; /* enum agent_termination; never ASKED in an image */

    struct memory_calls memory_calls;

    /* written by the agent */
    int32_t agent_pid;             /* 0: none */
    int32_t state;                 /* futex: 0 starting, 1 running, negative: why it failed */
    uint64_t committed_generation; /* newest */
    struct problem start_problem;  /* with its answer; not in its own memory, which an image that is
                                      cut before the starting thread has read it does not hold */

    struct agent_mailbox mailbox;
};

/* 0, or why there is no agent (pool in use, no memory, ...): the program then goes on with a
 * volatile heap. With 0, why->text is a warning if it is not empty. */
MUST_CHECK int agent_start(struct agent_link *link, struct problem *why);

/*
 * Asks the program's agent, from any thread of the program, and waits: CONTROL_CHECKPOINT, or
 * CONTROL_UNTRACK of [start, end). -ETIMEDOUT, -ESRCH when there is no agent. In an image that was
 * cut while a thread waits here, agent_start() of the resumed process answers it.
 */
MUST_CHECK int agent_request(struct agent_link *link, uint32_t kind, uint64_t start, uint64_t end,
                             int timeout_ms);

/* The same for a checkpoint: its number, once it is durable. In the resumed process too. */
MUST_CHECK int64_t agent_checkpoint(struct agent_link *link, int timeout_ms);

#endif
