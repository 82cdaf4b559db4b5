/*
 * log_format.h - the records of the redo log (docs/pool-format.md, "Log").
 */
#ifndef PHEAP_TX_LOG_FORMAT_H
#define PHEAP_TX_LOG_FORMAT_H

#include <stdint.h>

#define LOG_MAGIC        0x4345525041454850ull /* "PHEAPREC" */
#define LOG_RECORD_ALIGN 64u                   /* where records begin: a cache line */

struct log_record {
    uint64_t magic;
    uint64_t sequence;
    uint64_t bytes;    /* this header included; a multiple of 8 */
    uint64_t previous; /* checksum of the record before, or the log's nonce */
    uint64_t session;
    uint64_t entry_count;
    uint64_t generation; /* that the log follows */
    uint64_t checksum;   /* of all bytes, with the uuid's first 8 here */
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

_Static_assert(sizeof(struct log_record) == 64, "a record's header is 64 bytes");
_Static_assert(sizeof(struct log_entry) == 32, "a log entry is 32 bytes");

#endif
