/*
 * persist.h - the one way in which bytes reach a pool and become durable.
 *
 * The caller writes with persist_write(), and nothing it wrote counts as durable before
 * persist_sync() has returned 0. Between the two a power cut may leave any subset of the written
 * sectors (512 bytes). After a failed persist_sync() the state of the file is unknown: the back
 * end stays failed and every later sync returns the same error (the kernel reports a lost write
 * once only).
 *
 * Back ends: ordinary files (pwrite, fdatasync, fallocate), and a recording one for tests, which
 * keeps every operation in a trace from which crash states are enumerated.
 *
 * Thread safety: one user at a time.
 */
#ifndef PHEAP_POOL_PERSIST_H
#define PHEAP_POOL_PERSIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

struct persist;

struct persist_ops {
    int (*write)(struct persist *persist, uint64_t offset, const void *data, size_t bytes);
    int (*sync)(struct persist *persist);
    int (*grow)(struct persist *persist, uint64_t file_bytes);
    int (*reserve)(struct persist *persist, uint64_t offset, uint64_t bytes);
    int (*punch)(struct persist *persist, uint64_t offset, uint64_t bytes);
};

struct persist {
    const struct persist_ops *ops;
    int fd;
    int failed;             /* the status of the first failed sync, else 0 */
    uint64_t file_bytes;    /* preallocated size */
    uint64_t bytes_written; /* since persist_open: for golden costs */
    uint64_t syncs;
    void *recorder; /* of the recording back end */
};

/* fd stays the caller's. */
void persist_open_file(struct persist *persist, int fd, uint64_t file_bytes);

MUST_CHECK int persist_write(struct persist *persist, uint64_t offset, const void *data,
                             size_t bytes);
MUST_CHECK int persist_sync(struct persist *persist);

/* Makes the file at least file_bytes long with space reserved for it (so that no later write
 * fails for space, and no mapping of it dies by SIGBUS). -ENOSPC leaves the file as it was. */
MUST_CHECK int persist_grow(struct persist *persist, uint64_t file_bytes);

/* Reserves space for a range of the file that may have a hole. -ENOSPC. */
MUST_CHECK int persist_reserve(struct persist *persist, uint64_t offset, uint64_t bytes);

/* Gives the space of a range back: it reads as zero, now or, after a power cut, perhaps as what was
 * there. -EOPNOTSUPP where the file system cannot. */
MUST_CHECK int persist_punch(struct persist *persist, uint64_t offset, uint64_t bytes);

/* Whether the file has fewer blocks than it is long. */
bool persist_is_sparse(const struct persist *persist);

#endif
