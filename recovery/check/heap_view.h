/*
 * heap_view.h - the memory of one slot in one generation, read from the pool's frames. Internal to
 * recovery/check.
 */
#ifndef PHEAP_RECOVERY_HEAP_VIEW_H
#define PHEAP_RECOVERY_HEAP_VIEW_H

#include "core/heap/heap.h"
#include "core/heap/heap_format.h"
#include "recovery/check/checking.h"

#define VIEW_CACHE_PAGES 64u

struct heap_view {
    struct checking *checking;
    uint32_t index; /* the generation's */
    uint64_t base;  /* of the slot */
    struct view_page {
        uint64_t page, frame;
    } * pages; /* ascending */
    uint64_t page_count, page_room;
    struct heap heap; /* the header; heap.c has checked its areas */
    uint64_t free_runs, free_slices;
    uint64_t cached[VIEW_CACHE_PAGES]; /* which page lies there; 0: none */
    uint8_t (*cache)[FRAME_BYTES];
};

/* -ENOMEM. To be closed in any case. */
MUST_CHECK int heap_view_open(struct heap_view *view, struct checking *checking, uint32_t index);
void heap_view_close(struct heap_view *view);

/* Bytes of the slot; what has no page reads as zero, what is outside the slot too. */
void heap_view_read(struct heap_view *view, void *out, size_t bytes, uint64_t address);

/* A finding at an address of the heap, or at a slice. Damage, except where said. */
void heap_tell(struct heap_view *view, enum finding_kind kind, uint64_t address,
               const char *expected, const char *found, ...) __attribute__((format(printf, 5, 6)));

static inline uint64_t view_slice_address(const struct heap_view *view, uint32_t slice)
{
    return view->base + ((uint64_t)slice << SLICE_SHIFT);
}

static inline struct span view_span(struct heap_view *view, uint32_t slice)
{
    struct span span;

    heap_view_read(view, &span, sizeof span,
                   view->base + SPANS_OFFSET + (uint64_t)slice * sizeof span);
    return span;
}

/* A lock at this address is held: a thread was changing what it guards when the generation was
 * cut. The thread goes on with that when it is resumed; until then it may look torn. */
bool view_is_locked(struct heap_view *view, uint64_t lock_address);

/* slabs.c: the descriptor of a slab, its free lists, its table. */
void check_slab(struct heap_view *view, uint32_t slice, const struct span *span);
void check_hard_slab(struct heap_view *view, uint32_t slice, const struct span *span);

/* heap.c: that the lock at this address is held by nobody, or by what may be a thread. */
void check_holder(struct heap_view *view, uint64_t lock_address);

/* profile.c: the tables of a profiled heap; heap.c has checked its other areas. -ENOMEM. */
MUST_CHECK int check_profile(struct heap_view *view);

/* opened.c: an opened heap, after its log if it has one. -ENOMEM. */
MUST_CHECK int check_opened_heap(struct heap_view *view, bool has_log);

#endif
