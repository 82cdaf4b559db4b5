/*
 * checking.h - a check in progress, and what its steps share. Internal to recovery/check.
 *
 * Rules for every step:
 *   1. a number that was read from the file is compared with what the file can hold before it is
 *      used as an offset, a count or an index;
 *   2. work is bounded by the file's size: a frame is walked in one meaning only, and once for
 *      each generation;
 *   3. a step reports and goes on with what is left; it fails only when this process cannot go on.
 */
#ifndef PHEAP_RECOVERY_CHECKING_H
#define PHEAP_RECOVERY_CHECKING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/pool/format.h"
#include "recovery/check/check.h"

/* What a frame is used for, as the first one to name it says. */
enum frame_role {
    ROLE_NONE,
    ROLE_PAGE,
    ROLE_NODE, /* plus its level, 0 to INDEX_LEVELS - 1 */
    ROLE_DELTA = ROLE_NODE + INDEX_LEVELS,
    ROLE_RECORD,
    ROLE_LOG,
};

/* position: the page; of a node the first page below it; of runs the run's first frame. */
struct frame_use {
    uint64_t checksum;
    uint64_t position;
    uint32_t generations; /* bit i: generation i of the superblock in force shows it */
    uint8_t role;
    bool is_bad; /* what it leads to is not looked at */
};

#define CHUNK_FRAMES 32768u

struct checking {
    const struct check_request *request;
    struct check_result *result;
    struct problem *why;
    int fd;
    uint64_t file_bytes;
    uint64_t frame_count; /* the superblock's, or the file's if that has fewer */
    struct superblock pair[2];
    int in_force;      /* 0 or 1 */
    uint32_t looks_at; /* bit i: generation i is looked at */
    struct frame_use **chunks;
    uint64_t chunk_count;
    uint64_t frames_used;
    int read_failed;      /* a status: why this process, not the file, could not go on */
    pthread_mutex_t lock; /* of the result and of `found` */
};

/* The steps, in their order. 0, or a negative status with why filled in. */
typedef int check_step(struct checking *checking);
check_step check_superblocks, check_generations, check_indexes, check_log, check_contents,
    check_records, check_heaps;

/* --- checking.c --- */

struct place place_at(uint64_t offset);
struct place place_of(uint64_t generation, uint64_t offset, uint64_t address);

/* Formats as printf does. */
void check_tell(struct checking *checking, enum finding_kind kind, enum severity severity,
                struct place place, const char *expected, const char *found, ...)
    __attribute__((format(printf, 6, 7)));

/* The generation with this index is not whole. */
void check_spoilt(struct checking *checking, uint32_t index);

/* Reads all or says no: -EIO for what lies beyond the end of the file as well. Any other error is
 * none of the file's, and ends the check: what could not be looked at is not called damaged. */
MUST_CHECK int check_read(struct checking *checking, void *buffer, uint64_t bytes, uint64_t offset);

static inline const struct generation_entry *check_entry(const struct checking *checking,
                                                         uint32_t index)
{
    return &checking->result->super.generations[index];
}

static inline bool check_looks_at(const struct checking *checking, uint32_t index)
{
    return index < checking->result->super.generation_count && checking->looks_at >> index & 1;
}

/* --- frames.c --- */

enum frame_claim {
    CLAIM_REFUSED, /* reported */
    CLAIM_NEW,     /* nobody has named it before */
    CLAIM_KNOWN,   /* the same has been said of it */
};

/* Generation `index` says that this frame is that; -ENOMEM, or an enum frame_claim. */
MUST_CHECK int frame_claim(struct checking *checking, uint32_t index, uint64_t frame, unsigned role,
                           uint64_t position, uint64_t checksum);

/* The same for a run; CLAIM_REFUSED if any of it is refused, else what its first frame is. */
MUST_CHECK int frame_claim_run(struct checking *checking, uint32_t index, uint64_t first,
                               uint64_t frames, unsigned role, uint64_t checksum);

/* A frame of the log, which no generation has. */
MUST_CHECK int frame_claim_log(struct checking *checking, uint64_t frame);

/* NULL: nobody has named it. */
struct frame_use *frame_use_of(const struct checking *checking, uint64_t frame);

/* All generations that show this frame are not whole. */
void frame_is_bad(struct checking *checking, uint64_t frame);

void frames_forget_all(struct checking *checking);

/* --- walk_index.c --- */

/* One page of a generation, as tree and deltas together say. A negative status stops the walk. */
typedef int check_visit_page(void *context, uint64_t page, struct index_entry entry);

/* Visits every page that has an entry: those of the tree first, ascending, then those of deltas.
 * With `claims` the frames of the index are claimed and what is wrong is reported, the first time
 * that it is met; without, they have been. */
MUST_CHECK int walk_index(struct checking *checking, uint32_t index, bool claims,
                          check_visit_page *visit, void *context);

/* --- deltas.c --- */

/* What a chain of deltas says together: ranges of pages, ascending, disjoint. */
struct overlay {
    struct overlay_range {
        uint64_t page, end;
        struct index_entry entry;
    } * ranges;
    uint64_t count;
};

/* Reads a generation's chain; on damage what could be read. Free ranges with free(). */
MUST_CHECK int overlay_read(struct checking *checking, uint32_t index, bool claims,
                            struct overlay *out);

#endif
