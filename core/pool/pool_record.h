/*
 * pool_record.h - where a generation's record goes. Internal to core/pool.
 *
 * A record needs a run of frames in one piece. The run for the next one is put aside as soon as a
 * generation is durable, when the record that was dropped with an older generation has just left
 * one behind: later, on a full disk, pages may have used up all runs of that length.
 */
#ifndef PHEAP_POOL_RECORD_H
#define PHEAP_POOL_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include "core/pool/pool.h"

/* The next record will be about this long. Failing is no harm: the record then looks for itself. */
void pool_record_reserve(struct pool *pool, uint64_t record_bytes);

/* Writes a record and fills in the entry's record fields. *frames frames are taken then; also
 * after a failed write, for the caller to release. */
MUST_CHECK int pool_record_write(struct pool *pool, struct generation_entry *entry,
                                 const void *record, size_t record_bytes, uint64_t *frames);

#endif
