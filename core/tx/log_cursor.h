/*
 * log_cursor.h - the entries of a record, one after the other, of which nothing is trusted but that
 * `bytes` bytes are there. What an entry says is for the caller to check.
 */
#ifndef PHEAP_TX_LOG_CURSOR_H
#define PHEAP_TX_LOG_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/tx/log_format.h"

struct log_cursor {
    const uint8_t *at;
    uint64_t left, entries;
    bool broken; /* there is less than it says */
};

static inline void log_cursor_begin(struct log_cursor *cursor, const struct log_record *record)
{
    *cursor = (struct log_cursor){.at = (const uint8_t *)(record + 1),
                                  .left = record->bytes - sizeof *record,
                                  .entries = record->entry_count};
}

static inline bool log_entry_has_payload(const struct log_entry *entry)
{
    return entry->kind == LOG_WRITE || entry->kind == LOG_PREPARE;
}

/* NULL: there are no more, or it is broken. An entry's payload is there as a whole. */
static inline const struct log_entry *log_cursor_next(struct log_cursor *cursor)
{
    const struct log_entry *entry = (const struct log_entry *)cursor->at;
    uint64_t bytes = sizeof *entry;

    if (cursor->entries == 0 || cursor->broken)
        return NULL;
    cursor->broken = cursor->left < bytes ||
                     (log_entry_has_payload(entry) && entry->bytes > cursor->left - bytes);
    if (cursor->broken)
        return NULL;
    if (log_entry_has_payload(entry))
        bytes += (entry->bytes + 7) & ~7ull;
    cursor->broken = bytes > cursor->left;
    cursor->at += bytes;
    cursor->left -= bytes;
    cursor->entries--;
    return cursor->broken ? NULL : entry;
}

#endif
