/*
 * heap_model.h - random calls of a malloc family against an interval map: blocks in address order,
 * each filled with a byte of its own. Finds blocks that overlap, that somebody else wrote to, that
 * are smaller or less aligned than asked for, that calloc did not clear, that realloc lost.
 *
 * The threads of a round share the map, so that they free and change each other's blocks; the
 * calls under test are made outside its lock. Every round has new threads, and `between` is called
 * when they have ended.
 */
#ifndef PHEAP_T_LIB_HEAP_MODEL_H
#define PHEAP_T_LIB_HEAP_MODEL_H

#include <stddef.h>
#include <stdint.h>

struct heap_calls {
    void *(*malloc)(size_t bytes);
    void *(*calloc)(size_t count, size_t bytes);
    void *(*realloc)(void *block, size_t bytes);
    void *(*memalign)(size_t align, size_t bytes);
    void (*free)(void *block);
    size_t (*usable_bytes)(const void *block);
};

/* heap.h's own. */
extern const struct heap_calls heap_model_calls;

struct heap_model {
    const struct heap_calls *calls;
    uint32_t threads, rounds;
    uint32_t steps;      /* of one thread in one round */
    uint32_t blocks_max; /* at most 4096 */
    uint64_t seed;
    void (*between)(void); /* or NULL */
};

/* How many checks failed; the first ones are noted. No block is left. */
uint64_t heap_model_run(const struct heap_model *model);

#endif
