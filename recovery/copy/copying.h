/*
 * copying.h - a copy in progress. Internal to recovery/copy.
 */
#ifndef PHEAP_RECOVERY_COPYING_H
#define PHEAP_RECOVERY_COPYING_H

#include "core/base/arena.h"
#include "core/pool/format.h"
#include "core/pool/index.h"
#include "recovery/copy/copy.h"

#define OUTPUT_FRAMES 256u

/* The new file, written from its start to its end. */
struct output {
    int fd;
    uint64_t next_frame;            /* of what is appended next */
    uint64_t flushed_frames;        /* of these all have been written */
    uint8_t (*frames)[FRAME_BYTES]; /* OUTPUT_FRAMES, those that have not */
};

/* A node that is in the new file, by its place in the tree. */
struct placed_node {
    uint64_t key; /* page and level; 0: unused */
    struct index_entry entry;
};

struct placed_nodes {
    struct placed_node *nodes;
    uint64_t room, count; /* room: a power of two, or 0 */
};

struct copying {
    const struct copy_request *request;
    struct problem *why;
    struct output output;
    uint64_t *moved; /* frame of the pool -> frame of the new file; 0: not copied yet */
    uint64_t moved_room;
    struct placed_nodes placed;
    struct arena arena;
    struct superblock super; /* the new one */
};

/* Appends a frame; says where it is. */
MUST_CHECK int output_append(struct output *output, const void *frame, uint64_t *where);
MUST_CHECK int output_flush(struct output *output);

/* copy_index.c: writes the tree of a generation whose pages have been copied. */
MUST_CHECK int copy_index(struct copying *copying, struct index_tree *tree,
                          struct index_entry *root);

/* copy_log.c: the log's records, sealed for the new pool's uuid; fills in the superblock's place of
 * it. */
MUST_CHECK int copy_log(struct copying *copying);

#endif
