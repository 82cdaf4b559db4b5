/*
 * hardened.h - the heap of a program that is being debugged or attacked: PHEAP_HARDEN=1, or
 * memcheck looking on. No call here takes a fast path: a thread has no thread heap, so malloc finds
 * no slab, and the spans are of kinds that free() does not know.
 *
 *   hardened slab    | table | guard |  blocks ...                      | guard |
 *   hardened large   | guard | block | canary to the end of the page    | guard |
 *
 * The table holds a word a block: never used, free, in quarantine, or in use with so many bytes
 * asked for. So nothing of the heap's state lies among the program's data. A block is taken at a
 * random place among those of the first slab of its class with a free one.
 *
 * What lies between a block's last byte asked for and the next block is the canary; it is looked at
 * when the block is freed. A freed block is filled and stays in quarantine until enough others have
 * come after it; the fill is looked at when it leaves, and again when it is handed out. A freed
 * large block cannot be touched at all while it is in quarantine.
 *
 * One lock for all. It is taken after those of thread heaps and before that of the spans.
 *
 * Under memcheck (HEAP_ANNOUNCED) blocks are announced to it instead: no guards, canaries or fill,
 * as it sees every access itself.
 */
#ifndef PHEAP_HEAP_HARDENED_H
#define PHEAP_HEAP_HARDENED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/status.h"
#include "core/heap/heap_format.h"

/* A heap nobody has allocated from yet becomes a hardened one. */
MUST_CHECK int hardened_start(struct heap *heap, enum heap_mode mode);

static inline bool heap_is_hardened(const struct heap *heap)
{
    return heap->mode != HEAP_PLAIN;
}

/* As heap_memalign; with is_zero the block is zeroed, and *is_zero set. */
void *hardened_alloc(struct heap *heap, size_t bytes, size_t align, bool *is_zero);

/* Both abort on what is no block; realloc of a foreign block gives NULL. */
void hardened_free(struct heap *heap, void *block);
void *hardened_realloc(struct heap *heap, void *block, size_t bytes);

/* What was asked for, exactly; 0 for what is no block in use. */
size_t hardened_usable_bytes(const struct heap *heap, const void *block);

/* Counts, lists and canaries of every slab; no other thread may be allocating. */
MUST_CHECK int validate_hardened(const struct heap *heap, struct problem *why);

#endif
