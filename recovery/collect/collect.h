/*
 * collect.h - frees the blocks of an opened heap that nothing leads to. README.md says how.
 *
 * Not seen are pointers that are neither addresses nor self-relative (xor, other offsets), and what
 * another heap refers to.
 */
#ifndef PHEAP_RECOVERY_COLLECT_H
#define PHEAP_RECOVERY_COLLECT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

struct collect_result {
    uint64_t blocks_in_use; /* before */
    uint64_t blocks, bytes; /* that nothing leads to */
    bool is_programs;       /* the heap of a program's checkpoint: nothing of it is freed */
    uint64_t marked;        /* generation that was looked at, with the log applied */
    uint64_t generation;    /* that has them free; 0: none was taken */
};

/*
 * frees: else, and in a program's own heap, they are only counted. STATUS_IN_USE, STATUS_DAMAGED,
 * STATUS_IN_DOUBT: nothing is changed.
 *
 * Crash: README.md.
 */
MUST_CHECK int collect_heap(const char *path, bool frees, struct collect_result *result,
                            struct problem *why);

#endif
