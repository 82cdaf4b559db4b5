/*
 * size_class.c - see size_class.h. Only slab creation and memalign come here.
 */
#include "core/heap/size_class.h"

#include "core/heap/heap_format.h"

uint32_t size_class_slab_slices(uint32_t size_class)
{
    uint32_t block_bytes = size_class_block_bytes(size_class);
    uint32_t slices = block_bytes <= SLICE_SLAB_BYTES + COLOUR_STEP ? 2 : 8;

    if (block_bytes <= SLICE_SLAB_BYTES)
        return 1;
    for (; slices < SLAB_SLICES_MAX; slices++) {
        uint32_t slab_bytes = slices * SLICE_BYTES;

        if (slab_bytes / block_bytes >= 4 && (slab_bytes % block_bytes) * 16 <= slab_bytes)
            break;
    }
    return slices;
}

uint32_t size_class_of_aligned(size_t bytes, size_t align)
{
    size_t rounded = (bytes + align - 1) & ~(align - 1);
    uint32_t size_class;

    if (rounded == 0)
        rounded = align;
    if (rounded > BLOCK_MAX_BYTES || align > SLICE_BYTES)
        return SIZE_CLASSES;
    size_class = size_class_of(rounded);
    if (align > COLOUR_STEP)
        size_class = size_class_bare(size_class);
    for (; size_class < SIZE_CLASSES; size_class++)
        if (size_class_block_bytes(size_class) % align == 0)
            break;
    return size_class;
}
