/*
 * repair.h - a damaged pool becomes one that is whole, by giving up what is not.
 *
 * Calling sequence: check_pool(), repair_plan() on its result, show the plan, repair_apply(). What
 * is changed is the two superblocks, and nothing else; how they were before is in a file beside
 * the pool. A new log goes to new frames at the file's end.
 */
#ifndef PHEAP_RECOVERY_REPAIR_H
#define PHEAP_RECOVERY_REPAIR_H

#include <stdbool.h>
#include <stdint.h>
#include "recovery/check/check.h"

struct repair_plan {
    bool writes_superblock; /* the one in force goes over the one that is not valid */
    bool trims;             /* the superblock counts frames that the file does not have */
    uint64_t file_frames, listed_frames;
    uint64_t gives_up[SUPERBLOCK_GENERATIONS]; /* numbers of generations that are not whole */
    uint32_t gives_up_count;
    bool renews_log;      /* a new log takes the old one's place, with what is whole of it: */
    uint64_t log_records; /* so many records are kept */
    uint64_t newest;      /* what is then the newest generation that is no crash image; 0: none */
    bool is_resumed;      /* a program goes on from it */
};

/*
 * 0, and *plan: it may be empty. STATUS_DAMAGED: nothing would be left, or what was found is
 * nothing that can be repaired. STATUS_IN_USE.
 */
MUST_CHECK int repair_plan(struct repair_plan *plan, const char *path,
                           const struct check_result *result, struct problem *why);

bool repair_is_needed(const struct repair_plan *plan);

/*
 * Saves the superblocks as `PATH.backup` (which must not exist: STATUS_REFUSED), applies the plan,
 * and returns 0 only if the pool then passes the checker, opens, loads, and a superblock can be
 * committed to it.
 */
MUST_CHECK int repair_apply(const struct repair_plan *plan, const char *path, struct problem *why);

/*
 * After repair_apply(): can the program, or who opens the heap, go on with what is now the newest
 * generation? Its spans, free runs and lists are walked as --check does it. STATUS_DAMAGED: no;
 * *why says so and what to do.
 */
MUST_CHECK int repair_judge_heap(const struct repair_plan *plan, const char *path,
                                 struct problem *why);

#endif
