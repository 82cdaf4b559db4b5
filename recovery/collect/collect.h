/*
 * collect.h - frees the blocks of a heap that nothing leads to: of one that programs open by
 * themselves, or, when that is asked for, of a program's checkpoints. README.md says how.
 *
 * Not seen are pointers that are neither addresses nor, in a heap, self-relative (xor, other
 * offsets, in parts), and what another heap, a file or a device refers to.
 */
#ifndef PHEAP_RECOVERY_COLLECT_H
#define PHEAP_RECOVERY_COLLECT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"

struct collect_request {
    const char *path;
    bool only_says;     /* nothing is changed: how much it would be */
    bool from_programs; /* free blocks of a program's heap too; else they are only counted */
    bool now;           /* of a program's heap: without a second verdict */
};

struct collect_result {
    uint64_t blocks_in_use;             /* before */
    uint64_t blocks, bytes;             /* that nothing leads to */
    bool is_programs;                   /* the heap of a program's checkpoint */
    uint64_t marked;                    /* generation that was looked at, with the log applied */
    uint64_t generation;                /* that has them free; 0: none was taken */
    uint64_t freed_blocks, freed_bytes; /* or would be */
    uint64_t waiting_blocks;            /* in the quarantine from now on, or would be */
    uint64_t earlier; /* generation of the verdict in the quarantine; 0: there was none */
    bool has_not_run; /* the program, since that */
};

/*
 * STATUS_IN_USE, STATUS_DAMAGED, STATUS_IN_DOUBT; of a program's heap also STATUS_ENDED: it will
 * not be resumed; STATUS_REFUSED: the heap is a hardened one; STATUS_DEFERRED: this generation was
 * cut in the middle of an allocation. Nothing is changed then. After any other failure what
 * result->generation says has been done.
 *
 * Crash: README.md.
 */
MUST_CHECK int collect_heap(const struct collect_request *request, struct collect_result *result,
                            struct problem *why);

#endif
