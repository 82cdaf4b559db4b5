/*
 * hardened_slab.h - slabs of a hardened heap: tables, places, guard pages, canaries, fill. All
 * calls are made with the hardened heap's lock held, unless said otherwise.
 */
#ifndef PHEAP_HEAP_HARDENED_SLAB_H
#define PHEAP_HEAP_HARDENED_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/heap/hardened.h"

/* What follows a block's last byte at least. */
#define CANARY_BYTES 8
/* Non-canonical as a pointer: using one that was read from a freed block is a fault. */
#define FREED_FILL 0xdf

/* A place's word. From PLACE_USED on: in use, and word - PLACE_USED bytes were not asked for. */
enum hard_place {
    PLACE_FRESH = 0,
    PLACE_FREE = 1, /* was used before, and is filled */
    PLACE_QUARANTINED = 2,
    PLACE_USED = 3,
};

struct hard_table {
    uint32_t places, used, free; /* the others are in quarantine */
    uint32_t unused;
    uint16_t words[];
};

/* The table lies at the start of its slab. */
struct hard_table *hard_table(const struct heap *heap, const struct span *slab);

/* NULL: no memory. The slab is in the list of its class. */
struct span *hard_slab_create(struct heap *heap, uint32_t size_class);

/* Takes a block for `bytes` from a slab that has a free place. */
void *hard_slab_take(struct heap *heap, struct span *slab, size_t bytes);

/* A block in use goes into quarantine; one in quarantine is free again, and with the last one the
 * slab. */
void hard_slab_quarantine(struct heap *heap, struct span *slab, void *block);
void hard_slab_release(struct heap *heap, struct span *slab, void *block);

/* The place whose start the address is; UINT32_MAX if it is none. No lock needed. */
uint32_t hard_slab_place(const struct heap *heap, const struct span *slab, const void *address);
uint64_t hard_slab_blocks(const struct heap *heap, const struct span *slab);

/* Bytes asked for of the block at a place in use. */
size_t hard_place_bytes(const struct heap *heap, const struct span *slab, uint32_t place);

/* Makes the pages at `first` (0: none) and `last` untouchable, if there are mappings to be had; or
 * ordinary again. False: they are not, because there is a limit on writable memory. No lock needed.
 */
void hard_guard(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last);
bool hard_unguard(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last);

/* The canary in [block + bytes, end): written, or the first byte that is not as written. */
void hard_canary_write(const struct span *span, uintptr_t start, uintptr_t end);
const void *hard_canary_find_damage(const struct span *span, uintptr_t start, uintptr_t end);

uint64_t hard_random(struct heap *heap);

#endif
