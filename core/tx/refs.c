/*
 * refs.c - see refs.h. True always: an entry whose number is not 0 has a heap; it is set last and
 * cleared first.
 */
#include "core/tx/refs.h"

#include <stddef.h>
#include <string.h>
#include "core/heap/heap.h"
#include "core/tx/opened.h"

#define PLACES 64u /* slots have lower numbers */

static uint64_t pools[PLACES];
static struct pheap *heaps[PLACES];

static uint32_t place_of(const struct pheap *heap)
{
    return (uint32_t)((heap->memory.base - SLOTS_START) / SLOT_BYTES) % PLACES;
}

uint64_t refs_pool(const struct pheap *heap)
{
    uint64_t pool;

    memcpy(&pool, heap->pool.super.uuid, sizeof pool);
    return pool;
}

void refs_add(struct pheap *heap)
{
    uint32_t place = place_of(heap);

    __atomic_store_n(&heaps[place], heap, __ATOMIC_RELEASE);
    __atomic_store_n(&pools[place], refs_pool(heap), __ATOMIC_RELEASE);
}

void refs_remove(const struct pheap *heap)
{
    uint32_t place = place_of(heap);

    if (__atomic_load_n(&heaps[place], __ATOMIC_ACQUIRE) != heap)
        return; /* it was not loaded */
    __atomic_store_n(&pools[place], 0, __ATOMIC_RELEASE);
    __atomic_store_n(&heaps[place], NULL, __ATOMIC_RELEASE);
}

struct pheap *refs_find(uint64_t pool)
{
    for (uint32_t place = 0; pool != 0 && place < PLACES; place++)
        if (__atomic_load_n(&pools[place], __ATOMIC_ACQUIRE) == pool)
            return __atomic_load_n(&heaps[place], __ATOMIC_ACQUIRE);
    return NULL;
}

static uint64_t data_bytes(const struct pheap *heap)
{
    return (uint64_t)__atomic_load_n(&heap->memory.slices, __ATOMIC_ACQUIRE) << SLICE_SHIFT;
}

uint64_t refs_offset(const struct pheap *heap, const void *address)
{
    uint64_t offset = (uintptr_t)address - heap->memory.base;

    return offset >= (uint64_t)TX_DATA_SLICE * SLICE_BYTES && offset < data_bytes(heap) ? offset
                                                                                        : 0;
}

void *refs_follow(uint64_t pool, uint64_t offset)
{
    const struct pheap *heap = refs_find(pool);
    void *address = heap ? (void *)(heap->memory.base + offset) : NULL;

    return heap && refs_offset(heap, address) == offset && offset != 0 ? address : NULL;
}
