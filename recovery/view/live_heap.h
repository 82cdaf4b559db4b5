/*
 * live_heap.h - what the heap of a running program holds, looked at from outside.
 *
 * Calling sequence: live_heap_open(), live_heap_look() as often as one likes, live_heap_close().
 *
 * The program is neither stopped nor asked nor written to: its descriptors are copied out of its
 * memory (process_vm_readv) while it changes them. So a look is as good as a look can be: a
 * descriptor that makes no sense at that moment is passed over, and blocks of a slab that its
 * thread allocates from are counted by a list that may change meanwhile. Nothing that was read is
 * used before it was checked.
 *
 * It is the malloc heap of the slot. A heap that programs open by path has no such descriptors:
 * STATUS_UNSUPPORTED.
 *
 * Errors: -EPERM where the kernel or Yama forbids reading that process, -ESRCH when it is gone,
 * STATUS_DAMAGED when there is no heap of this version. Not thread safe.
 */
#ifndef PHEAP_RECOVERY_VIEW_LIVE_HEAP_H
#define PHEAP_RECOVERY_VIEW_LIVE_HEAP_H

#include <stdbool.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/heap/size_class.h"

#define LIVE_CLASSES (SIZE_CLASSES + 1) /* the last: large blocks */

struct live_class {
    uint64_t spans, span_bytes;
    uint64_t used, used_bytes; /* blocks handed out; their usable bytes */
};

struct live_figures {
    struct live_class classes[LIVE_CLASSES];
    uint64_t used, used_bytes, span_bytes;
    uint64_t committed_bytes, free_bytes; /* readable and writable; in free spans */
    uint64_t thread_heaps;
    uint64_t uncounted_slabs; /* taken for full: there were too many to count their free blocks */
    /* Since the first look, never less than before. Seen: what one look had and the one before had
     * not, so that a block that came and went in between is in neither. */
    uint64_t seen_allocated_bytes, seen_freed_bytes;
    /* PHEAP_PROFILE: all that was ever allocated, estimated from the samples; else 0. */
    uint64_t sampled_bytes, rate_bytes;
};

struct live_span; /* what a look found in a slice */

struct live_heap {
    int pid;
    uint64_t base;       /* of the slot */
    uint64_t room;       /* slices that there is memory for */
    void *header, *slab; /* copies: one page, the largest slab */
    void *spans;         /* copies of descriptors */
    struct live_span *now, *before;
    uint64_t looks, seen_allocated_bytes, seen_freed_bytes;
    uint64_t list_bytes; /* of slabs copied by this look */
};

MUST_CHECK int live_heap_open(struct live_heap *heap, int pid, uint32_t slot);
MUST_CHECK int live_heap_look(struct live_heap *heap, struct live_figures *out,
                              struct problem *why);
/* On a struct that is all zero too. */
void live_heap_close(struct live_heap *heap);

#endif
