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

/* Of the entries; and of the header, with that and the uuid where the result goes: that of the
 * whole record. The first can be had before the record has a place. */
uint64_t log_body_checksum(const struct log_record *record);
uint64_t log_seal(const struct log *log, struct log_record *record, uint64_t body);

#endif
