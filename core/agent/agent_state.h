/*
 * agent_state.h - what the parts of the agent share. Internal to core/agent.
 *
 * All of it lies in the agent's own reservation, which no image holds:
 *
 *     [ core: this struct, stacks, tracees | pool: index, frames | writer: lists, scratch |
 *       scratch of one checkpoint: mappings, record | window: the mapped pool, if it is on DAX ]
 *
 * Only fields of struct agent_link lie in the program's memory.
 */
#ifndef PHEAP_AGENT_AGENT_STATE_H
#define PHEAP_AGENT_AGENT_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/agent/agent.h"
#include "core/agent/allowance.h"
#include "core/agent/control.h"
#include "core/agent/freeze.h"
#include "core/agent/patience.h"
#include "core/agent/processors.h"
#include "core/agent/verify.h"
#include "core/base/arena.h"
#include "core/base/kernel_features.h"
#include "core/image/image_writer.h"
#include "core/pool/pool.h"
#include "core/process/capture.h"
#include "core/process/children.h"
#include "core/process/connections.h"
#include "core/process/saved_files.h"
#include "core/process/syscall_restart.h"

#define AGENT_CLIENTS 8
#define AGENT_REASONS 8

#define CHECKPOINT_PATIENCE_NS 5000000000ull /* then a deferred checkpoint is refused by name */

struct agent_client {
    int fd; /* -1: free */
    bool wants_checkpoint;
    bool wants_pin; /* of the generation that is taken */
    bool wants_pool;
    uint64_t deadline_ns;
};

struct agent {
    struct agent_link *link;
    int program_pid;
    int self_pid;
    uint32_t self_tid; /* 0 when the kernel has seen our end: threads on errands look at it */
    int pidfd;
    int signal_fd; /* SIGCHLD: a straggler reports; SIGURG: the mailbox */

    struct arena whole, core, pool_arena, writer_arena, scratch;
    struct address_range window;
    void *record; /* buffer of the process record, below scratch_mark */
    size_t record_bytes;
    size_t record_more_bytes; /* than usual: the program has much shared memory */
    uintptr_t scratch_mark;
    uintptr_t call_stack_top;

    struct pool pool;
    char storage[64]; /* how the pool is written, and why so */
    struct kernel_features features;
    struct processors processors;
    struct allowance allowance;
    struct verification verification; /* of what a restore mapped */
    struct image_writer *writer;
    struct address_space precopy_space;
    bool does_direct_io;                /* the program, or it did once */
    struct address_range stack_garbage; /* of [stack], at the last cut */
    struct capture_cache *capture_cache;
    struct saved_files *saved_files; /* NULL: none are saved */
    struct restart_table *restarts;
    struct freeze freeze;
    struct kept_connections connections; /* of the program that is about to end */
    struct halt_table *halts;            /* PHEAP_FREEZE=signal */
    struct children children;            /* as they were last seen */
    bool waits_for_child;                /* the last attempt did */
    bool said_so;

    /* when the next checkpoint is due */
    bool requested;
    bool mailbox_waits; /* for a checkpoint */
    bool terminates;    /* the program is to end after a checkpoint */
    bool terminated;    /* and that was taken: no crash image of what follows */
    uint64_t termination_deadline_ns;
    uint64_t mailbox_deadline_ns;
    uint64_t next_ns;         /* CLOCK_MONOTONIC: by the interval */
    uint64_t earliest_ns;     /* by the watermark */
    uint64_t look_ns;         /* when the watermark is looked at again */
    bool over_watermark;      /* so much was written that one is due */
    uint32_t deferrals;       /* in a row */
    uint32_t failures;        /* in a row */
    struct patience patience; /* with a program that writes faster than its pages are copied */
    uint64_t precopy_ns;      /* that the rounds of the last attempt took */
    bool is_put_off;          /* more was left to copy than a freeze should */
    uint64_t deferred_since_ns;
    bool let_go;      /* another program has taken over */
    bool ended;       /* the program has */
    bool pool_wanted; /* since: somebody waits for the pool */
    bool misled;      /* the program stood on damaged ground and was killed for it */

    /* for CONTROL_STATUS */
    uint64_t checkpoints, deferred_total, last_pause_ns, last_written_bytes, last_page_bytes,
        last_rewritten_bytes;

    int listen_fd;
    bool listener_rests; /* who waits there cannot be accepted at the moment */
    struct agent_client clients[AGENT_CLIENTS];

    /* the program's stderr as it was at the start: if descriptor 2 is another file now, nothing
     * is written to it */
    uint64_t stderr_device, stderr_inode;
    int reasons[AGENT_REASONS]; /* reported since the last success */
    bool long_pause_reported;
    bool removal_reported;
    uint64_t look_for_name_ns; /* is the pool still a file with a name? */
};

/* checkpoint.c */
MUST_CHECK int checkpoint_take(struct agent *agent, struct problem *why);
MUST_CHECK int checkpoint_make_record(struct agent *agent, struct record_writer *record,
                                      struct problem *why);

/* garbage.c: what a checkpoint leaves out */
void garbage_of_stack(struct agent *agent, const struct address_space *space); /* in the freeze */
uint32_t garbage_find(void *agent, bool stopped, struct page_span *out, uint32_t limit);

/* crash.c: wait_status as wait() gives it, negative: not known */
void crash_take(struct agent *agent, int wait_status);

/* end.c */
MUST_CHECK int agent_note_run(struct agent *agent, struct problem *why);
void agent_note_end(struct agent *agent);

/* report.c */
void report_remember_stderr(struct agent *agent); /* on the program's thread */
void report_once(struct agent *agent, int reason, const char *text);
void report_forget(struct agent *agent);

/* control.c */
void control_listen(struct agent *agent);
void control_serve(struct agent *agent);
void control_checkpoint_done(struct agent *agent, int status, const struct problem *why);
void control_close(struct agent *agent);

/* mailbox.c */
void mailbox_serve(struct agent *agent);
void mailbox_answer(struct agent *agent, int status);
void mailbox_resume(struct agent_link *link); /* answers what an image asked */

/* termination.c */
void termination_serve(struct agent *agent);
/* The generation is committed and every thread stopped since its cut: the program's end. */
void termination_end(struct agent *agent);
void termination_checkpoint_done(struct agent *agent, int status, const struct problem *why);

/* begin.c: run in the agent, in this order */
MUST_CHECK int agent_take_pool(struct agent *agent, struct problem *why);
MUST_CHECK int agent_prepare(struct agent *agent, struct problem *why);
/* What the link says is saved of files from now on. */
MUST_CHECK int agent_save_files(struct agent *agent);

/* watermark.c */
void watermark_look(struct agent *agent);
uint64_t watermark_wait_ns(const struct agent *agent, uint64_t now_ns); /* UINT64_MAX: for ever */

/* loop.c */
void agent_loop(struct agent *agent);

#endif
