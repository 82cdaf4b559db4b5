/*
 * garbage.h - what is to be freed. Internal to recovery/collect: the view's blocks and those of
 * core/tx are two types of one name, so marking and freeing are two files.
 *
 * It is a bit a block and what a map of blocks takes, not a list: nothing leads to most blocks of
 * some heaps.
 */
#ifndef PHEAP_RECOVERY_GARBAGE_H
#define PHEAP_RECOVERY_GARBAGE_H

#include "core/base/arena.h"
#include "recovery/collect/collect.h"

struct block_map;

struct garbage {
    struct arena arena; /* of what follows; garbage_forget() */
    const struct block_map *map;
    const uint64_t *unreached;
};

/* mark.c: as collect_heap(); to be forgotten in any case. */
MUST_CHECK int collect_mark(const char *path, struct garbage *garbage,
                            struct collect_result *result, struct problem *why);

/* Each block's address, ascending. visit returns false to stop. */
typedef bool garbage_visit(void *context, uint64_t address);
void garbage_each(const struct garbage *garbage, garbage_visit *visit, void *context);

void garbage_forget(struct garbage *garbage);

#endif
