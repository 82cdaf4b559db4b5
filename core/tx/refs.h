/*
 * refs.h - which heaps are open in this process, for references between heaps: eight bytes of the
 * pool's uuid and an offset in its slot.
 *
 * No two open heaps lie in one slot, so each has an entry of its own and there is no lock.
 *
 * Thread safety: any thread, but that a heap is not closed while somebody follows references to it.
 */
#ifndef PHEAP_TX_REFS_H
#define PHEAP_TX_REFS_H

#include <stdint.h>

struct pheap;

/* The heap can be found from now on; and not any more. */
void refs_add(struct pheap *heap);
void refs_remove(const struct pheap *heap);

/* How references name the heap. */
uint64_t refs_pool(const struct pheap *heap);

/* Of the heap's data; 0: not in them. */
uint64_t refs_offset(const struct pheap *heap, const void *address);

/* The heap, or NULL: it is not open. */
struct pheap *refs_find(uint64_t pool);

/* The address, or NULL: the heap is not open, or has no such data. */
void *refs_follow(uint64_t pool, uint64_t offset);

#endif
