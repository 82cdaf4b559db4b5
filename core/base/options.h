/*
 * options.h - what a person may set: durations, counts, and the PHEAP_ variables of the
 * environment.
 *
 * Thread safety: pure functions; what they return points into the environment given.
 */
#ifndef PHEAP_BASE_OPTIONS_H
#define PHEAP_BASE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/kernel_features.h"
#include "core/base/status.h"

#define OPTIONS_INTERVAL_DEFAULT_NS 1000000000ull
#define OPTIONS_KEEP_DEFAULT        3
#define OPTIONS_PROFILE_DEFAULT     (512ull << 10) /* PHEAP_PROFILE=1 */
#define OPTIONS_PROFILE_MAX         (1ull << 40)
#define OPTIONS_KEEP_MAX            16
#define OPTIONS_FILES_DEFAULT       (64ull << 20)
#define OPTIONS_DIRTY_MIN           (1ull << 20) /* smaller: checkpoints without end */

/*
 * "250ms", "1.5s", "2m", "1h", "800us", "5000ns"; a bare number counts in bare_unit_ns (1 for the
 * environment, 1000000000 for a person at a command line). 0 or STATUS_USAGE.
 */
MUST_CHECK int options_duration(const char *text, uint64_t bare_unit_ns, uint64_t *out_ns);

/* "64M": K, M, G, T stand for powers of 1024; a bare number counts bytes. 0 or STATUS_USAGE. */
MUST_CHECK int options_size(const char *text, uint64_t *out_bytes);

/* A size that a watermark can have: 0 (none), or from OPTIONS_DIRTY_MIN. 0 or STATUS_USAGE. */
MUST_CHECK int options_dirty(const char *text, uint64_t *out_bytes);

/* A mean distance of samples: 0 (none), 1 (OPTIONS_PROFILE_DEFAULT), or a size. 0 or STATUS_USAGE.
 */
MUST_CHECK int options_profile(const char *text, uint64_t *out_bytes);

/* "save" (OPTIONS_FILES_DEFAULT) or "save:SIZE": up to which size files are saved. 0 or
 * STATUS_USAGE. */
MUST_CHECK int options_files(const char *text, uint64_t *out_bytes);

/* A decimal number up to max. 0 or STATUS_USAGE. */
MUST_CHECK int options_number(const char *text, uint64_t max, uint64_t *out);

/* The value of a variable in an environment block, or NULL. */
const char *options_variable(char *const *environment, const char *name);

struct environment_options {
    const char *pool;       /* PHEAP_POOL; NULL: none, or empty */
    const char *owner;      /* PHEAP_OWNER */
    uint64_t interval_ns;   /* PHEAP_INTERVAL; 0: only on request */
    uint64_t dirty_bytes;   /* PHEAP_DIRTY; 0: not said */
    uint64_t profile_bytes; /* PHEAP_PROFILE; 0: not said */
    uint32_t keep;          /* PHEAP_KEEP; 0: not said */
    enum tracking track;    /* PHEAP_TRACK=checksum, soft-dirty; else TRACKING_BEST */
    bool checks_cuts;       /* PHEAP_CHECK=cut */
    bool by_signal;         /* PHEAP_FREEZE=signal */
    bool at_exit;           /* PHEAP_AT_EXIT=1 */
    bool omits_crash;       /* PHEAP_CRASH=0 */
    bool ignores_children;  /* PHEAP_CHILDREN=ignore */
    bool denies_io_uring;   /* PHEAP_DENY=io_uring */
    uint64_t files_bytes;   /* PHEAP_FILES=save, save:SIZE; 0: not said */
    bool self_contained;    /* PHEAP_SELF_CONTAINED=1: mapped files are saved too */
    bool on_term;           /* PHEAP_ON_TERM=1: SIGTERM is a checkpoint and the end */
    bool tcp_established;   /* PHEAP_TCP_ESTABLISHED=1: connections outlive an end by SIGTERM */
    bool fresh;             /* PHEAP_FRESH=1: start anew although there is something to resume */
    bool deepbind;          /* PHEAP_DEEPBIND=1: dlopen keeps RTLD_DEEPBIND */
    bool harden;            /* PHEAP_HARDEN=1 */
    bool stats;             /* PHEAP_STATS=1: statistics at exit */
};

/* 0, or STATUS_USAGE with the variable and its value in *why; what is wrong has its default. */
MUST_CHECK int options_from_environment(struct environment_options *out, char *const *environment,
                                        struct problem *why);

/* Whether a variable is set to anything but nothing and 0. */
bool options_switch(char *const *environment, const char *name);

/* PHEAP_OWNER's value, "pid:starttime:filters": the last is how many seccomp filters the process
 * had when it became the owner. 0 or STATUS_USAGE. */
struct options_owner {
    int pid;
    uint64_t start_time;
    uint64_t filters;
};
MUST_CHECK int options_owner(const char *text, struct options_owner *out);

#endif
