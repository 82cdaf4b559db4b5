/*
 * heap_misuse.h - what a program does wrong to the heap, each in a child of its own: it must end by
 * SIGABRT with the expected text on stderr.
 */
#ifndef PHEAP_T_LIB_HEAP_MISUSE_H
#define PHEAP_T_LIB_HEAP_MISUSE_H

#include <stddef.h>

struct heap_misuse {
    void (*misuse)(void);
    const char *expected;
};

void heap_misuse_check(const struct heap_misuse *cases, size_t count);

#endif
