/*
 * preload_env.h - the environment that makes a program pheap's: LD_PRELOAD and PHEAP_*.
 *
 * docs/internals.md "Who owns the pool" says what libpheap makes of these variables.
 */
#ifndef PHEAP_TOOLS_PRELOAD_ENV_H
#define PHEAP_TOOLS_PRELOAD_ENV_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

struct preload_options {
    const char *pool_path; /* absolute */
    uint32_t slot;
    uint64_t interval_ns; /* 0: only on request */
    uint64_t dirty_bytes; /* 0: no watermark */
    uint32_t keep;        /* 0: the pool's own */
    bool fresh;           /* what could be resumed is given up */
    bool at_exit;
    bool denies_io_uring;  /* else as PHEAP_DENY says */
    bool tcp_established;  /* connections outlive that end */
    bool on_term;          /* SIGTERM is a checkpoint and the end */
    bool ignores_children; /* else as PHEAP_CHILDREN says */
    const char *files;     /* --files, "save:SIZE"; NULL: as PHEAP_FILES says */
    bool self_contained;   /* else as PHEAP_SELF_CONTAINED says */
    bool no_crash;         /* no generation of kind crash; else as PHEAP_CRASH says */
};

/* Takes libpheap.so out of LD_PRELOAD. True if it was there. */
bool preload_env_drop(void);

/* Sets the variables for the program that this process becomes by exec. */
MUST_CHECK int preload_env_set(const struct preload_options *options, struct problem *why);

#endif
