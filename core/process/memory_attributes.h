/*
 * memory_attributes.h - what madvise() and mlock() have set for mappings.
 *
 * Only /proc/PID/smaps tells, and reading it costs some 30 ms for each GiB that is present: too
 * much for a freeze. So it is read before the freeze, and read again inside only if the program
 * has changed such a setting in between: libpheap's madvise, mlock and so on count their calls in
 * struct memory_calls. Where reading takes long it is not done for each checkpoint, and then a
 * setting made by a raw system call is seen later; one of a mapping that is gone by the freeze is
 * never taken for another's unless that lies at the same place.
 */
#ifndef PHEAP_PROCESS_MEMORY_ATTRIBUTES_H
#define PHEAP_PROCESS_MEMORY_ATTRIBUTES_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/image/maps.h"

struct rebuild;
struct record_mapping;

/* Written by the program's calls, from any thread, read by the agent. */
struct memory_calls {
    uint32_t begun, ended; /* calls that set something; they differ while one is under way */
    uint32_t lock_future;  /* MCL_FUTURE, MCL_ONFAULT as mlockall() was last given them */
};

struct memory_attributes; /* what is known of all mappings; in the agent's arena */

struct memory_attributes *memory_attributes_create(struct arena *arena); /* or NULL */

/* Outside the freeze: reads what is set, if that may have changed. Failing makes it unknown. */
void memory_attributes_look(struct memory_attributes *known, const struct memory_calls *calls);
/* Inside: is what is known still so? If not it is read again. */
void memory_attributes_settle(struct memory_attributes *known, const struct memory_calls *calls);

/* enum record_memory_attributes of a mapping; 0: not known. */
uint32_t memory_attributes_of(const struct memory_attributes *known, const struct mapping *mapping);
/* What cannot be restored, in words, or NULL. */
const char *memory_attributes_obstacle(const struct memory_attributes *known,
                                       const struct mapping *mapping);

/* enum record_process_flags */
uint32_t memory_calls_flags(const struct memory_calls *calls);

/* MAP_* for anonymous memory; widened: it is made writable for a moment. */
uint64_t memory_attributes_flags(const struct record_mapping *mapping, bool widened);

#endif
