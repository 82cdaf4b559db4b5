/*
 * stacks.h - allocation stacks as rows: JSON with estimated bytes and blocks and named frames, and
 * the same for a person.
 *
 * Calling sequence: stacks_open() on a view whose block map is built; stacks_rows() as often as
 * wanted; stacks_close() before view_close().
 */
#ifndef PHEAP_TOOLS_STACKS_H
#define PHEAP_TOOLS_STACKS_H

#include <jansson.h>
#include "recovery/view/profile.h"
#include "recovery/view/unwind.h"
#include "tools/inspect.h"

struct stacks {
    struct profile_reading reading;
    struct unwinder *unwinder; /* NULL: no profile */
    const struct block_map *map;
};

/* reading.rate_bytes is 0 if the heap was not profiled. Without libdw frames have no names, and
 * stderr says so. */
MUST_CHECK int stacks_open(struct stacks *stacks, struct view *view, const struct block_map *map,
                           struct problem *why);
/* The same for a view that shows more than stacks: a profile that makes no sense is said on stderr,
 * and is none. */
MUST_CHECK int stacks_open_beside(struct inspection *inspection, struct stacks *stacks,
                                  struct view *view, const struct block_map *map,
                                  struct problem *why);
void stacks_close(struct stacks *stacks);

/* Rows of the stacks that have allocated blocks of `bits`, most bytes first: "bytes", "blocks"
 * (estimated), "samples", "allocated_by" (the innermost function), "frames". */
json_t *stacks_rows(const struct stacks *stacks, const uint64_t *bits);

/* One stack's frames, the innermost first; and its innermost function as text. */
json_t *stacks_frames(const struct stacks *stacks, uint32_t stack);
json_t *stacks_site(const json_t *frames);

/* At most `limit` of them, a line and the frames each. */
void stacks_print(const struct inspection *inspection, const json_t *rows, uint64_t limit);
/* A stack's frames below something else. */
void stacks_print_frames(const json_t *frames);

/* "function" or, without a name, "module+0x12" or "0x7f..." as a JSON string's text. buffer: 300
 * bytes; returned. */
const char *stacks_function(char buffer[300], const json_t *frame);

#endif
