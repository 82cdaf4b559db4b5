/*
 * size_class.h - the block sizes of slabs: 16-byte steps to 128, then eight a doubling up to
 * 64 KiB, so that at most an eighth of a block is lost to rounding. Larger requests are spans.
 *
 * Above 4 KiB a block is a line of the cache longer than that. If it were not, the blocks would all
 * begin in the same few lines of their pages, which share a place in the cache, and programs that
 * look at the beginnings of many, or go through several at once, would find none of them there.
 * Such a block is aligned to a line and no more, so each of these classes has one beside it that
 * goes without the line: memalign() takes them, and opened heaps, whose slabs begin with notes.
 *
 * Worked example: 1100 bytes. 1099 = 0b10001001011, its top bit is bit 10, the three bits behind
 * it are 000: class (10 - 7) * 8 + 8 + 0 = 32, block (8 + 0 + 1) << (10 - 3) = 1152 bytes.
 */
#ifndef PHEAP_HEAP_SIZE_CLASS_H
#define PHEAP_HEAP_SIZE_CLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAIN_CLASSES    80                               /* malloc's */
#define COLOURED_CLASS   48                               /* from here on, a line longer */
#define BARE_CLASSES     (PLAIN_CLASSES - COLOURED_CLASS) /* the same without the line */
#define SIZE_CLASSES     (PLAIN_CLASSES + BARE_CLASSES)
#define SMALL_MAX_BYTES  1024u        /* found by table, one entry a byte */
#define SLICE_SLAB_BYTES 8192u        /* up to here a slab is one slice */
#define BLOCK_MAX_BYTES  (64u * 1024) /* the most that is asked of a slab */
#define COLOUR_STEP      64u          /* a line of the cache */
#define COLOURS          64u          /* the lines of a page */

static inline uint32_t size_class_of(size_t bytes) /* 0 <= bytes <= BLOCK_MAX_BYTES */
{
    uint32_t last, top;

    if (bytes <= 128)
        return bytes == 0 ? 0 : (uint32_t)(bytes - 1) / 16;
    last = (uint32_t)bytes - 1;
    top = 31 - (uint32_t)__builtin_clz(last);
    return (top - 7) * 8 + (last >> (top - 3)); /* the top bit itself counts 8 */
}

/* Whether its blocks are a line longer than an eighth of a doubling would have them. */
static inline bool size_class_is_coloured(uint32_t size_class)
{
    return size_class >= COLOURED_CLASS && size_class < PLAIN_CLASSES;
}

/* Of a class of malloc's, the one without the line. */
static inline uint32_t size_class_bare(uint32_t size_class)
{
    return size_class_is_coloured(size_class) ? size_class + BARE_CLASSES : size_class;
}

static inline uint32_t size_class_block_bytes(uint32_t size_class)
{
    uint32_t line = size_class_is_coloured(size_class) ? COLOUR_STEP : 0, top, eighths;

    if (size_class < 8)
        return 16 * (size_class + 1);
    if (size_class >= PLAIN_CLASSES)
        size_class -= BARE_CLASSES;
    top = 7 + (size_class - 8) / 8;
    eighths = 8 + (size_class - 8) % 8 + 1;
    return (eighths << (top - 3)) + line;
}

/* The slices of a slab of this class: one for small blocks; two for those just above 8 KiB; else 8
 * to 32, the fewest that hold at least four blocks and waste at most a sixteenth. */
uint32_t size_class_slab_slices(uint32_t size_class);

/* The smallest class whose every block is aligned to align (a power of two, at most 64 KiB), or
 * SIZE_CLASSES if there is none. */
uint32_t size_class_of_aligned(size_t bytes, size_t align);

#endif
