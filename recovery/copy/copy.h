/*
 * copy.h - the generations of a pool, written into a new file, without anything that none of them
 * needs.
 *
 * The caller has the pool open for writing, so that it does not change meanwhile; or for reading,
 * with a lock on the one generation that is copied. The new file gets
 * its name when it is complete, checked and durable: there is no moment at which half a pool lies
 * there.
 */
#ifndef PHEAP_RECOVERY_COPY_H
#define PHEAP_RECOVERY_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include "core/pool/pool.h"

typedef void copy_progress(void *context, uint64_t bytes_done, uint64_t bytes_total);

struct copy_request {
    struct pool *pool;
    const char *to;        /* the new file */
    uint64_t only;         /* this generation alone; 0: all */
    bool replaces;         /* a file that is there gives way; else it must not exist */
    bool new_identity;     /* another uuid and time of creation: a pool of its own */
    uint64_t needed_bytes; /* about so many, for the look at the free space and for progress */
    copy_progress *progress;
    void *context;
};

/* *bytes: the new file's length. STATUS_REFUSED (the file exists), -ENOSPC, STATUS_DAMAGED (a
 * generation is not whole); the pool is unchanged then, and no file is left. why is not NULL. */
MUST_CHECK int pool_copy(const struct copy_request *request, uint64_t *bytes, struct problem *why);

#endif
