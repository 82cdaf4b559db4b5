/*
 * stage.h - pages on their way from memory to the pool: named, read, compared, written.
 *
 *     named      stage_add()      pages[read_count ..], content still in memory
 *     read       stage_read()     content copied into data
 *     compared   stage_compare()  what the index has already (by checksum) is dropped, zeroes go
 *                                 to the index as such, the rest moves together
 *     written    stage_write()    compared pages go to the pool in one piece
 *
 * Each page is in one of these states; the arrays below are in step: page i's content is at
 * data + i * 4096. A page whose content may have changed since it was added is not added again
 * before the stage is written: it would be compared with what the index is about to lose.
 */
#ifndef PHEAP_IMAGE_STAGE_H
#define PHEAP_IMAGE_STAGE_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/image/memory.h"
#include "core/pool/pool.h"

struct stage {
    struct pool *pool;
    uint8_t *data;
    uint64_t *pages;     /* with the flags of memory.h until they are compared */
    uint64_t *checksums; /* of compared pages */
    uint64_t limit;
    uint64_t compared;   /* pages [0, compared) */
    uint64_t read_count; /* pages [compared, read_count) */
    uint64_t named;      /* pages [read_count, named) */
    uint64_t touched;    /* pages of data that have memory */
};

MUST_CHECK int stage_create(struct stage *stage, struct arena *arena, struct pool *pool,
                            uint64_t limit);

static inline uint64_t stage_room(const struct stage *stage)
{
    return stage->limit - stage->named;
}

/* The caller has seen to room. */
static inline void stage_add(struct stage *stage, uint64_t page_and_flags)
{
    stage->pages[stage->named++] = page_and_flags;
}

/* Reads what is named. Pages that cannot be read are taken out and handed to unread. */
typedef int stage_unread(void *context, uint64_t page_and_flags);
MUST_CHECK int stage_read(struct stage *stage, struct memory *memory, stage_unread *unread,
                          void *context);

/* Compares what is read. */
MUST_CHECK int stage_compare(struct stage *stage);

/*
 * Compares one page, whose content is at data, with the index. 1: it differs and is to be written,
 * *checksum is its checksum; 0: the index knows it (now, if it is zero); or a negative status.
 */
MUST_CHECK int stage_compare_one(struct stage *stage, uint64_t page_and_flags, const void *data,
                                 uint64_t *checksum);

/* Whether a page whose content is at data is as the index's entry for it says. Changes nothing. */
bool stage_entry_shows(uint64_t page_and_flags, const struct index_entry *entry, const void *data);

/* Writes what is compared (everything must be). *bytes_written grows. */
MUST_CHECK int stage_write(struct stage *stage, uint64_t *bytes_written);

/* Forgets what is named and not read. */
void stage_forget_named(struct stage *stage);

/* Forgets everything. */
void stage_drop(struct stage *stage);

/* Makes the first pages of data present, so that the freeze does not pay for their first touch. */
void stage_prefault(struct stage *stage, uint64_t pages);

/* Gives back the memory of an empty stage, the first pages apart. */
void stage_trim(struct stage *stage, uint64_t pages);

#endif
