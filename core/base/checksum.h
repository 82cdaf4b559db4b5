/*
 * checksum.h - the one checksum of pheap: XXH3, 64 bits, seed 0, of the xxHash library (inlined,
 * so that the preloaded library depends on libc alone).
 */
#ifndef PHEAP_BASE_CHECKSUM_H
#define PHEAP_BASE_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t checksum64(const void *data, size_t bytes);

/* The same, in a third of the time; only where the processor and the kernel have AVX2. */
uint64_t checksum64_wide(const void *data, size_t bytes);

#endif
