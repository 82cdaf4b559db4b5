/*
 * superblock.h - the pair of superblocks: read, judged, chosen, written. Internal to core/pool.
 */
#ifndef PHEAP_POOL_SUPERBLOCK_H
#define PHEAP_POOL_SUPERBLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/pool/format.h"
#include "core/pool/persist.h"

#define SUPERBLOCK_KEEP_MAX 16u

struct superblock_choice {
    struct superblock newest;
    struct generation_entry
        previous; /* newest one but crash images that the other superblock lists; number 0: none */
    bool fell_back; /* the other superblock is not valid */
};

/* Reads both and chooses the valid one with the higher sequence. STATUS_NOT_A_POOL,
 * STATUS_NEWER_FORMAT, STATUS_DAMAGED, -EIO. path is for messages. */
MUST_CHECK int superblock_read_pair(int fd, const char *path, struct superblock_choice *choice,
                                    struct problem *why);

/* The newest generation that is no crash image: what a pool must never be without. NULL: none. */
const struct generation_entry *superblock_newest_kept(const struct superblock *super);

/* Takes a generation out of the list. */
void superblock_unlist(struct superblock *super, uint64_t number);

/* Fills in magic, version and checksum. */
void superblock_seal(struct superblock *super);

/* Writes a sealed superblock to its place, sequence % 2. Not durable before persist_sync(). */
MUST_CHECK int superblock_write(struct persist *persist, const struct superblock *super);

/* Both superblocks of a new pool without generations, into frames 0 and 1. */
MUST_CHECK int superblock_format(struct persist *persist, const uint8_t uuid[16], uint32_t slot,
                                 uint32_t keep, uint64_t now_ns);

#endif
