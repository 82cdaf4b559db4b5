/*
 * log_format.h - the records of the redo log (docs/pool-format.md, "Log").
 */
#ifndef PHEAP_TX_LOG_FORMAT_H
#define PHEAP_TX_LOG_FORMAT_H

#include <stdint.h>
#include "core/pool/format.h"

#define LOG_MAGIC 0x474c4850u /* "PHLG" */

struct log_record {
    uint32_t magic;
    uint32_t entry_count;
    uint64_t sequence; /* one more than the record before */
    uint64_t bytes;    /* this header included; a multiple of LOG_ALIGN */
    uint64_t previous; /* checksum of the record before the first of this session, or the root */
    uint64_t session;  /* random, the same for all records of one writer since its last cut */
    uint64_t durable;  /* all records up to this sequence were durable when this one was written */
    uint64_t reserved; /* 0 */
    uint64_t checksum; /* of this header, with here that of the entries, xor the uuid's first 8 */
};

enum log_entry_kind { LOG_ALLOC = 1, LOG_WRITE = 2, LOG_FREE = 3 };

struct log_entry {
    uint32_t kind;
    uint32_t type;
    uint64_t address;
    uint64_t bytes; /* of a write: so many follow, and zeroes up to a multiple of 8 */
    uint32_t slice;
    uint32_t size_class;
};

_Static_assert(sizeof(struct log_record) == LOG_ALIGN, "a record's header is a cache line");
_Static_assert(sizeof(struct log_entry) == 32, "a log entry is 32 bytes");

#endif
