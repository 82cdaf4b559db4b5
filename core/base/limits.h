/*
 * limits.h - the resource limits (ulimit) of this process, as they bear on pheap's own work. Works
 * in the agent: raw system calls only.
 */
#ifndef PHEAP_BASE_LIMITS_H
#define PHEAP_BASE_LIMITS_H

#include <stdint.h>
#include <sys/resource.h>
#include "core/base/status.h"

/* The soft limit; UINT64_MAX: none. resource: RLIMIT_NOFILE ... */
uint64_t limit_of(int resource);

/* The soft limit up to the hard one, which takes no privilege. Returns it as limit_of() does. */
uint64_t limit_raise(int resource);

/* Where a limit can be what stood in the way, its name and value are added to the text: a person
 * looks for "too many open files" in vain where there are three. -EMFILE, -EFBIG, -ENOMEM (address
 * space and data, as far as they are limited) and -EAGAIN (of fork and clone). */
void limit_explain(struct problem *why);

#endif
