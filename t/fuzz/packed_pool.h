/*
 * packed_pool.h - a pool file as a fuzzer sees it: the pieces of it that are not zero.
 *
 *     offset 0   1  bit 0: checksums are made to fit what is there, as an enemy would
 *            1   1  not used
 *            2   2  frames of the file, at most PACKED_FRAMES_MAX
 *     then pieces: 2  frame, 2  offset in it, 2  length, the bytes
 *
 * Random bytes never get past a checksum, so the fitting is part of the input: any fuzzer, and the
 * replay, gets behind it without a mutator of its own. t/fuzz/pack.py makes such inputs of pools.
 */
#ifndef PHEAP_T_FUZZ_PACKED_POOL_H
#define PHEAP_T_FUZZ_PACKED_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKED_FRAMES_MAX 8192u

/* Writes the file; its path, the same each time, removed at exit. */
const char *packed_pool_write(const uint8_t *data, size_t size);

#endif
