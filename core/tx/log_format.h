/*
 * log_format.h - the records of the redo log (docs/pool-format.md, "Log").
 */
#ifndef PHEAP_TX_LOG_FORMAT_H
#define PHEAP_TX_LOG_FORMAT_H

#include <stdbool.h>
#include <stdint.h>
#include "core/pool/format.h"

#define LOG_MAGIC      0x474c4850u /* "PHLG" */
#define LOG_LANE_MAGIC 0x4e4c4850u /* "PHLN": in a lane */
#define LOG_LANES      64u         /* numbers of lanes are below this */
#define LOG_LANE_LEAST 128u        /* bytes: no record with an entry is shorter */

struct log_record {
    uint32_t magic;
    uint32_t entry_count;
    uint64_t sequence; /* one more than the record before, and than what a lane that it gives takes;
                        * of a lane the first is 1 */
    uint64_t bytes;    /* this header included; a multiple of LOG_ALIGN */
    uint64_t previous; /* checksum of the record before the first of this session, or the root; 0 in
                        * a lane */
    uint64_t session;  /* random, the same for all records of one writer since its last cut; and for
                        * all of one lane */
    uint64_t durable;  /* all records up to this sequence were durable when this one was written */
    uint64_t
        stamp; /* when it was placed, ns of a clock of this session; 0: before all that have one */
    uint64_t checksum; /* of this header, with here that of the entries, xor the uuid's first 8 */
};

/*
 * PREPARE is the first entry of its record: the others count if the transaction commits, and from
 * the place in the log on where its OUTCOME stands. Their `address` is the transaction's number.
 */
enum log_entry_kind {
    LOG_ALLOC = 1,
    LOG_WRITE = 2,
    LOG_FREE = 3,
    LOG_PREPARE = 4,
    LOG_OUTCOME = 5,
};

enum log_outcome { LOG_COMMITTED = 1, LOG_UNDONE = 2 }; /* type of an OUTCOME */

struct log_entry {
    uint32_t kind;
    uint32_t type;
    uint64_t address;
    uint64_t bytes; /* of a write, or a promise: so many follow, and zeroes up to a multiple of 8 */
    uint32_t slice;
    uint32_t size_class;
};

/* What follows the header of a record without entries that gives a lane. The lane follows that. */
struct log_lane_terms {
    uint8_t magic[8];
    uint64_t session; /* of the lane's records */
    uint64_t bytes;   /* a multiple of LOG_ALIGN, not less than LOG_LANE_LEAST */
    uint64_t number; /* the lane that was given with the same number before gets no more records: */
    uint64_t before; /* so many it has, if it is of the same session; else 0 */
    uint64_t reserved[3];
};

#define LOG_LANE_TERMS_MAGIC "PHEAPLAN" /* 8 bytes, no NUL on media */

/* Sequences that no record outside lanes has, behind that of the record that gives the lane: as
 * many as the lane can hold records. So a record's sequence outside lanes is never less than how
 * many records were written before it, and a log that is written anew without lanes can be numbered
 * so that it never seems newer than it is. */
static inline uint64_t log_lane_sequences(const struct log_lane_terms *terms)
{
    return terms->bytes / LOG_ALIGN;
}

/* Does it lie within the `room` bytes behind the record that gives it? */
static inline bool log_lane_fits(const struct log_lane_terms *terms, uint64_t room)
{
    return terms->session != 0 && terms->number < LOG_LANES && terms->bytes % LOG_ALIGN == 0 &&
           terms->bytes >= LOG_LANE_LEAST && terms->bytes <= room;
}

/*
 * Who looks for records that should not be there reads what looks like one to see if it is whole.
 * What lies in a whole record is passed over; but in what is left of one that was written over,
 * what a program has stored may look like one at each 64th byte, and as long as it likes, so that
 * this would take hours: so much is read in vain, and then no more is looked for. After a crash
 * there are a few such, and no damage makes more.
 */
static inline bool log_may_look(uint64_t looked, uint64_t log_bytes)
{
    return looked / 32 <= log_bytes;
}

/* What follows a PREPARE: who decides. */
struct log_promise {
    uint8_t pool[16];  /* its uuid */
    uint64_t sequence; /* it has at least so many records */
    uint64_t reserved;
    char path[]; /* where it was then; with its NUL */
};

/* The record of one OUTCOME. */
struct outcome_record {
    _Alignas(LOG_ALIGN) struct log_record record;
    struct log_entry entry;
};

static inline struct outcome_record outcome_record_of(uint64_t id, enum log_outcome outcome)
{
    return (struct outcome_record){
        .record = {.bytes = sizeof(struct outcome_record), .entry_count = 1},
        .entry = {.kind = LOG_OUTCOME, .type = outcome, .address = id}};
}

_Static_assert(sizeof(struct outcome_record) == 2 * LOG_ALIGN, "an outcome is two cache lines");
_Static_assert(sizeof(struct log_lane_terms) == LOG_ALIGN, "a lane's terms are a cache line");
_Static_assert(sizeof(struct log_promise) == 32, "a promise's fixed part is 32 bytes");
_Static_assert(sizeof(struct log_record) == LOG_ALIGN, "a record's header is a cache line");
_Static_assert(sizeof(struct log_entry) == 32, "a log entry is 32 bytes");

#endif
