/*
 * frame.h - which frames of a pool are free, kept in memory, derived from the kept generations.
 *
 * A frame is in one of four states, as seen by the writer:
 *
 *     free        no kept generation refers to it; may be written
 *     building    taken for the generation in progress; nothing durable refers to it
 *     live        referred to by the memory that the next generation is built on
 *     dead(l)     replaced since: kept generations from its birth up to l may refer to it;
 *                 becomes free when none of those is kept any more
 *
 *     free -> building      [frames_take, frames_take_at]
 *     building -> free      [frames_release]: its page was written again before the commit
 *     building -> live      [frames_committed]
 *     live -> dead(l)       [frames_release], l being the newest durable generation
 *     dead(l) -> dead(k)    [frames_keep]: l was dropped, k is the newest kept one before it, and
 *                           the frame was born in k or before
 *     dead(l) -> free       [frames_keep]: l was dropped, and the frame is younger than that
 *
 * So a generation that is pinned, or mapped by a reader, for a long time holds its own frames and
 * no others.
 *
 * Worked example: N = 2, generation 1 pinned. Frame 70 is born in generation 2 and replaced while
 * 4 is built: dead(3). Commit 4 keeps {1, 3, 4}: it stays. Commit 5 keeps {1, 4, 5}: 3 is gone,
 * the newest kept one before 3 is 1, the frame is younger than 1: free.
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

/* All frames of the file are free at first, 0 and 1 apart. oldest: number of the oldest
 * generation that frames_note_first() will tell of. */
MUST_CHECK int frames_create(struct frames **out, struct arena *arena, struct persist *persist,
                             uint64_t oldest);

/*
 * How a pool that is opened for writing tells what its generations refer to (pool_load.c): first
 * every generation, oldest first, then the base with number 0 (its frames are live), then the
 * others, newest first, and frames_loaded() at the end. 0; 1 when this frame was told before in
 * the same pass; STATUS_DAMAGED when the file has no such frame. frames_forget() takes back what
 * the first pass noted for one generation (it turned out to be damaged).
 */
MUST_CHECK int frames_note_first(struct frames *frames, uint64_t frame, uint64_t number);
MUST_CHECK int frames_note_last(struct frames *frames, uint64_t frame, uint64_t number);
void frames_forget(struct frames *frames, uint64_t number);
void frames_loaded(struct frames *frames, uint64_t newest);

/*
 * Takes a run of up to want contiguous frames, grows the file if it must. *first and *got say
 * which (1 <= *got <= want); exact asks for all of them or -ENOSPC. Frames that are taken have
 * space on the disk.
 */
MUST_CHECK int frames_take(struct frames *frames, uint64_t want, bool exact, uint64_t *first,
                           uint64_t *got);

/* Takes this one frame: -EBUSY if it is not free, -EINVAL if the file has none such, -ENOSPC if it
 * is a hole and the disk is full. Never grows. */
MUST_CHECK int frames_take_at(struct frames *frames, uint64_t frame);

/*
 * The same (not exact) for pages that are not neighbours. As long as less than a quarter of the
 * file is free they take long runs too, and the file grows when there is none: the single frames
 * that such pages leave behind are where they will be brought back to (core/image/rewrite.h).
 * Beyond that, or on a full disk, short runs are used up first when long ones have become scarce:
 * those stay for records and nodes, and the file ends growing.
 */
MUST_CHECK int frames_take_scattered(struct frames *frames, uint64_t want, uint64_t *first,
                                     uint64_t *got);

/* The generation in progress no longer refers to frame. STATUS_DAMAGED, and no change, when the
 * frame is not in use (an index that names a frame twice). */
MUST_CHECK int frames_release(struct frames *frames, uint64_t frame);

/* Whether frame is building: it may be written again, since nothing durable refers to it. */
bool frames_is_building(const struct frames *frames, uint64_t frame);

/* Generation number is durable; building frames are live now. */
void frames_committed(struct frames *frames, uint64_t number);

/* Exactly these generations are kept, ascending. */
void frames_keep(struct frames *frames, const uint64_t *numbers, unsigned count);

/*
 * Gives space of long runs of free frames back to the file system, beyond `margin` free frames that
 * keep it. Only when no superblock leads to any free frame: after pool_drop() has rewritten both.
 * Returns how many frames lost their space; it is reserved anew when one is taken (frame_space.h).
 */
uint64_t frames_give_back(struct frames *frames, uint64_t margin);

uint64_t frames_count(const struct frames *frames); /* of the file */
uint64_t frames_free_count(const struct frames *frames);
bool frames_are_valid(const struct frames *frames);

#endif
