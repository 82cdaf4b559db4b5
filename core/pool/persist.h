/*
 * persist.h - the one way in which bytes reach a pool and become durable.
 *
 * The caller writes with persist_write(), and nothing it wrote counts as durable before
 * persist_sync() has returned 0. Between the two a power cut may leave any subset of the written
 * sectors (512 bytes). After a failed persist_sync() the state of the file is unknown: the back
 * end stays failed and every later sync returns the same error (the kernel reports a lost write
 * once only).
 *
 * Back ends:
 *   file       pwrite, fdatasync, fallocate; right on every file system, one on DAX too
 *   dax        persist_dax.c: the file is mapped, libpmem copies with non-temporal stores, a sync
 *              is one fence; neither makes a system call. Between two syncs a power cut may leave
 *              any subset of the written cache lines (64 bytes)
 *   recording  of the tests: keeps every operation in a trace from which crash states are made
 *
 * Thread safety: one user at a time of one struct persist; persist_share() makes another one of the
 * same file. persist_store() and persist_fence() are for any number of threads at once.
 */
#ifndef PHEAP_POOL_PERSIST_H
#define PHEAP_POOL_PERSIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"

struct persist;

struct persist_ops {
    const char *name;
    int (*write)(struct persist *persist, uint64_t offset, const void *data, size_t bytes);
    int (*sync)(struct persist *persist);
    int (*grow)(struct persist *persist, uint64_t file_bytes);
    int (*reserve)(struct persist *persist, uint64_t offset, uint64_t bytes);
    int (*punch)(struct persist *persist, uint64_t offset, uint64_t bytes);
};

/*
 * What the DAX back end calls of libpmem, all zero when it is not loaded. libpheap.so itself
 * depends on libc alone, so whoever may load libraries (a program's own thread, a tool) finds the
 * functions with persist_pmem_find(). They are called by the agent later: they make no system
 * call, and touch neither errno nor malloc, locks or thread-local storage (but for reading the
 * stack protector's canary).
 */
struct persist_pmem {
    void *(*copy)(void *to, const void *from, size_t bytes, unsigned flags);
    void (*drain)(void);
    bool forced; /* a file on tmpfs will do as well */
};

/* Invariant: window != NULL: the first mapped_bytes of the file are mapped there, page-aligned,
 * through fd; what lies beyond is written through the file back end. */
struct persist_dax {
    struct persist_pmem pmem;
    uint8_t *window; /* NULL: another back end */
    uint64_t window_bytes, mapped_bytes;
    int fd;             /* an open file description of its own */
    int map_flags;      /* MAP_SYNC, or MAP_SHARED on tmpfs */
    bool file_sync_due; /* something was written beyond the mapped part since the last sync */
};

struct persist {
    const struct persist_ops *ops;
    int fd;
    int failed;             /* the status of the first failed sync, else 0 */
    uint64_t file_bytes;    /* preallocated size */
    uint64_t bytes_written; /* since persist_open: for golden costs */
    uint64_t syncs;
    uint64_t file_syncs; /* system calls among them, or in a growth */
    struct persist_dax dax;
    void *recorder; /* of the recording back end */
};

extern const struct persist_ops persist_file_ops;

/* Of the file back end: zeroes from persist->file_bytes up to file_bytes. */
MUST_CHECK int persist_file_fill(struct persist *persist, uint64_t file_bytes);

/* fd stays the caller's; persist_close() gives back all else. */
void persist_open_file(struct persist *persist, int fd, uint64_t file_bytes);
void persist_close(struct persist *persist);

/* Is it worth while to load libpmem for this file? True on a DAX file system and, if forced (by
 * PMEM_IS_PMEM_FORCE=1, for tests), on tmpfs, where there is no durability to lose. */
bool persist_may_use_dax(const char *path, bool forced);

/* find: dlsym, library: a handle of PERSIST_PMEM_LIBRARY. Runs libpmem's own test on the file, so
 * it is not for the agent. 0, -ENOSYS (a function is missing), or -EOPNOTSUPP: libpmem says that
 * this file is no persistent memory. */
#define PERSIST_PMEM_LIBRARY "libpmem.so.1"
typedef void *persist_find(void *library, const char *name);
MUST_CHECK int persist_pmem_find(struct persist_pmem *out, const char *path, persist_find *find,
                                 void *library);

/*
 * From the file back end to the DAX one. window: address space that the caller has reserved
 * (PROT_NONE) and keeps until persist_close(). The mapping is not inherited by fork and holds no
 * lock. -EOPNOTSUPP: the file system cannot promise that a fence is enough (no MAP_SYNC, and
 * no tmpfs or not forced); after any failure the file back end stays in use.
 */
MUST_CHECK int persist_use_dax(struct persist *persist, const struct persist_pmem *pmem,
                               void *window, uint64_t window_bytes);

/*
 * A second one of the same file, with an open file description of its own, so that the kernel
 * reports to each what was lost since it last asked. On DAX it has the mapping that there is now;
 * what lies beyond is written by system calls. persist_unshare() before persist_close() of the
 * first.
 */
MUST_CHECK int persist_share(struct persist *out, const struct persist *first);
void persist_unshare(struct persist *second);

/* Does a range lie in the mapping of the DAX back end? There, from any number of threads: a store
 * is durable when its own thread has made a fence behind it. Neither is counted here. */
bool persist_is_mapped(const struct persist *persist, uint64_t offset, uint64_t bytes);
void persist_store(const struct persist *persist, uint64_t offset, const void *data, size_t bytes);
void persist_fence(const struct persist *persist);

/* A handler of SIGBUS (SA_NODEFER, the signal not blocked): a write that finds no memory, because
 * the file was cut short, fails with -EIO, and the back end stays failed. Without it, it kills.
 * Ends the process for any other SIGBUS. */
void persist_dax_fault(int signal_number);

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
