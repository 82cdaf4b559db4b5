/*
 * blocks.h - every block of a generation's heap: which are handed out, and which one an address is
 * in.
 *
 * Calling sequence: view_open(), block_map_build(), then the rest. Memory lies in the view's arena:
 * 16 bytes a slice and a bit a block.
 *
 * A block of an opened heap (core/tx) is in use if its note says so. Of a program's own heap it is
 * in use if it was carved and is in
 * none of the lists of free ones: its slab's own, what other threads gave back, and what they are
 * about to (a thread heap's batches and inbox).
 *
 * Blocks have numbers: ascending with the address, 0 to count - 1, gaps at what never was one.
 */
#ifndef PHEAP_RECOVERY_VIEW_BLOCKS_H
#define PHEAP_RECOVERY_VIEW_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/heap/heap_format.h"
#include "recovery/view/view.h"

#define BLOCK_CLASS_LARGE SIZE_CLASSES /* a span of its own */
#define BLOCK_CLASSES     (SIZE_CLASSES + 1)

#define BLOCK_UNIT 16u /* blocks begin at multiples of it */

struct span_note {            /* one a slice; the same in all slices of a span */
    uint64_t number;          /* of the span's first block */
    uint32_t slice;           /* the span's first */
    unsigned int start : 24;  /* its blocks begin so many BLOCK_UNITs after it */
    unsigned int class : 7;   /* BLOCK_CLASS_LARGE too */
    unsigned int is_used : 1; /* it has blocks */
};

_Static_assert(sizeof(struct span_note) == 16, "a note is 16 bytes");
_Static_assert(BLOCK_CLASS_LARGE < 128, "a class fits in a note");

struct block_map {
    struct view *view;
    const struct heap *heap;
    struct span_note *notes;
    uint32_t first_slice, top; /* slices with notes: [first_slice, top) */
    uint64_t *used;            /* a bit a block */
    uint64_t count;            /* of numbers */
    uint64_t used_count;
    uint64_t reciprocals[SIZE_CLASSES]; /* 2^40 / block bytes, rounded up */
    bool is_opened;                     /* spans are those of core/tx */
};

struct block {
    uint64_t address, bytes; /* bytes: usable */
    uint64_t number;
    uint64_t span_start, span_bytes;
    uint32_t class;
    bool is_used;
    bool has_type; /* of an opened heap: */
    uint32_t type;
    uint64_t asked; /* bytes */
};

/* Maps the heap, if it is not yet. */
MUST_CHECK int block_map_build(struct block_map *map, struct view *view, struct problem *why);

/* The same for who is going to change something by it: STATUS_DAMAGED, STATUS_IN_DOUBT as
 * opened_judge() says it (opened_heap.h). */
MUST_CHECK int block_map_build_whole(struct block_map *map, struct view *view, const char *not_done,
                                     struct problem *why);

/* Slices of the span that begins at this one; one without a span has 1. */
uint32_t block_map_span_slices(const struct block_map *map, uint32_t slice);
/* No span begins at this slice, but a run that is free. */
bool block_map_is_free(const struct block_map *map, uint32_t slice);
/* How many numbers its blocks have, gaps included. */
uint64_t block_map_span_numbers(const struct block_map *map, uint32_t slice);
/* Usable bytes of the one block of a large span, none beyond the span's end. */
uint64_t block_map_large_bytes(const struct block_map *map, uint32_t slice);

/* A map of a heap that cannot be walked: no address is in a block. */
void block_map_none(struct block_map *map, struct view *view);

/* The block, in use or not, that holds address. False: none does. */
bool block_map_find(const struct block_map *map, uint64_t address, struct block *out);

/* The block, in use or not, with this number. False: there is none. */
bool block_map_by_number(const struct block_map *map, uint64_t number, struct block *out);

static inline bool block_bit(const uint64_t *bits, uint64_t number)
{
    return bits[number / 64] >> number % 64 & 1;
}

/* All blocks whose bit in `bits` is set, ascending: map->used, or a part of it. visit returns false
 * to stop. */
typedef bool block_visit(void *context, const struct block *block);
void block_map_each(const struct block_map *map, const uint64_t *bits, block_visit *visit,
                    void *context);

/* The same by the map alone, whose heap and view may be gone: their addresses, which are all that
 * is known then. */
typedef bool block_address_visit(void *context, uint64_t address);
void block_map_each_address(const struct block_map *map, const uint64_t *bits,
                            block_address_visit *visit, void *context);

/* The number of the block that holds address, or BLOCK_NONE. */
#define BLOCK_NONE     UINT64_MAX
#define SLAB_SHIFT_MAX 21 /* SLAB_SLICES_MAX slices */
static inline uint64_t block_map_number(const struct block_map *map, uint64_t address)
{
    uint64_t slice = (address - (uint64_t)(uintptr_t)map->heap) >> SLICE_SHIFT;
    const struct span_note *note;
    uint64_t offset;

    if (slice - map->first_slice >= map->top - map->first_slice)
        return BLOCK_NONE;
    note = &map->notes[slice];
    if (!note->is_used)
        return BLOCK_NONE;
    offset = address - (uint64_t)(uintptr_t)map->heap - ((uint64_t)note->slice << SLICE_SHIFT) -
             (uint64_t)note->start * BLOCK_UNIT;
    if (note->class == BLOCK_CLASS_LARGE)
        return note->number;
    if (offset >> SLAB_SHIFT_MAX) /* before the first block */
        return BLOCK_NONE;
    return note->number + (offset * map->reciprocals[note->class] >> 40);
}

/* What a self-relative pointer (core/pheap.h) at this address leads to. Zeroes and small numbers
 * lead to where no heap is. */
static inline uint64_t block_self_relative(uint64_t place, uint64_t word)
{
    return place + (word ^ 1ull << 63);
}

struct class_table {
    uint64_t spans, span_bytes;
    uint64_t used, total; /* blocks */
    uint64_t used_bytes;
    uint64_t lowest, highest; /* addresses of blocks in use; 0: none */
};

/* Occupancy, by size class. */
void block_map_classes(const struct block_map *map, const uint64_t *bits,
                       struct class_table table[BLOCK_CLASSES]);

#endif
