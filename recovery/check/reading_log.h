/*
 * reading_log.h - the records of an opened heap's log, those in lanes too, in their order. Internal
 * to recovery/check.
 */
#ifndef PHEAP_RECOVERY_READING_LOG_H
#define PHEAP_RECOVERY_READING_LOG_H

#include "recovery/check/opened_model.h"

/* Of a record: which extent, and where in it. */
struct spot {
    uint32_t extent;
    uint64_t at;
};

/* A record that counts. */
struct log_ref {
    struct spot spot;
    uint64_t bytes, sequence;
    uint64_t era;    /* how many sessions came before its own */
    uint64_t stamp;  /* within that */
    uint64_t lane;   /* which, from 1 on; 0: outside lanes */
    uint64_t gives;  /* which lane; 0: none */
    uint64_t number; /* one more than the lane's; 0: outside lanes */
};

struct log_lane_end {
    uint64_t session, sequence; /* of its last record */
    struct spot spot;           /* behind that */
    uint64_t left, number;      /* bytes; as it was given */
    uint64_t era;               /* of the record that gave it */
    bool breaks_off;            /* it had more records */
};

struct reading_log {
    struct checking *checking;
    const struct log_place *place;
    uint32_t extent; /* where the next record outside lanes would lie */
    uint64_t used;
    uint32_t busy;                             /* extents with records of this log */
    uint64_t sequence, session, checksum, era; /* of the last record outside lanes */
    struct log_ref *refs;
    uint64_t count, room;
    struct log_lane_end *lanes;
    uint64_t lane_count;
    bool breaks_off; /* there were more, outside lanes or in one of them */
    bool breaks_off_outside;
    uint64_t looked;        /* log_may_look(); */
    bool gave_up;           /* it might not */
    uint64_t passed, bytes; /* by reading_log_next(), or all */
    int status;
};

/* Finds all records. To be ended, whatever status is then. */
struct reading_log reading_log_begin(struct checking *checking);
void reading_log_end(struct reading_log *log);

/* To be freed; NULL: there are no more, or log->status says why not. */
struct log_record *reading_log_next(struct reading_log *log);
static inline const struct log_ref *reading_log_last(const struct reading_log *log)
{
    return &log->refs[log->passed - 1];
}

/* Whole records that should not be there, since one before them is not: breaks_off is set, there
 * and in lanes. Where one is; false: there is none. */
bool reading_log_find_later(struct reading_log *log, struct spot *found);

/* How many records are before the first that is missing. */
uint64_t reading_log_count_whole(struct reading_log *log);

uint64_t reading_log_extent_bytes(const struct reading_log *log, uint32_t extent);
uint64_t reading_log_offset(const struct reading_log *log, struct spot spot);
int reading_log_bytes(const struct reading_log *log, struct spot spot, void *buffer,
                      uint64_t bytes);

#endif
