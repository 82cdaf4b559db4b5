/*
 * check.h - is a pool file what it should be? For pheap recover --check, and for whoever changes a
 * pool and must know that it is whole afterwards.
 *
 * The file is read as an enemy would have written it: every offset, count and size is looked at
 * before it is used, and nothing is taken from the readers that are to use the pool later. It is
 * only read, with pread, so that a file that is cut short meanwhile does no harm. While it is
 * checked the generations in question are locked as by any reader, so this works beside a running
 * program: then on the newest generation alone.
 *
 * What is found has a stable id (SB-2), a severity and a place; finding.h lists all of them, and
 * docs/recover.md says what to do about each.
 *
 * Thread safety: one check_pool() at a time for one request; it starts threads of its own, and
 * calls `found` under a lock.
 */
#ifndef PHEAP_RECOVERY_CHECK_H
#define PHEAP_RECOVERY_CHECK_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/format.h"
#include "recovery/check/finding.h"

/* Called once a finding; not more than FINDING_TELL_MAX times for one id. */
#define FINDING_TELL_MAX 100
typedef void check_found(void *context, const struct finding *finding);
/* Called now and then, by one thread. */
typedef void check_progress(void *context, uint64_t bytes_done, uint64_t bytes_total);

enum check_heap_choice {
    HEAP_OF_NEWEST, /* that is no crash image */
    HEAPS_OF_ALL,
    HEAPS_OF_NONE, /* is the pool what was written? Not: was what the program had in order? */
};

struct check_request {
    const char *path;
    enum check_heap_choice heaps;
    check_found *found;
    check_progress *progress; /* may be NULL */
    void *context;
};

struct check_result {
    uint64_t counts[FINDING_KINDS];
    enum severity worst;       /* SEVERITY_NONE: the pool is fine */
    bool is_in_use;            /* a program has it open: only its newest generation was looked at */
    struct superblock super;   /* the one in force; all zero: neither is valid */
    bool super_fell_back;      /* the other one is not valid */
    uint32_t damaged;          /* bit i: generation i of super is not whole */
    uint32_t generation_count; /* looked at */
    bool log_is_damaged; /* what was committed to it since the newest generation is not whole */
    uint64_t log_records, log_bytes;
    uint64_t file_bytes;
    uint64_t checked_bytes; /* pages, index and records, each frame once */
};

/*
 * 0: everything was looked at, and *result says what came of it. Else the file cannot be checked:
 * -ENOENT and the like, STATUS_NOT_A_POOL, STATUS_NEWER_FORMAT, STATUS_NOT_OWNER, -ENOMEM.
 */
MUST_CHECK int check_pool(const struct check_request *request, struct check_result *result,
                          struct problem *why);

#endif
