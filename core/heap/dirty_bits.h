/*
 * dirty_bits.h - a bit a slice: may its memory be other than zero? See spans.c for what must be
 * true.
 */
#ifndef PHEAP_HEAP_DIRTY_BITS_H
#define PHEAP_HEAP_DIRTY_BITS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "core/heap/heap_format.h"

static inline uint8_t *dirty_byte(const struct heap *heap, uint32_t slice)
{
    return (uint8_t *)(uintptr_t)heap->dirty_bits.start + slice / 8;
}

static inline bool slice_is_dirty(const struct heap *heap, uint32_t slice)
{
    return __atomic_load_n(dirty_byte(heap, slice), __ATOMIC_RELAXED) >> (slice % 8) & 1;
}

/* A span's holder reads its own bits without the lock while others change their neighbours. */
static inline void dirty_set_one(struct heap *heap, uint32_t slice, bool dirty)
{
    uint8_t *byte = dirty_byte(heap, slice);
    uint8_t bit = (uint8_t)(1u << (slice % 8));

    __atomic_store_n(byte, (uint8_t)(dirty ? *byte | bit : *byte & ~bit), __ATOMIC_RELAXED);
}

static inline void dirty_set(struct heap *heap, uint32_t slice, uint32_t end, bool dirty)
{
    while (slice < end) {
        if (slice % 8 == 0 && end - slice >= 8) {
            uint32_t bytes = (end - slice) / 8;

            memset(dirty_byte(heap, slice), dirty ? 0xff : 0, bytes);
            slice += bytes * 8;
            continue;
        }
        dirty_set_one(heap, slice++, dirty);
    }
}

/* The next slice at or after `slice` whose dirty bit is `dirty`; end if there is none. */
static inline uint32_t dirty_find(const struct heap *heap, uint32_t slice, uint32_t end, bool dirty)
{
    const uint8_t none = dirty ? 0 : 0xff;

    while (slice < end) {
        if (slice % 8 == 0 && end - slice >= 8 && *dirty_byte(heap, slice) == none)
            slice += 8;
        else if (slice_is_dirty(heap, slice) == dirty)
            return slice;
        else
            slice++;
    }
    return end;
}

#endif
