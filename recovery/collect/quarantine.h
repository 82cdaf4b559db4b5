/*
 * quarantine.h - POOL.quarantine: the blocks of a program's heap that nothing led to when it was
 * last looked at, and what was in them (docs/pool-format.md). A block that is found so again, later
 * in the same run, unchanged, may be freed.
 *
 * Reading: quarantine_open(), quarantine_has() with ascending addresses, quarantine_close().
 * Writing: quarantine_begin(), quarantine_add(), and quarantine_finish() in any case.
 *
 * The file is as hostile as the pool: one that is another user's, damaged, of another pool or of
 * another run is none.
 */
#ifndef PHEAP_RECOVERY_QUARANTINE_H
#define PHEAP_RECOVERY_QUARANTINE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/pool.h"

#define QUARANTINE_MAGIC   0x6175717061656870ull /* "pheapqua" */
#define QUARANTINE_VERSION 1u
#define QUARANTINE_PART    4096u /* entries that are added to the checksum at a time */

struct quarantine_head {
    uint64_t magic;
    uint32_t version;
    uint32_t reserved;
    uint8_t pool[16];              /* its uuid */
    uint64_t run_first_generation; /* as the superblock has it */
    uint64_t generation;           /* that was looked at, or has what was freed of it */
    uint64_t count;                /* of entries */
    uint64_t checksum;             /* of the entries, and of all that is before */
};

struct quarantine_entry { /* ascending by address */
    uint64_t address, bytes;
    uint64_t identity; /* of its slab; 0: a span of its own */
    uint64_t checksum; /* of its content */
};

_Static_assert(sizeof(struct quarantine_head) == 64, "as drawn");
_Static_assert(sizeof(struct quarantine_entry) == 32, "as drawn");

struct quarantine {
    const struct quarantine_head *head; /* NULL: there is none */
    const struct quarantine_entry *next, *end;
    uint64_t bytes; /* of the file */
};

/* One that is not there or not valid is none: no error. */
MUST_CHECK int quarantine_open(struct quarantine *quarantine, const struct pool *pool,
                               struct problem *why);
void quarantine_close(struct quarantine *quarantine);

/* Addresses ascend from call to call. entry->checksum is not looked at unless all else is the same;
 * content: entry->bytes of them. */
bool quarantine_has(struct quarantine *quarantine, const struct quarantine_entry *entry,
                    const void *content);

struct quarantine_writing {
    int fd, failed;
    char temporary[4096 + 64], name[4096 + 16];
    struct quarantine_head head;
    uint64_t sum;  /* of the entries that were written */
    uint32_t held; /* entries of `part` */
    struct quarantine_entry part[QUARANTINE_PART];
};

/* What is put into head: generation. */
void quarantine_begin(struct quarantine_writing *writing, const struct pool *pool,
                      uint64_t generation);
void quarantine_add(struct quarantine_writing *writing, const struct quarantine_entry *entry);

/*
 * Durable when it returns 0. Without an entry there is no file. After a failure the one before is
 * there.
 *
 * Crash: the file before, or this one.
 */
MUST_CHECK int quarantine_finish(struct quarantine_writing *writing, struct problem *why);

#endif
