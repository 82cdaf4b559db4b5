/*
 * frame_map.h - one bit and one record a frame, in chunks, and the search for free runs. Internal
 * to frame.c.
 *
 * Chunks of 32,768 frames (128 MiB of pool) cost 260 KiB of arena each and never move, so the map
 * grows without copying; only the array of chunk pointers is doubled now and then. A search looks
 * at 64 frames at a time and skips chunks that are full: a 12 GB pool (3 M frames) is gone
 * through in some 20 us.
 */
#ifndef PHEAP_POOL_FRAME_MAP_H
#define PHEAP_POOL_FRAME_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"

#define CHUNK_FRAMES 32768u
#define CHUNK_WORDS  (CHUNK_FRAMES / 64)

#define GRANULE_FRAMES 256u /* 1 MiB: the unit of frame_space.h */
#define CHUNK_GRANULES (CHUNK_FRAMES / GRANULE_FRAMES)

/* Frame numbers fit the 32-bit links of dead lists: pools up to 16 TiB. */
#define FRAME_COUNT_LIMIT 0xfffffff0ull

struct frame_record { /* meaningful while the frame is not free */
    uint32_t born;    /* generation it was taken for, less frames.origin */
    uint32_t link; /* LINK_USED, LINK_NOTED, or (dead) the next frame of its list, 0 at the end */
};

#define LINK_USED  0xffffffffu /* building or live */
#define LINK_NOTED 0xfffffffeu /* while loading: first pass only, so far */

struct frame_chunk {
    uint64_t free_bits[CHUNK_WORDS];        /* 1: free */
    uint64_t doubtful[CHUNK_GRANULES / 64]; /* 1: space may be missing, see frame_space.h */
    struct frame_record records[CHUNK_FRAMES];
    uint32_t free_count;
};

/* free_count == number of bits set == sum of the chunks' free_count; no bit at or beyond count. */
struct frame_map {
    struct arena *arena;
    struct frame_chunk **chunks;
    uint32_t chunk_count, chunk_capacity;
    uint64_t count;
    uint64_t free_count;
};

struct frame_run {
    uint64_t first, length;
};

/* Appends frames, all free, until there are count. -ENOMEM, STATUS_LIMIT: nothing has changed. */
MUST_CHECK int frame_map_extend(struct frame_map *map, uint64_t count);

struct frame_record *frame_map_record(const struct frame_map *map, uint64_t frame);
bool frame_map_is_free(const struct frame_map *map, uint64_t frame);
void frame_map_set_free(struct frame_map *map, uint64_t frame);
void frame_map_set_used(struct frame_map *map, uint64_t frame);

/*
 * The first run of at least target free frames, looking from cursor to the end and then from the
 * start; if there is none, the longest one (length 0: nothing is free). Lengths are cut at want.
 */
struct frame_run frame_map_find(const struct frame_map *map, uint64_t cursor, uint64_t target,
                                uint64_t want);

/* The first run from frame `from` on that is shorter than `below`; length 0 if there is none. */
struct frame_run frame_map_find_short(const struct frame_map *map, uint64_t from, uint64_t below);

uint64_t frame_map_free_at_end(const struct frame_map *map); /* free frames the file ends with */
bool frame_map_is_valid(const struct frame_map *map);

#endif
