/*
 * namespace.h - what the init process of an own pid namespace tells pheap restore, and the two
 * steps to such a namespace that may be forbidden, for pheap doctor to try.
 */
#ifndef PHEAP_RECOVERY_RESTORE_NAMESPACE_H
#define PHEAP_RECOVERY_RESTORE_NAMESPACE_H

#include <stdint.h>
#include "core/base/status.h"

enum namespace_event_kind {
    NAMESPACE_STOPPED = 1, /* value: the signal */
    NAMESPACE_ENDED = 2,   /* value: the wait status */
};

struct namespace_event {
    int32_t kind;
    int32_t value;
};

/* In a new user namespace: maps these ids, the caller's as they were outside, to themselves.
 * 0 or -errno. Raw system calls alone. */
MUST_CHECK int namespace_map_ids(unsigned int uid, unsigned int gid);

/* In the first process of a new pid and mount namespace: its own /proc. 0 or -errno. */
MUST_CHECK int namespace_mount_proc(void);

#endif
