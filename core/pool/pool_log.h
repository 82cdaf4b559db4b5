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

#endif
