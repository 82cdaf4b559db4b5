/*
 * moving.h - a heap on its way. Internal to recovery/move: the view's blocks and those of core/tx
 * are two types of one name, so reading and writing are two files.
 */
#ifndef PHEAP_RECOVERY_MOVING_H
#define PHEAP_RECOVERY_MOVING_H

#include <stdint.h>
#include "core/base/status.h"

struct moving {
    uint64_t from;   /* where the slot is mapped, its addresses those of the new slot */
    uint32_t slices; /* with spans, those in front of the data included */
    uint32_t slot;   /* the new one */
    uint32_t keep;   /* generations */
    const char *to;
};

/* write.c: a new pool with that heap, checked by opening it; it has its name when it is complete.
 * On failure no file is left. */
MUST_CHECK int moving_write(const struct moving *moving, struct problem *why);

#endif
