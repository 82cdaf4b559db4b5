/*
 * frame_space.h - which frames have space on the disk. Internal to frame.c.
 *
 * A pool is preallocated: a frame that is written to never fails for space, and a mapped one is
 * never beyond the file. But space can be given back: long runs of free frames become holes. A bit
 * for each MiB (granule) says that space may be missing there; it is reserved anew before a frame
 * of it is taken, so a full disk shows there, as it does when the file has to grow, and nowhere
 * else.
 *
 * Holes are not stored. When a pool is opened all of it is in doubt, unless the file has as many
 * blocks as it is long.
 */
#ifndef PHEAP_POOL_FRAME_SPACE_H
#define PHEAP_POOL_FRAME_SPACE_H

#include "core/pool/frame_map.h"
#include "core/pool/persist.h"

/* Of all frames that the map has now. */
void frame_space_doubt(struct frame_map *map);

/* Space for a run that is about to be taken. -ENOSPC and the like: nothing has changed. */
MUST_CHECK int frame_space_reserve(struct frame_map *map, struct persist *persist,
                                   struct frame_run run);

/*
 * Makes holes of whole granules that are free, beyond the first `margin` free frames that have
 * space. The caller knows that no superblock, in force or not, leads to a free frame. Returns how
 * many frames lost their space; where the file system cannot do it, 0.
 */
uint64_t frame_space_give_back(struct frame_map *map, struct persist *persist, uint64_t margin);

#endif
