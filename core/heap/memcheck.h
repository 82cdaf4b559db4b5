/*
 * memcheck.h - Valgrind's client requests, as far as the heap makes them.
 *
 * Requests are made only in a heap of mode HEAP_ANNOUNCED, that is under memcheck; other tools of
 * Valgrind see the program as it is.
 */
#ifndef PHEAP_HEAP_MEMCHECK_H
#define PHEAP_HEAP_MEMCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/valgrind.h"
#include "core/heap/heap_format.h"

enum memcheck_request {
    MEMCHECK_MALLOCLIKE_BLOCK = 0x1301,         /* address, bytes, red zone bytes, is zeroed */
    MEMCHECK_FREELIKE_BLOCK = 0x1302,           /* address, red zone bytes */
    MEMCHECK_MAKE_MEM_NOACCESS = 0x4d430000,    /* address, bytes */
    MEMCHECK_MAKE_MEM_UNDEFINED = 0x4d430001,   /* address, bytes */
    MEMCHECK_MAKE_DEFINED_IF_ADDR = 0x4d43000b, /* address, bytes; -1 */
};

/* Only memcheck knows this request. */
static inline bool memcheck_is_running(void)
{
    uint64_t word = 0;

    return valgrind_ask(MEMCHECK_MAKE_DEFINED_IF_ADDR, (uintptr_t)&word, sizeof word, 0, 0) != 0;
}

static inline void memcheck_block_made(const struct heap *heap, const void *block, size_t bytes,
                                       bool is_zero)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)valgrind_ask(MEMCHECK_MALLOCLIKE_BLOCK, (uintptr_t)block, bytes, 0, is_zero);
}

static inline void memcheck_block_freed(const struct heap *heap, const void *block)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)valgrind_ask(MEMCHECK_FREELIKE_BLOCK, (uintptr_t)block, 0, 0, 0);
}

/* Nobody may touch it until a block is announced there; or anybody may. */
static inline void memcheck_forbid(const struct heap *heap, uintptr_t start, uint64_t bytes)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)valgrind_ask(MEMCHECK_MAKE_MEM_NOACCESS, start, bytes, 0, 0);
}

static inline void memcheck_allow(const struct heap *heap, uintptr_t start, uint64_t bytes)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)valgrind_ask(MEMCHECK_MAKE_MEM_UNDEFINED, start, bytes, 0, 0);
}

#endif
