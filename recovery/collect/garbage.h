/*
 * garbage.h - what is to be freed. Internal to recovery/collect: the view's blocks and those of
 * core/tx are two types of one name, so marking and freeing are two files.
 */
#ifndef PHEAP_RECOVERY_GARBAGE_H
#define PHEAP_RECOVERY_GARBAGE_H

#include "recovery/collect/collect.h"

struct garbage {
    uint64_t *addresses; /* free() */
    uint64_t count, room;
    uint64_t bytes;
};

/* mark.c: as collect_heap(); to be freed in any case. */
MUST_CHECK int collect_mark(const char *path, struct garbage *garbage,
                            struct collect_result *result, struct problem *why);

#endif
