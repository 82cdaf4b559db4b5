/*
 * pool_log.h - the log's frames, as pool_load.c tells the frames of them. Internal to core/pool.
 */
#ifndef PHEAP_POOL_POOL_LOG_H
#define PHEAP_POOL_POOL_LOG_H

#include "core/pool/pool.h"

/* Before any generation is noted: the log's frames are live, for good. oldest: as in
 * frames_create(). STATUS_DAMAGED: two extents share a frame, or the file was cut short and has not
 * got all of them. */
MUST_CHECK int pool_note_log(struct pool *pool, uint64_t oldest);

/*
 * A log in new frames at the end of the file, durable and listed nowhere yet: *place. It has the
 * records that it is given, or none, and follows `generation`. An empty one begins with sequence 0,
 * so that who was promised a later record by this pool learns that it is gone.
 *
 * Crash: the file is longer, by frames that are free.
 */
#define POOL_LOG_BYTES (1ull << 20) /* at least; a power of two */
MUST_CHECK int pool_make_log(struct pool *pool, uint64_t generation,
                             const struct pool_new_log *from, struct log_place *place,
                             struct problem *why);

#endif
