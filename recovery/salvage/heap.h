/*
 * heap.h - the heap of a salvaged image: mapped at its own address from a file that has the image's
 * pages, and its blocks, as far as descriptors make sense.
 */
#ifndef PHEAP_RECOVERY_SALVAGE_HEAP_H
#define PHEAP_RECOVERY_SALVAGE_HEAP_H

#include "recovery/salvage/salvage.h"
#include "recovery/view/blocks.h"

struct salvage_range { /* pages that follow each other, in address and file */
    uint64_t start, end;
    uint64_t offset; /* in the file */
};

struct salvage_heap {
    struct view view;
    struct block_map map; /* without slices if descriptors contradict each other */
    bool is_rough;        /* they do: blocks are those of single spans, and may be free */
    bool has_log;         /* was applied */
};

/* fd: the file of the ranges, which are ascending. 0; STATUS_NO_GENERATION: there is no heap in it;
 * -EEXIST: its place in memory is taken; -ENOMEM. To be closed in any case. */
MUST_CHECK int salvage_heap_open(struct salvage_heap *heap, const struct salvage *salvage,
                                 const struct salvage_image *image, int fd,
                                 const struct salvage_range *ranges, uint64_t count,
                                 struct problem *why);
void salvage_heap_close(struct salvage_heap *heap);

/* Ascending. Of a heap that is_rough, is_used says nothing for plain malloc's. */
void salvage_heap_each(const struct salvage_heap *heap, block_visit *visit, void *context);

#endif
