/*
 * namespace.h - what the init process of an own pid namespace tells pheap restore.
 */
#ifndef PHEAP_RECOVERY_RESTORE_NAMESPACE_H
#define PHEAP_RECOVERY_RESTORE_NAMESPACE_H

#include <stdint.h>

enum namespace_event_kind {
    NAMESPACE_STOPPED = 1, /* value: the signal */
    NAMESPACE_ENDED = 2,   /* value: the wait status */
};

struct namespace_event {
    int32_t kind;
    int32_t value;
};

#endif
