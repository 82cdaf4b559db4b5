/*
 * log_place.h - the log's extents, and what reading and appending share. Internal to log.c and
 * log_append.c.
 */
#ifndef PHEAP_TX_LOG_PLACE_H
#define PHEAP_TX_LOG_PLACE_H

#include "core/tx/log.h"

static inline uint64_t log_extent_bytes(const struct log_place *place, uint32_t extent)
{
    return place->extents[extent].frames << FRAME_SHIFT;
}

/* In the file. */
static inline uint64_t log_offset(const struct log_place *place, uint32_t extent, uint64_t at)
{
    return (place->extents[extent].frame << FRAME_SHIFT) + at;
}

/* Writes the uuid where the checksum goes. */
uint64_t log_record_checksum(const struct log *log, struct log_record *record);

#endif
