/*
 * memcheck.h - Valgrind's client requests, as far as the heap makes them: the same instruction
 * sequence and numbers as in Valgrind's own headers (valgrind.h, memcheck.h), which say that any
 * program may carry them. Outside Valgrind the sequence does nothing and gives 0.
 *
 * Requests are made only in a heap of mode HEAP_ANNOUNCED, that is under memcheck; other tools of
 * Valgrind see the program as it is.
 */
#ifndef PHEAP_HEAP_MEMCHECK_H
#define PHEAP_HEAP_MEMCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/heap/heap_format.h"

enum memcheck_request {
    MEMCHECK_MALLOCLIKE_BLOCK = 0x1301,         /* address, bytes, red zone bytes, is zeroed */
    MEMCHECK_FREELIKE_BLOCK = 0x1302,           /* address, red zone bytes */
    MEMCHECK_MAKE_MEM_NOACCESS = 0x4d430000,    /* address, bytes */
    MEMCHECK_MAKE_MEM_UNDEFINED = 0x4d430001,   /* address, bytes */
    MEMCHECK_MAKE_DEFINED_IF_ADDR = 0x4d43000b, /* address, bytes; -1 */
};

static inline uint64_t memcheck_ask(enum memcheck_request request, uint64_t first, uint64_t second,
                                    uint64_t third, uint64_t fourth)
{
    const volatile uint64_t arguments[6] = {(uint64_t)request, first, second, third, fourth, 0};
    uint64_t answer = 0;

    __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "+d"(answer)
                     : "a"(arguments)
                     : "cc", "memory");
    return answer;
}

/* Only memcheck knows this request. */
static inline bool memcheck_is_running(void)
{
    uint64_t word = 0;

    return memcheck_ask(MEMCHECK_MAKE_DEFINED_IF_ADDR, (uintptr_t)&word, sizeof word, 0, 0) != 0;
}

static inline void memcheck_block_made(const struct heap *heap, const void *block, size_t bytes,
                                       bool is_zero)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)memcheck_ask(MEMCHECK_MALLOCLIKE_BLOCK, (uintptr_t)block, bytes, 0, is_zero);
}

static inline void memcheck_block_freed(const struct heap *heap, const void *block)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)memcheck_ask(MEMCHECK_FREELIKE_BLOCK, (uintptr_t)block, 0, 0, 0);
}

/* Nobody may touch it until a block is announced there; or anybody may. */
static inline void memcheck_forbid(const struct heap *heap, uintptr_t start, uint64_t bytes)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)memcheck_ask(MEMCHECK_MAKE_MEM_NOACCESS, start, bytes, 0, 0);
}

static inline void memcheck_allow(const struct heap *heap, uintptr_t start, uint64_t bytes)
{
    if (heap->mode == HEAP_ANNOUNCED)
        (void)memcheck_ask(MEMCHECK_MAKE_MEM_UNDEFINED, start, bytes, 0, 0);
}

#endif
