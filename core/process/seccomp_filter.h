/*
 * seccomp_filter.h - the one seccomp filter that a program can have and be checkpointed: that of
 * `pheap run --deny io_uring`, for which io_uring's system calls are not there (ENOSYS), so that
 * programs fall back to others, which can be checkpointed.
 *
 * The kernel gives filters out to privileged tracers only; this one is known.
 */
#ifndef PHEAP_PROCESS_SECCOMP_FILTER_H
#define PHEAP_PROCESS_SECCOMP_FILTER_H

#include <linux/filter.h>
#include "core/base/status.h"

#define FILTER_INSTRUCTIONS 7

void filter_without_io_uring(struct sock_filter out[FILTER_INSTRUCTIONS]);

/* In the calling process, all its threads. -errno: there is no seccomp. */
MUST_CHECK int filter_install(void);

#endif
