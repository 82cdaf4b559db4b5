/*
 * frame.h - which frames of a pool are free, kept in memory, derived from the kept generations.
 *
 * A frame is in one of four states, as seen by the writer:
 *
 *     free        no kept generation refers to it; may be written
 *     building    taken for the generation in progress; nothing durable refers to it
 *     live        referred to by the newest committed generation (and perhaps older ones)
 *     dead(n)     replaced when generation n was built: generations before n may refer to it;
 *                 becomes free when all kept generations have numbers >= n
 *
 *     free -> building      [frames_take]
 *     building -> free      [frames_release]: its page was written again before the commit
 *     building -> live      [frames_committed]
 *     live -> dead(n)       [frames_release], n being the generation in progress
 *     dead(n) -> free       [frames_drop_before]
 *
 * The generation in progress outlives a failed attempt: what was taken stays taken, and the next
 * attempt goes on from there.
 *
 * Thread safety: one user at a time. Crash guarantee: nothing here is stored; a frame that a
 * durable superblock leads to is never handed out by frames_take().
 */
#ifndef PHEAP_POOL_FRAME_H
#define PHEAP_POOL_FRAME_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/pool/persist.h"

struct frames; /* defined in frame.c; lives in the arena given to frames_create() */

/* All frames of the file are free at first, 0 and 1 apart. */
MUST_CHECK int frames_create(struct frames **out, struct arena *arena, struct persist *persist);

/* While a pool is opened for writing: frame is live, or dead since generation died_at (0: live). */
MUST_CHECK int frames_mark(struct frames *frames, uint64_t frame, uint64_t died_at);
bool frames_is_marked(const struct frames *frames, uint64_t frame);

/*
 * Takes a run of up to want contiguous frames, grows the file if it must. *first and *got say
 * which (1 <= *got <= want); exact asks for all of them or -ENOSPC.
 */
MUST_CHECK int frames_take(struct frames *frames, uint64_t want, bool exact, uint64_t *first,
                           uint64_t *got);

/* The generation in progress no longer refers to frame. */
MUST_CHECK int frames_release(struct frames *frames, uint64_t frame);

/* Generation number is durable; building frames are live now. */
void frames_committed(struct frames *frames, uint64_t number);

/* All kept generations have numbers >= oldest. */
void frames_drop_before(struct frames *frames, uint64_t oldest);

uint64_t frames_free_count(const struct frames *frames);
bool frames_are_valid(const struct frames *frames);

#endif
