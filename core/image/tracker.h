/*
 * tracker.h - which pages may have changed: what is registered for write protection, and who has
 * to be asked how.
 *
 * A mapping is registered with userfaultfd as soon as it holds a page that an image must hold,
 * never before: a reservation of a terabyte costs nothing, a file mapping that is only read keeps
 * its fault-around. Nothing is remembered of registrations: a mapping that is new, moved,
 * grown, split or untracked by hand shows its pages in PAGEMAP_SCAN's "not WPALLOWED", and is
 * registered again. So whatever the program does, a page is either in a registered mapping, where
 * the kernel knows whether it was written, or seen as unregistered.
 *
 * Not registered: a read-only file mapping of which less than a quarter is anonymous; what the
 * kernel refuses (another userfaultfd has it). By checksums nothing is. The saved pages of these
 * are candidates each time ("untracked").
 *
 * By soft-dirty bits, where the kernel has no better, every mapping is tracked and none is
 * registered. The bits are those of the whole process, and reading them and clearing them is not
 * one step: a store in between would be lost. So they are cleared once a generation, inside the
 * freeze, when the cut has what they told (tracker_cut_done()); until then they only grow, and a
 * pre-copy round looks at all that was written since the last cut.
 *
 * tracker_each_group() walks the mappings that are saved, in ascending order, neighbours of one
 * sort in one group, so that a scan is one system call for many mappings. An untracked mapping is
 * a group of its own.
 */
#ifndef PHEAP_IMAGE_TRACKER_H
#define PHEAP_IMAGE_TRACKER_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/arena.h"
#include "core/base/kernel_features.h"
#include "core/base/status.h"
#include "core/image/maps.h"
#include "core/image/pagemap.h"

struct tracker {
    enum tracking way; /* never TRACKING_BEST */
    int uffd;          /* -1: none */
    struct pagemap pagemap;
    bool is_quick;                /* see changed.h */
    bool distrusts_marks;         /* pages may bear protection marks that do not hold */
    uint32_t *unregistered_pages; /* by mapping, of the space last prepared; 0: tracked */
    uint64_t untracked_pages;     /* the sum of what was left of these */
};

struct tracker_group {
    uint64_t start, end; /* addresses; holds no page of an excluded or unsaved mapping */
    enum page_backing backing;
    bool tracked;
    bool readable; /* PROT_READ throughout */
};

MUST_CHECK int tracker_open(struct tracker *tracker, struct arena *arena,
                            const struct kernel_features *features, enum tracking wanted);
void tracker_close(struct tracker *tracker);

/* Inside the freeze: the generation in progress has all that was found written. */
MUST_CHECK int tracker_cut_done(struct tracker *tracker);

/* Before each walk: looks for pages in unregistered mappings, and registers those. */
MUST_CHECK int tracker_prepare(struct tracker *tracker, const struct address_space *space);

typedef int tracker_visit(void *context, const struct tracker_group *group);
MUST_CHECK int tracker_each_group(const struct tracker *tracker, const struct address_space *space,
                                  tracker_visit *visit, void *context);

/* The same for groups of one backing each, tracked or not: fewer. */
MUST_CHECK int tracker_each_backing(const struct address_space *space, tracker_visit *visit,
                                    void *context);

/* Pages of [start, end) count as written from now on, and a store to one costs nothing more. False:
 * they stay as they are, since not all of the range is registered. */
bool tracker_unprotect(struct tracker *tracker, uintptr_t start, uintptr_t end);

/* Takes [start, end) out of the tracking. */
void tracker_unregister(struct tracker *tracker, uintptr_t start, uintptr_t end);

/* Whether an image holds pages of this mapping, and what backs absent ones. */
bool tracker_saves(const struct mapping *mapping, enum page_backing *backing);

#endif
