/*
 * log_place.h - the log's extents, and what reading, appending and lanes share. Internal to log.c,
 * log_lanes.c, log_append.c and log_lane.c.
 */
#ifndef PHEAP_TX_LOG_PLACE_H
#define PHEAP_TX_LOG_PLACE_H

#include "core/tx/log.h"

static inline uint64_t log_extent_bytes(const struct log_place *place, uint32_t extent)
{
    return place->extents[extent].frames << FRAME_SHIFT;
}

static inline uint64_t log_frames(const struct log_place *place)
{
    uint64_t frames = 0;

    for (uint32_t i = 0; i < place->extent_count; i++)
        frames += place->extents[i].frames;
    return frames;
}

/* In the file. */
static inline uint64_t log_offset(const struct log_place *place, uint32_t extent, uint64_t at)
{
    return (place->extents[extent].frame << FRAME_SHIFT) + at;
}

/* Where a record may lie. */
struct log_spot {
    uint32_t extent;
    uint64_t at;
};

static inline struct log_spot log_spot(uint32_t extent, uint64_t at)
{
    return (struct log_spot){extent, at};
}

/* --- reading --- */

int log_read_at(const struct log *log, struct log_spot spot, void *buffer, uint64_t bytes);

/* The whole record that begins with this header; 0: there is none such. A writer may be at work
 * meanwhile, if this is a reader: the header too may be another then. */
int log_read_record(const struct log *log, struct log_spot spot, const struct log_record *header,
                    struct arena *arena, struct log_record **out);

/* 1: somewhere from `spot` up to `end`, but not in another whole record, there is a whole record of
 * which the test, by its header and the bytes up to `end`, says that it should not be there. */
typedef bool log_is_later(const struct log *log, const struct log_record *header, uint64_t room,
                          const void *context);
int log_look_through(struct log *log, struct log_spot spot, uint64_t end, log_is_later *is_later,
                     const void *context, struct arena *arena);

/* 1: the next record outside lanes, and where it lies; 0: none. */
int log_find(const struct log *log, struct arena *arena, struct log_spot *spot,
             struct log_record **out);
int log_pass(struct log *log, struct log_spot spot, const struct log_record *record,
             struct arena *arena);

/* Of a whole record that gives a lane; else NULL. */
static inline const struct log_lane_terms *log_terms_of(const struct log_record *record)
{
    const struct log_lane_terms *terms = (const struct log_lane_terms *)(record + 1);

    return record->entry_count == 0 && record->bytes == sizeof *record + sizeof *terms &&
                   __builtin_memcmp(terms->magic, LOG_LANE_TERMS_MAGIC, sizeof terms->magic) == 0
               ? terms
               : NULL;
}

/* --- lanes that are read: log_lanes.c --- */

/* As log_next(), of the log and all its lanes. */
int lanes_next(struct log *log, struct arena *arena, struct log_record **out);

/* A record has been passed that gives a lane, which lies at the spot. Negative: it cannot be read.
 */
int lanes_enter(struct log *log, const struct log_lane_terms *terms, struct log_spot spot,
                struct arena *arena);

/* There is a new session: nothing of the lanes comes any more. */
int lanes_close(struct log *log, struct arena *arena);

/* 1: a lane ends before a record that was written after more of it was durable. */
int lanes_break_off(struct log *log, struct arena *arena);

/* --- appending --- */

/* Under the lock. Space for so many bytes behind the last record, or at an extent's beginning. */
int log_make_room(struct log *log, uint64_t bytes, struct problem *why);

/* Under the lock. Where in the file log_make_room() finds them; 0: the log has to grow. */
uint64_t log_room_at(const struct log *log, uint64_t bytes);

/* Under the lock. The header, the checksum apart; `more` bytes behind it are left for a lane.
 * Returns where in the file the record goes. */
uint64_t log_place_record(struct log *log, struct log_record *record, uint64_t more);

/* On DAX, when it has a place: durable when this returns. */
void log_store_record(struct log *log, struct log_record *record, uint64_t body, uint64_t offset);

/* The record is durable: so are this many sequences behind it, which nobody has. */
void log_pass_over(struct log *log, const struct log_record *record, uint64_t count);

/* Never says the same twice. */
bool log_clock_is_fine(const struct log *log);

/* Lanes are given from here on: the pool's format is one that has them, and what is written is
 * mapped. */
bool log_may_give(const struct log *log);

/* Now, by the clock that orders records; not 0. */
uint64_t log_stamp(const struct log *log);

/* log_write() for who has this lane and does not use it now. */
int log_write_outside(struct log *log, struct log_lane *lane, struct log_record *record,
                      uint64_t *sequence, struct problem *why);

/* --- both --- */

/* Of the entries; and of the header, with that and the uuid where the result goes: that of the
 * whole record. The first can be had before the record has a place. */
uint64_t log_body_checksum(const struct log_record *record);
uint64_t log_seal(const struct log *log, struct log_record *record, uint64_t body);

#endif
