/*
 * slab_shape.h - how a slab of an opened heap is cut: notes first, then blocks, each at a multiple
 * of 16.
 *
 * Worked example: class 3, 64 bytes, one slice. 65,536 / (64 + 8) = 910 blocks; their notes take
 * 7,280 bytes, a multiple of 16; 7,280 + 910 x 64 = 65,520, and 16 bytes are left.
 */
#ifndef PHEAP_TX_SLAB_SHAPE_H
#define PHEAP_TX_SLAB_SHAPE_H

#include <stdint.h>
#include "core/heap/size_class.h"
#include "core/tx/tx_format.h"

struct slab_shape {
    uint32_t slices;
    uint32_t block_bytes;
    uint32_t count;
    uint32_t blocks_offset; /* in the slab */
};

static inline struct slab_shape slab_shape_of(uint32_t size_class)
{
    uint32_t bare = size_class_bare(size_class);
    struct slab_shape shape = {.slices = size_class_slab_slices(bare),
                               .block_bytes = size_class_block_bytes(bare)};
    uint32_t bytes = shape.slices * SLICE_BYTES;

    shape.count = bytes / (shape.block_bytes + (uint32_t)sizeof(struct tx_note));
    shape.blocks_offset = (shape.count * (uint32_t)sizeof(struct tx_note) + 15) & ~15u;
    if (shape.blocks_offset + shape.count * shape.block_bytes > bytes)
        shape.count--;
    return shape;
}

#endif
